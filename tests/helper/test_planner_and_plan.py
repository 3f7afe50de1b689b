"""The planner decides, but it is believed nothing: its plan can only make things tighter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from condor_isolation import records

from . import policy as policies
from .conftest import (
    CALL,
    TINY,
    assert_refused,
    ended_well,
    line_of,
    processes_of_jobs,
    wait_until,
)
from .starter import ALICE, GROUPS, MARK, WRAPPER
from .test_policy_file import body_of, signed

ROOTS = [("tiny", str(TINY), "ro")]
LIMITS = [("pids-max", "100"), ("memory-max", str(1 << 30))]
REAL = [("/usr/bin/python3", WRAPPER)]


def told(run_job, code, **how):
    """Return the last line that planner CODE writes to stderr, before it fails."""
    result = run_job(["/bin/true"], planner=code + "\nos._exit(1)\n", **how)
    line = assert_refused(result, "CI-012", "the planner exited with status 1")
    return line.split("status 1: ", 1)[1].rsplit("; look at", 1)[0]


# What the planner gets


def test_the_planner_runs_as_the_jobs_user_without_any_right(run_job):
    code = """import os
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
show = [os.getresuid(), os.getresgid(), sorted(os.getgroups())]
show += [status[k].strip() for k in ('CapPrm', 'CapEff', 'CapBnd', 'NoNewPrivs')]
os.write(2, repr(show).encode())"""
    zero = "0" * 16
    expected = [(ALICE,) * 3, (ALICE,) * 3, sorted(GROUPS), zero, zero, zero, "1"]
    assert told(run_job, code) == repr(expected)


def test_the_planner_gets_a_clean_environment_and_the_scratch_directory(run_job):
    code = """import os, sys
os.environ.pop('LC_CTYPE', None)  # Python's own
os.write(2, repr([dict(os.environ), os.getcwd().rpartition('/')[2], sys.argv[1:],
                  sys.flags.isolated, sys.flags.no_site,
                  os.path.exists('.job.ad')]).encode())"""
    env = {"LD_PRELOAD": "/tmp/evil.so", "PYTHONPATH": "/tmp", "PYTHONINSPECT": "1"}
    seen = told(run_job, code, env=env)
    assert seen == repr([{"PATH": "/usr/bin:/bin"}, "scratch", ["plan"], 1, 1, True])


def test_the_planner_reads_the_very_policy_and_holds_nothing_else(run_job):
    code = """import os
policy = os.read(0, 1 << 20)
fds = sorted(int(fd) for fd in os.listdir('/proc/self/fd'))
os.write(2, repr([policy[:25], fds[:4][:3], os.path.lexists('/proc/self/fd/9'),
                  os.read(0, 1)]).encode())"""

    def leak():
        os.dup2(0, 9)

    seen = told(run_job, code, before_exec=leak)
    assert seen == repr([b"condor-isolation policy 1", [0, 1, 2], False, b""])


def test_the_planner_cannot_write_the_policy(run_job):
    code = """import errno, os
try:
    os.write(0, b'x')
except OSError as error:
    os.write(2, errno.errorcode[error.errno].encode())"""
    assert told(run_job, code) == "EBADF"


def test_the_planner_has_bounded_memory_time_files_and_output(run_job):
    code = """import os, resource
os.write(2, repr([resource.getrlimit(getattr(resource, 'RLIMIT_' + name))[0]
                  for name in ('AS', 'CPU', 'FSIZE', 'NOFILE', 'CORE')]).encode())"""
    assert told(run_job, code) == repr([1 << 30, 20, 0, 64, 0])


def test_the_planner_has_the_machines_view_and_cannot_change_it(run_job):
    code = f"""{CALL}
os.write(2, repr([os.path.exists('/etc/condor-isolation'),
                  call('mount', b'none', b'/tmp', b'tmpfs', 0, None),
                  call('unshare', 0x00020000)]).encode())"""
    assert told(run_job, code) == repr([True, "EPERM", "EPERM"])


def test_the_planner_has_ordinary_signals_whatever_the_job_was_given(run_job):
    code = """import os
status = dict(line.split(':', 1) for line in open('/proc/self/status'))
os.write(2, repr([int(status['SigBlk'], 16), int(status['SigIgn'], 16)]).encode())"""
    seen = told(run_job, code, blocked=[15, 17], ignored=[13, 17])
    blocked, ignored = seen.strip("[]").split(",")
    assert int(blocked) == 0
    assert int(ignored) & 1 << 16 == 0, "it could not wait for a child"


def test_the_job_reads_nothing_of_the_planner(run_job):
    """What the planner writes to stderr is not the job's."""
    code = "import os; os.write(2, b'noise')\n"
    planner = code + policies.planner_that_writes(records.encode("plan", []))
    result = run_job(["/bin/cat"], planner=planner, stdin=b"input")
    assert (result.stdout, result.stderr) == (b"input", b"")


