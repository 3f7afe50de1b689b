"""The planner: it can only tighten, and what it refuses it explains."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condor_isolation import ads, messages, planner, records

REPO = Path(__file__).resolve().parents[2]
WRAPPER = REPO / "wrappers" / "job-wrapper"
UID, GIDS = 1000, [1000, 2000]

THREE_ROOTS = (
    "root EL8 /chroots/el8 ro",
    "root EL9 /chroots/el9 ro",
    "root EL9-test /chroots/el9-test rw",
)


def policy(*lines):
    """Return a policy that holds LINES; the planner leaves the rest to the helper."""
    text = "\n".join(["condor-isolation policy 1", *lines, f"end {len(lines)} 0"]) + "\n"
    return planner.Policy(text.encode())


def plan(lines, job, machine="Memory = 1024\nCpus = 2\n", uid=UID, gids=GIDS):
    """Return the plan for the job ad JOB under the policy LINES."""
    job_ads = ads.JobAds(job.encode(), machine.encode, "")
    result = planner.plan_or_refusal(policy(*lines), job_ads, uid, gids)
    records.encode("plan", result)  # which raises unless the helper can take it
    return result


def refusal(lines, job, **more):
    """Return message id and text of the refusal of the job ad JOB."""
    result = plan(lines, job, **more)
    assert [record[0] for record in result] == ["refuse"], result
    _refuse, fault, ident, text = result[0]
    assert fault == messages.BY_ID[ident][2] == "job"
    assert text.startswith(ident + ": ")
    assert len(text) <= planner.TEXT_BYTES_MAX
    return ident, text


def expr(word, text):
    return f"expr {word} {records.quote(text)}"


# Chroot


def test_a_job_that_asks_for_nothing_gets_an_empty_plan():
    assert plan(THREE_ROOTS, 'Cmd = "/bin/true"\n') == []


def test_a_job_gets_the_chroot_that_it_names():
    assert plan(THREE_ROOTS, 'RequestedChroot = "EL9"\n') == [["root", "EL9"]]


def test_the_attribute_name_does_not_mind_case():
    assert plan(THREE_ROOTS, 'REQUESTEDCHROOT = "EL8"\n') == [["root", "EL8"]]


@pytest.mark.parametrize("nothing", ['""', "undefined", "UNDEFINED"])
def test_an_empty_request_is_none(nothing):
    assert plan(THREE_ROOTS, f"RequestedChroot = {nothing}\n") == []


@pytest.mark.parametrize(
    "name",
    [
        "EL",
        "EL9-",
        "el9",
        "EL9 ",
        " EL9",
        "EL9,EL8",
        "EL9 /chroots/el9",
        "EL9 /chroots/el9 ro",
        "/chroots/el9",
        "../el9",
        "EL9/../EL8",
        ".",
        "EL.",
        "%",
        "E" * 5000,
        "ÉL9",
        "EL9\r",
    ],
)
def test_a_name_that_is_not_exactly_one_of_the_policy_is_refused(name):
    ident, text = refusal(THREE_ROOTS, f'RequestedChroot = "{name}"\n')
    assert ident == "CI-021"
    assert "EL8, EL9, EL9-test" in text


def test_an_unknown_chroot_is_told_with_what_was_asked_and_what_to_type():
    _ident, text = refusal(THREE_ROOTS, 'RequestedChroot = "SL6"\n')
    assert 'asks for chroot "SL6"' in text
    assert 'type +RequestedChroot = "EL8"' in text


def test_only_chroots_that_the_user_may_use_are_offered():
    lines = (*THREE_ROOTS, "root-user EL8 0", "root-group EL9 4")
    _ident, text = refusal(lines, 'RequestedChroot = "SL6"\n')
    assert "offers EL9-test:" in text


def test_a_machine_without_chroots_says_to_leave_the_attribute_out():
    _ident, text = refusal((), 'RequestedChroot = "EL9"\n')
    assert "leave RequestedChroot out" in text


def test_a_refusal_takes_no_longer_with_thousands_of_access_lists():
    lines = [f"root R{i:04} /r/{i} ro" for i in range(4096)]
    lines += [f"root-user R{i:04} {uid}" for i in range(4096) for uid in range(1, 4)]
    before = time.process_time()
    _ident, text = refusal(lines, 'RequestedChroot = "SL6"\n')
    assert time.process_time() - before < 2
    assert "offers none to this user" in text


def test_the_list_of_offered_chroots_is_bounded():
    lines = [f"root R{i:04} /r/{i} ro" for i in range(1000)]
    _ident, text = refusal(lines, 'RequestedChroot = "SL6"\n')
    assert "R0000, R0001" in text
    assert "R0999" not in text


@pytest.mark.parametrize("value", ["9", "true", "9.0", "error", '{ "EL9" }', "1/0", "(", '"EL9'])
def test_a_chroot_that_is_no_string_is_refused(value):
    ident, text = refusal(THREE_ROOTS, f"RequestedChroot = {value}\n")
    assert ident == "CI-026"
    assert "RequestedChroot" in text


def test_a_chroot_may_be_a_job_expression():
    assert plan(THREE_ROOTS, 'V = 9\nRequestedChroot = strcat("EL", V)\n') == [["root", "EL9"]]


def test_a_user_on_the_access_list_gets_the_chroot():
    lines = (*THREE_ROOTS, "root-user EL9 999", "root-user EL9 1000")
    assert plan(lines, 'RequestedChroot = "EL9"\n') == [["root", "EL9"]]


def test_a_member_of_a_listed_group_gets_the_chroot():
    lines = (*THREE_ROOTS, "root-user EL9 999", "root-group EL9 2000")
    assert plan(lines, 'RequestedChroot = "EL9"\n') == [["root", "EL9"]]


@pytest.mark.parametrize(
    "entry", ["root-user EL9 100", "root-user EL9 10000", "root-group EL9 200", "root-user EL9 0"]
)
def test_a_user_who_is_not_on_the_access_list_is_refused(entry):
    ident, text = refusal((*THREE_ROOTS, entry), 'RequestedChroot = "EL9"\n')
    assert ident == "CI-022"
    assert 'uid 1000 may not use chroot "EL9"' in text
    assert "EL8, EL9-test" in text


def test_a_uid_on_the_list_is_no_gid_and_a_gid_no_uid():
    ident, _text = refusal((*THREE_ROOTS, "root-user EL9 2000"), 'RequestedChroot = "EL9"\n')
    assert ident == "CI-022"
    lines = (*THREE_ROOTS, "root-group EL9 1001")
    ident, _text = refusal(lines, 'RequestedChroot = "EL9"\n', uid=1001)
    assert ident == "CI-022"


def test_the_access_list_of_another_chroot_does_not_count():
    lines = (*THREE_ROOTS, "root-user EL9-test 999", "root-user EL8 999")
    assert plan(lines, 'RequestedChroot = "EL9"\n') == [["root", "EL9"]]


def test_a_forced_chroot_is_for_every_job():
    lines = (*THREE_ROOTS, "root-forced EL9")
    assert plan(lines, "A = 1\n") == [["root", "EL9"]]
    assert plan(lines, 'RequestedChroot = "EL9"\n') == [["root", "EL9"]]


def test_another_than_the_forced_chroot_is_refused():
    ident, text = refusal((*THREE_ROOTS, "root-forced EL9"), 'RequestedChroot = "EL8"\n')
    assert ident == "CI-021"
    assert "offers EL9:" in text


def test_a_forced_chroot_has_its_access_list_all_the_same():
    lines = (*THREE_ROOTS, "root-forced EL9", "root-user EL9 0")
    assert refusal(lines, "A = 1\n")[0] == "CI-022"


def test_the_policy_expression_chooses_instead_of_the_attribute():
    lines = (*THREE_ROOTS, expr("chroot", 'strcat("EL", TARGET.WantOS)'))
    assert plan(lines, 'WantOS = 9\nRequestedChroot = "EL8"\n') == [["root", "EL9"]]


@pytest.mark.parametrize("text", ["TARGET.WantOS", '""', "undefined"])
def test_an_expression_without_a_value_means_no_chroot(text):
    assert plan((*THREE_ROOTS, expr("chroot", text)), 'RequestedChroot = "EL8"\n') == []


@pytest.mark.parametrize("text", ["9", "error", "TARGET.A / 0", "TARGET.A", "(((", "{ 1 }"])
def test_an_expression_that_gives_no_name_is_refused_with_its_knob(text):
    ident, message = refusal((*THREE_ROOTS, expr("chroot", text)), "A = 1\n")
    assert ident == "CI-027"
    assert "ISOLATION_CHROOT" in message


def test_an_expression_can_name_nothing_that_the_policy_does_not_list():
    lines = (*THREE_ROOTS, expr("chroot", "TARGET.WantOS"))
    assert refusal(lines, 'WantOS = "/chroots/el9"\n')[0] == "CI-021"


# Limits


@pytest.mark.parametrize(
    ("limit", "text", "value"),
    [
        ("memory-max", "1", 1 << 20),
        ("memory-high", "100.5", 105381888),
        ("swap-max", "0", 0),
        ("pids-max", "10", 10),
        ("pids-max", "10.9", 10),
        ("cpu-max", "1.5", 1500),
        ("cpu-max", "0.01", 10),
        ("cpu-weight", "10000", 10000),
    ],
)
def test_an_attribute_is_in_the_units_of_the_knob(limit, text, value):
    job = f"{planner.attribute_of(limit)} = {text}\n"
    assert plan((), job) == [["limit", limit, str(value)]]


def test_each_limit_has_an_attribute_named_like_its_knob():
    assert planner.attribute_of("memory-high") == "IsolationMemoryHigh"
    assert planner.knob_of("memory-high") == "ISOLATION_MEMORY_HIGH"
    assert set(planner.UNITS) == set(records.LIMIT_WORDS)


def test_all_limits_can_be_asked_for_at_once():
    ceilings = [f"limit {limit} {1 << 40}" for limit in records.LIMIT_WORDS]
    job = "".join(f"{planner.attribute_of(limit)} = 9\n" for limit in records.LIMIT_WORDS)
    assert [record[1] for record in plan(ceilings, job)] == list(records.LIMIT_WORDS)


def test_the_policy_alone_makes_no_record():
    assert plan(("limit pids-max 500",), "A = 1\n") == []


def test_asking_for_just_the_ceiling_makes_no_record():
    assert plan(("limit pids-max 500",), "IsolationPidsMax = 500\n") == []


@pytest.mark.parametrize("limit", records.LIMIT_WORDS)
def test_more_than_the_ceiling_is_refused_with_both_numbers(limit):
    unit = planner.UNITS[limit][0]
    job = f"{planner.attribute_of(limit)} = 51\n"
    ident, text = refusal((f"limit {limit} {50 * unit}",), job)
    assert ident == "CI-024"
    assert f"{planner.attribute_of(limit)} = 51" in text
    assert "ceiling here is 50" in text


def test_a_byte_over_the_ceiling_is_over_it():
    assert refusal(("limit memory-max 1048577",), "IsolationMemoryMax = 1.000002\n")[0] == "CI-024"


@pytest.mark.parametrize(
    "value",
    [
        '"100"',
        "true",
        "-1",
        "-0.5",
        "0",
        "0.5",
        "error",
        "{ 1 }",
        "1/0",
        "TARGET.Nope * 2",
        "2K",
        "99999999999999999999",
        "1e400",
        "1.0e300",
        'real("NaN")',
        "(",
        "",
    ],
)
def test_an_attribute_that_is_no_good_number_is_refused(value):
    ident, text = refusal((), f"IsolationPidsMax = {value}\n")
    assert ident == "CI-026"
    assert "IsolationPidsMax" in text


@pytest.mark.parametrize("limit", ["cpu-weight", "cpu-max"])
def test_what_the_kernel_would_not_take_is_refused(limit):
    value = {"cpu-weight": "10001", "cpu-max": "0.009"}[limit]
    assert refusal((), f"{planner.attribute_of(limit)} = {value}\n")[0] == "CI-026"


def test_an_undefined_attribute_is_none():
    assert plan((), "IsolationPidsMax = undefined\n") == []


def test_memory_protection_cannot_be_taken_where_the_policy_gives_none():
    assert refusal((), "IsolationMemoryLow = 1\n")[0] == "CI-024"
    assert plan(("limit memory-low 2097152",), "IsolationMemoryLow = 1\n") == [
        ["limit", "memory-low", "1048576"]
    ]


def test_an_expression_limits_every_job():
    lines = (expr("memory-high", "MY.Memory * 0.5"),)
    assert plan(lines, "A = 1\n") == [["limit", "memory-high", str(512 << 20)]]


@pytest.mark.parametrize(("asked", "given"), [(10, 10), (300, 200)])
def test_the_tighter_of_expression_and_attribute_counts(asked, given):
    lines = (expr("pids-max", "100 * MY.Cpus"),)
    assert plan(lines, f"IsolationPidsMax = {asked}\n") == [["limit", "pids-max", str(given)]]


def test_the_tightest_of_several_expressions_counts():
    lines = (expr("pids-max", "300"), expr("pids-max", "200"), expr("pids-max", "400"))
    assert plan(lines, "A = 1\n") == [["limit", "pids-max", "200"]]


def test_an_expression_over_the_ceiling_is_the_ceiling():
    lines = ("limit pids-max 500", expr("pids-max", "TARGET.Many"))
    assert plan(lines, "Many = 1000000\n") == []


def test_an_attribute_over_the_ceiling_is_refused_though_an_expression_is_under_it():
    lines = ("limit pids-max 500", expr("pids-max", "100"))
    assert refusal(lines, "IsolationPidsMax = 501\n")[0] == "CI-024"


@pytest.mark.parametrize(
    "text", ["undefined", "error", "TARGET.Nope", '"100"', "-1", "0", "true", "1 +", "TARGET.Text"]
)
def test_an_expression_that_gives_no_good_number_is_refused_with_its_knob(text):
    ident, message = refusal((expr("pids-max", text),), 'Text = "x"\n')
    assert ident == "CI-027"
    assert "ISOLATION_PIDS_MAX" in message


def test_a_machine_ad_that_cannot_be_used_refuses_the_job():
    def machine():
        raise ads.AdError(".machine.ad is not a regular file")

    lines = (expr("pids-max", "MY.Cpus * 100"),)
    job_ads = ads.JobAds(b"A = 1\n", machine, "")
    [record] = planner.plan_or_refusal(policy(*lines), job_ads, UID, GIDS)
    assert record[:3] == ["refuse", "job", "CI-025"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=1200))
def test_whatever_is_asked_for_the_plan_is_one_that_the_helper_can_take(text):
    body = text.replace("\n", " ")
    plan(THREE_ROOTS, f"RequestedChroot = {body}\nIsolationCpuMax = {body}\n")
    plan(THREE_ROOTS, f'RequestedChroot = "{body}"\nIsolationCpuMax = "{body}"\n')


@given(st.integers(0, 1000), st.one_of(st.integers(-5, 2000), st.floats(-5, 2000)))
def test_no_plan_is_above_the_policy(ceiling, asked):
    result = plan((f"limit pids-max {ceiling}",), f"IsolationPidsMax = {asked!r}\n")
    assert all(int(record[2]) < ceiling for record in result if record[0] == "limit")


# Policy


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"condor-isolation policy 1\n",
        b"condor-isolation policy 2\nend 0 0\n",
        b"condor-isolation plan 1\nend 0 0\n",
        b"condor-isolation policy 1\nroot EL9 /x ro\n",
        b"condor-isolation policy 1\nroot EL9 /x ro\nend 1 0",
        b"condor-isolation policy 1\nend 0 0\nroot EL9 /x ro\n",
    ],
)
def test_a_policy_without_its_first_or_last_line_is_none(data):
    with pytest.raises(records.RecordError):
        planner.Policy(data)


def test_a_record_is_found_by_whole_words_only():
    some = policy("root EL9x /x ro", "root-user EL9 1", "expr chroot root%20EL9%20y")
    assert list(some.rows("root EL9")) == []


def test_a_record_behind_the_end_line_does_not_count():
    data = b"condor-isolation policy 1\nroot A /a ro\nend 1 0 root EL9\n"
    assert [row[0] for row in planner.Policy(data).rows("root")] == ["A"]


# As the helper runs it


def run(directory, policy_lines, *arguments):
    """Run the job wrapper in DIRECTORY as the helper does."""
    text = "\n".join(["condor-isolation policy 1", *policy_lines, f"end {len(policy_lines)} 0", ""])
    command = [sys.executable, "-I", "-S", str(WRAPPER), *(arguments or ["plan"])]
    return subprocess.run(
        command, input=text.encode(), cwd=directory, env={}, capture_output=True, check=False
    )


def test_the_wrapper_writes_a_whole_plan(tmp_path):
    (tmp_path / ".job.ad").write_text('RequestedChroot = "EL9"\nIsolationPidsMax = 70\n')
    done = run(tmp_path, THREE_ROOTS)
    assert (done.returncode, done.stderr) == (0, b"")
    assert records.decode("plan", done.stdout) == [["root", "EL9"], ["limit", "pids-max", "70"]]


def test_the_wrapper_needs_no_machine_ad_for_literals(tmp_path):
    (tmp_path / ".job.ad").write_text("IsolationPidsMax = 70\n")
    (tmp_path / ".machine.ad").symlink_to("/dev/zero")
    assert run(tmp_path, ()).returncode == 0


@pytest.mark.parametrize("kind", ["missing", "fifo", "symlink", "directory", "binary", "big"])
def test_a_job_ad_that_cannot_be_used_is_a_refusal(tmp_path, kind):
    ad = tmp_path / ".job.ad"
    if kind == "fifo":
        os.mkfifo(ad)
    elif kind == "symlink":
        ad.symlink_to("/proc/self/environ")
    elif kind == "directory":
        ad.mkdir()
    elif kind == "binary":
        ad.write_bytes(b"A = 1\n\0\xff")
    elif kind == "big":
        ad.write_bytes(b"A = 1\n" * 1_000_000)
    done = run(tmp_path, THREE_ROOTS)
    [record] = records.decode("plan", done.stdout)
    assert record[:3] == ["refuse", "job", "CI-025"]


def test_a_machine_ad_that_is_a_fifo_refuses_the_job(tmp_path):
    (tmp_path / ".job.ad").write_text("A = 1\n")
    os.mkfifo(tmp_path / ".machine.ad")
    [record] = records.decode("plan", run(tmp_path, (expr("pids-max", "MY.Cpus"),)).stdout)
    assert record[:3] == ["refuse", "job", "CI-025"]


def test_a_malformed_policy_is_no_plan(tmp_path):
    (tmp_path / ".job.ad").write_text("A = 1\n")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(WRAPPER), "plan"],
        input=b"rubbish\n",
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == b""
    assert b"RecordError" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["/bin/sh"], ["plan", "x"], ["Plan"]])
def test_the_wrapper_run_by_anyone_else_says_who_runs_it(tmp_path, arguments):
    done = run(tmp_path, (), *arguments)
    assert done.returncode == 1
    assert b"USER_JOB_WRAPPER" in done.stderr
    assert done.stdout == b""


def test_files_of_the_job_are_not_imported(tmp_path):
    for name in ("posix.py", "condor_isolation.py", "records.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')\n")
    (tmp_path / ".job.ad").write_text("A = 1\n")
    assert run(tmp_path, ()).returncode == 0


def test_a_plain_job_costs_no_more_than_our_own_modules(tmp_path):
    (tmp_path / ".job.ad").write_text('RequestedChroot = "EL9"\n')
    code = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1])\n"
        "from condor_isolation import planner; planner.main()\n"
        "print(sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    text = "condor-isolation policy 1\nroot EL9 /x ro\nend 1 0\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(REPO)],
        input=text.encode(),
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    ours = ["condor_isolation", *(f"condor_isolation.{m}" for m in ("ads", "planner", "records"))]
    assert done.stderr.decode().strip() == repr(["__future__", *ours])