# A planner that fails


@pytest.mark.parametrize("status", [1, 2, 96, 255])
def test_a_planner_that_fails_stops_the_job_and_its_last_words_are_told(run_job, status):
    code = f"import os\nos.write(2, b'first\\nlast word\\n\\n')\nos._exit({status})"
    result = run_job(["/bin/true"], planner=code)
    assert_refused(result, "CI-012", f"exited with status {status}: last word; ")


def test_a_planner_that_raises_is_told_by_its_exception(run_job):
    result = run_job(["/bin/true"], planner="raise ValueError('odd job')")
    assert_refused(result, "CI-012", "ValueError: odd job")


def test_a_planner_that_crashes_stops_the_job(run_job):
    result = run_job(["/bin/true"], planner="import ctypes; ctypes.string_at(8)")
    assert_refused(result, "CI-012", "ended by signal 11")


@pytest.mark.parametrize("number", [9, 15])
def test_a_planner_that_is_killed_stops_the_job(start_job, number):
    job = start_job(["/bin/true"], planner="import signal, time; time.sleep(60)")
    planner = wait_for_planner()
    os.kill(planner, number)
    if number == 15:  # as process 1 of its namespace it need not care
        os.kill(planner, 9)
    assert_refused(job.wait(5), "CI-012", "ended by signal 9")


def wait_for_planner():
    """Return the process id of the planner, once Python runs in it."""
    found = []

    def look():
        found[:] = [pid for pid, line in processes_of_jobs().items() if "python3 -I -S" in line]
        return bool(found)

    wait_until(look, explain=processes_of_jobs)
    return found[0]


def test_a_planner_that_writes_a_good_plan_and_then_fails_stops_the_job(run_job):
    good = policies.planner_that_writes(records.encode("plan", []))
    assert ended_well(run_job(["/bin/true"], planner=good))
    result = run_job(["/bin/true"], planner=good.replace("_exit(0)", "_exit(3)"))
    assert_refused(result, "CI-012", "status 3")


def test_a_planner_that_hangs_is_ended_with_all_its_children(run_job):
    code = "import os, time\nif os.fork() == 0: os.setsid()\ntime.sleep(600)"
    result = run_job(["/bin/true"], planner=code, seconds=28)
    assert_refused(result, "CI-012", "the planner did not end within 20 s")
    wait_until(lambda: processes_of_jobs() == {}, explain=processes_of_jobs)


def test_a_planner_leaves_no_process_behind_that_could_act_on_the_job(run_job):
    """It would run as the job's user, outside of every isolation."""
    plan = records.encode("plan", [])
    code = f"""import os, time
if os.fork() == 0:
    os.setsid()
    for fd in (1, 2):
        os.close(fd)
    time.sleep(0.3)
    open('left', 'w')
    time.sleep(60)
os.write(1, {plan!r})
os._exit(0)"""
    result = run_job(["/bin/sleep", "0.5"], planner=code)
    assert ended_well(result)
    assert not (result.scratch / "left").exists()
    assert processes_of_jobs() == {}
    # Without a PID namespace there is nothing that would end it.
    left = run_job(["/bin/sleep", "0.5"], planner=code, policy={"modes": {"pid": "off"}})
    for pid in processes_of_jobs():
        os.kill(pid, 9)
    assert ended_well(left)


def test_a_child_of_the_planner_that_holds_the_pipe_decides_nothing(run_job):
    plan = records.encode("plan", [("root", "tiny")])
    code = f"""import os, time
if os.fork() == 0:
    time.sleep(0.2)
    os.write(1, {plan!r})
    os._exit(0)
os._exit(0)"""
    result = run_job(["/bin/true"], planner=code, policy={"root": ROOTS}, seconds=15)
    assert_refused(result, "CI-013")


@pytest.mark.parametrize("interpreter", ["/absent/python3", "/etc/passwd", "/etc"])
def test_a_planner_that_cannot_be_started_is_the_machines_fault(run_job, interpreter):
    policy = {"planner": [(interpreter, str(policies.PLANNER))]}
    assert_refused(run_job(["/bin/true"], policy=policy), "CI-011", interpreter)


def test_a_planner_script_that_is_missing_is_told(run_job):
    policy = {"planner": [("/usr/bin/python3", "/absent/script")]}
    line = line_of(run_job(["/bin/true"], policy=policy))
    assert "/absent/script" in line


NOISE = {
    "long": b"a" * 100_000,
    "lines": b"\n" * 5000,
    "nul": b"\0\0",
    "terminal": b"\x1b[31m\xff\r",
    "formats": b"%s%n%1000c",
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_of_the_planner_is_bounded_and_made_printable(run_job, name):
    code = f"import os\nos.write(2, {NOISE[name]!r} + b'last')\nos._exit(1)"
    line = assert_refused(run_job(["/bin/true"], planner=code), "CI-012")
    assert line.isprintable()
    assert len(line) < 1000
    assert "last" in line or name == "long"


# Plans


GOOD = body_of(records.encode("plan", [("root", "tiny"), ("limit", "pids-max", "50")]))
BAD_PLANS = {
    "nothing": b"",
    "rubbish": b"rubbish\n",
    "binary": bytes(range(256)) * 16,
    "a policy": b"",
    "of another version": signed(GOOD.replace(b"plan 1", b"plan 2")),
    "truncated": signed(GOOD)[:-1],
    "without an end": GOOD,
    "twice": signed(GOOD) * 2,
    "two chroots": signed(GOOD + b"root other\n"),
    "an unknown record": signed(GOOD + b"bind /etc /srv rw\n"),
    "a record of the policy": signed(GOOD + b"min-uid 0\n"),
    "an unknown limit": signed(GOOD + b"limit io-max 1\n"),
    "a negative limit": signed(GOOD + b"limit cpu-max -1\n"),
    "an endless limit": signed(GOOD + b"limit cpu-max max\n"),
    "a path for a name": signed(GOOD.replace(b"root tiny", b"root /chroots/tiny")),
    "a relative path for a name": signed(GOOD.replace(b"root tiny", b"root ../tiny")),
    "dots for a name": signed(GOOD.replace(b"root tiny", b"root ..")),
    "an encoded path for a name": signed(GOOD.replace(b"root tiny", b"root tiny%2F..")),
    "an encoded NUL in a name": signed(GOOD.replace(b"root tiny", b"root tiny%00")),
    "an encoded newline in a name": signed(GOOD.replace(b"root tiny", b"root tiny%0A")),
    "a long name": signed(GOOD.replace(b"root tiny", b"root " + b"t" * 65)),
    "an empty name": signed(GOOD.replace(b"root tiny", b"root %")),
    "a name in UTF-8": signed(GOOD.replace(b"root tiny", "root tíny".encode())),
    "64 KiB and one byte": b"#" * (records.PLAN_BYTES_MAX + 1),
    "too many limits": signed(GOOD + b"limit pids-max 40\n" * 8),
}


def test_the_good_plan_is_good(run_job):
    result = run_job(["/bin/cat", "/etc/os-release"], plan=signed(GOOD), policy={"root": ROOTS})
    assert result.text == "NAME=Tiny"


@pytest.mark.parametrize("name", BAD_PLANS)
def test_a_plan_that_is_not_of_the_format_stops_the_job(run_job, name):
    plan = policies.encode() if name == "a policy" else BAD_PLANS[name]
    good = {"plan": signed(GOOD), "policy": {"root": ROOTS}}
    assert ended_well(run_job(["/bin/true"], **good))
    code = f"""import os
plan = {plan!r}
while plan:
    plan = plan[os.write(1, plan):]
os._exit(0)"""
    result = run_job(["/bin/true"], planner=code, policy={"root": ROOTS})
    assert_refused(result, "CI-013", "plan")


def test_an_endless_plan_is_cut_off(run_job):
    code = "import os\nfor _ in range(1600):\n os.write(1, b'x' * 65536)"
    result = run_job(["/bin/true"], planner=code, seconds=15)
    assert_refused(result, "CI-013", "larger than 65536 bytes")


def test_an_endless_stderr_stops_at_the_time_limit_or_at_its_end(run_job):
    code = "import os\nfor _ in range(400):\n os.write(2, b'x' * 65536)\nos._exit(1)"
    assert_refused(run_job(["/bin/true"], planner=code, seconds=10), "CI-012")


def test_a_chroot_that_is_not_offered_is_refused(run_job):
    assert_refused(run_job(["/bin/true"], plan=[("root", "tiny")]), "CI-021", "tiny")
    assert ended_well(run_job(["/bin/true"], plan=[("root", "tiny")], policy={"root": ROOTS}))


@pytest.mark.parametrize(("limit", "most"), LIMITS)
def test_a_limit_over_the_policys_is_refused_and_up_to_it_taken(run_job, limit, most):
    policy = {"limit": LIMITS}
    for value in ("8", most):
        assert ended_well(run_job(["/bin/true"], plan=[("limit", limit, value)], policy=policy))
    for value in (str(int(most) + 1), str(2**63 - 1)):
        result = run_job(["/bin/true"], plan=[("limit", limit, value)], policy=policy)
        assert_refused(result, "CI-024", limit, value, most)


@pytest.mark.parametrize("value", ["0", "1", "7"])
def test_a_limit_too_low_for_monitor_init_and_job_is_refused(run_job, value):
    result = run_job(["/bin/true"], plan=[("limit", "pids-max", value)])
    assert_refused(result, "CI-024", f"pids-max of {value} is under 8")


def test_a_second_limit_cannot_take_back_the_first(run_job):
    plan = [("limit", "pids-max", "10"), ("limit", "pids-max", "100")]
    result = run_job(["/bin/true"], plan=plan, policy={"limit": LIMITS})
    assert result.error_file is not None
    assert result.error_file.startswith(("CI-013", "CI-024"))


def test_a_limit_without_a_ceiling_may_be_anything(run_job):
    plan = [("limit", "memory-max", str(2**63 - 1))]
    assert ended_well(run_job(["/bin/true"], plan=plan))


@pytest.mark.parametrize("fault", ["job", "machine"])
def test_a_refusal_of_the_planner_arrives_word_by_word_and_never_marks_the_machine(run_job, fault):
    text = 'CI-021: asked for "EL9"; offered: tiny, %s & <odd>; ask for one of them'
    plan = [("refuse", fault, "CI-021", text)]
    assert line_of(run_job(["/bin/true"], plan=plan)) == text
    assert not MARK.exists()


def test_a_refusal_comes_before_everything_else_of_the_plan(run_job):
    plan = [("root", "absent"), ("refuse", "job", "CI-026", "CI-026: no")]
    assert line_of(run_job(["/bin/true"], plan=plan)) == "CI-026: no"


def test_a_long_refusal_is_one_line_of_bounded_length(run_job):
    plan = [("refuse", "job", "CI-026", "CI-026: " + "x" * 4000)]
    line = line_of(run_job(["/bin/true"], plan=plan))
    assert line.startswith("CI-026: xxx")
    assert len(line) <= 2048


# The real planner


def test_the_real_planner_gives_a_job_what_its_ad_asks_for(run_job):
    def ask(scratch):
        (scratch / ".job.ad").write_text('RequestedChroot = "tiny"\n')

    policy = {"planner": REAL, "root": ROOTS}
    command = ["/bin/cat", "/etc/os-release"]
    assert run_job(command, prepare=ask, policy=policy).text == "NAME=Tiny"
    assert run_job(command, policy=policy).text != "NAME=Tiny"


def test_the_real_planner_says_what_is_offered(run_job):
    def ask(scratch):
        (scratch / ".job.ad").write_text('RequestedChroot = "EL9"\n')

    policy = {"planner": REAL, "root": ROOTS}
    result = run_job(["/bin/true"], prepare=ask, policy=policy)
    assert_refused(result, "CI-021", '"EL9"', "tiny")


@pytest.mark.parametrize("kind", ["missing", "fifo", "link", "huge", "directory", "binary"])
def test_the_real_planner_survives_any_ad(run_job, kind):
    def spoil(scratch):
        ad = scratch / ".job.ad"
        ad.unlink()
        if kind == "fifo":
            os.mkfifo(ad, 0o666)
        elif kind == "link":
            ad.symlink_to("/etc/shadow")
        elif kind == "huge":
            ad.write_text("A = 1\n" * 4_000_000)
        elif kind == "directory":
            ad.mkdir()
        elif kind == "binary":
            ad.write_bytes(bytes(range(256)) * 100)

    result = run_job(["/bin/true"], prepare=spoil, policy={"planner": REAL}, seconds=10)
    if result.error_file is not None:
        line_of(result)
    assert result.mark is None


def test_the_job_cannot_replace_the_planner(run_job, place):
    """Nothing in the job's environment or directory is on the planner's way."""

    def poison(scratch):
        for name in ("posix.py", "condor_isolation.py", "sitecustomize.py", "plan", "python3"):
            (scratch / name).write_text(f"open('{place}/poisoned', 'w')\n")

    env = {"PYTHONPATH": ".", "PYTHONHOME": ".", "PATH": ".:/usr/bin:/bin"}
    result = run_job(["/bin/true"], prepare=poison, env=env, policy={"planner": REAL})
    assert ended_well(result)
    assert not (place / "poisoned").exists()
    poisoned = ["/usr/bin/python3", "-c", "import sitecustomize"]
    run_job(poisoned, prepare=poison, env={"PYTHONPATH": "."}, wrapper=None)
    assert Path(place / "poisoned").exists()
