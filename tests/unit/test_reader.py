"""Settings from the effective configuration: every problem is said, with its place."""

import pytest

from condor_isolation import reader
from condor_isolation.condor import effective
from condor_isolation.problems import ERROR, WARNING
from condor_isolation.settings import MIB, Account, Bind, Knob


def knobs(text):
    """Return the effective knobs of TEXT, NAME = value lines; line N is at site.conf:N."""
    found = []
    for number, line in enumerate(text.strip().splitlines(), 1):
        name, _equals, value = line.partition("=")
        found.append(Knob(name.strip(), value.strip(), f"site.conf:{number}"))
    return effective(found)


def read(text, **more):
    """Return the settings of TEXT, which must have no error."""
    found, problems = reader.read(knobs(text), **more)
    assert [p.line() for p in problems if p.severity == ERROR] == []
    return found


def problem(text, **more):
    """Return the only problem of TEXT."""
    _found, problems = reader.read(knobs(text), **more)
    assert len(problems) == 1, [p.line() for p in problems]
    return problems[0]


def test_an_empty_configuration_is_good_and_safe():
    found = read("")
    assert found.enable
    assert found.private == ("/tmp", "/var/tmp")
    assert (found.shm_size, found.min_uid) == (1024 * MIB, 500)
    assert found.limits == {"pids-max": 10000}
    assert found.modes["pid"] == "require"
    assert not found.chroots and not found.forced and not found.expressions


def test_the_defaults_of_what_is_hidden_come_from_htcondors_own_knobs():
    found = read("LOG = /var/log/condor\nSPOOL = /srv/spool\nSEC_PASSWORD_DIRECTORY =")
    assert found.hide[:2] == ("/var/log/condor", "/srv/spool")


def test_an_empty_value_is_the_default():
    assert read("ISOLATION_PIDS_MAX =").limits == {"pids-max": 10000}


def test_no_private_directory_is_possible_but_said():
    found, problems = reader.read(knobs("MOUNT_UNDER_SCRATCH ="))
    assert found.private == ()
    assert [p.what for p in problems] == ["/tmp and /var/tmp shared by all jobs"]


def test_a_chroot_has_its_fields():
    (root,) = read(
        "NAMED_CHROOT = EL9=/chroots/el9\n"
        "NAMED_CHROOT_EL9_USERS = alice, 1001\n"
        "NAMED_CHROOT_EL9_GROUPS = atlas\n"
        "NAMED_CHROOT_EL9_BIND = /cvmfs, /home:rw\n"
        "NAMED_CHROOT_EL9_READ_ONLY = False\n"
        "NAMED_CHROOT_EL9_DESCRIPTION = AlmaLinux 9"
    ).chroots
    users, groups = "NAMED_CHROOT_EL9_USERS", "NAMED_CHROOT_EL9_GROUPS"
    assert (root.name, root.path, root.read_only) == ("EL9", "/chroots/el9", False)
    assert root.users == (Account("alice", users), Account("1001", users))
    assert root.groups == (Account("atlas", groups),)
    assert [(b.source, b.access) for b in root.binds] == [("/cvmfs", "ro"), ("/home", "rw")]
    assert root.description == "AlmaLinux 9"


def test_case_dots_and_dashes_of_a_chroots_name_do_not_count_in_its_knobs():
    (root,) = read("NAMED_CHROOT = el9.2-x=/a\nNamed_Chroot_EL9_2_x_BIND = /b").chroots
    assert root.binds == (Bind("/b", "/b", "ro", "NAMED_CHROOT_EL9_2_X_BIND"),)


def test_chroots_of_both_knobs_are_offered():
    found = read("NAMED_CHROOT = A=/a, B=/b\nISOLATION_NAMED_CHROOT = B=/b, C=/c")
    assert [root.name for root in found.chroots] == ["A", "B", "C"]


def test_named_chroot_is_left_to_an_htcondor_that_reads_it_itself():
    text = "NAMED_CHROOT = A=//\nISOLATION_NAMED_CHROOT = A=/a"
    assert [root.path for root in read(text, native_chroot=True).chroots] == ["/a"]


@pytest.mark.parametrize("other", ["EL9=/b", "el9=/a", "EL9=/a/b"])
def test_two_chroots_of_one_name_are_refused(other):
    assert problem(f"NAMED_CHROOT = EL9=/a, {other}").name == "DUPLICATE_CHROOT"


def test_one_bad_entry_hides_neither_the_other_nor_the_good_ones():
    found, problems = reader.read(knobs("NAMED_CHROOT = A=rel, B@=/b, C=/c"))
    assert [p.name for p in problems] == ["BAD_PATH", "BAD_CHROOT_NAME"]
    assert [root.name for root in found.chroots] == ["C"]


def test_problems_of_all_knobs_are_said_at_once_and_where_they_are():
    _found, problems = reader.read(
        knobs("ISOLATION_PID_MODE = requird\nISOLATION_MIN_UID = 0\nISOLATION_BIND = x")
    )
    assert sorted(p.place for p in problems) == ["site.conf:1", "site.conf:2", "site.conf:3"]


def test_a_problem_is_one_line_with_place_knob_and_id():
    line = problem("ISOLATION_MIN_UID = 0").line()
    assert line.startswith("site.conf:1: ISOLATION_MIN_UID: 0 is out of range; write a number")
    assert line.endswith("[CI-104]")


def test_what_a_value_holds_does_not_reach_the_terminal_as_it_is():
    assert "\x1b" not in problem("ISOLATION_ENABLE = \x1b[2J").line()


def test_the_value_of_a_wrong_knob_is_its_default():
    found, _problems = reader.read(knobs("ISOLATION_ENABLE = maybe"))
    assert found.enable


def test_limits_are_numbers_or_expressions():
    found = read("ISOLATION_CPU_MAX = 1.5\nISOLATION_MEMORY_HIGH = TARGET.RequestMemory * 2")
    assert found.limits == {"cpu-max": 1500, "pids-max": 10000}
    assert found.expressions == {"memory-high": "TARGET.RequestMemory * 2"}


def test_an_expression_may_go_over_several_lines():
    text = {"ISOLATION_CPU_MAX": Knob("ISOLATION_CPU_MAX", "TARGET.A\n   + 1", "x:1")}
    assert reader.read(text)[0].expressions == {"cpu-max": "TARGET.A + 1"}


@pytest.mark.parametrize("text", ["RequestedChroot", "TARGET.RequestedChroot", ""])
def test_the_attribute_requestedchroot_needs_no_expression(text):
    assert read(f"ISOLATION_CHROOT = {text}").expressions == {}


def test_another_expression_may_give_the_chroot():
    assert read("ISOLATION_CHROOT = TARGET.WantOS").expressions == {"chroot": "TARGET.WantOS"}


def test_a_string_forces_its_chroot():
    found = read('NAMED_CHROOT = EL9=/a\nISOLATION_CHROOT = "EL9"')
    assert (found.forced, found.expressions) == ("EL9", {})


def test_a_forced_chroot_that_is_not_there_is_refused():
    assert problem('NAMED_CHROOT = EL9=/a\nISOLATION_CHROOT = "el9"').name == "UNKNOWN_NAME"


def test_a_chroots_name_without_quotes_is_refused():
    assert 'write "EL9"' in problem("NAMED_CHROOT = EL9=/a\nISOLATION_CHROOT = EL9").remedy


def test_the_empty_string_keeps_every_job_out_of_every_chroot():
    found = read('NAMED_CHROOT = EL9=/a\nISOLATION_CHROOT = ""')
    assert (found.forced, found.expressions) == ("", {"chroot": '""'})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ISOLATION_TMPSIZE", "did you mean ISOLATION_TMP_SIZE?"),
        ("ISOLATON_BIND", "did you mean ISOLATION_BIND?"),
        ("NAMED_CHROOT_EL9_USRES", "did you mean NAMED_CHROOT_EL9_USERS?"),
        ("NAMED_CHROOT_EL8_USERS", "no chroot EL8: did you mean EL9?"),
        ("ISOLATION_XYZZY", "see docs/knobs.md, or remove it"),
    ],
)
def test_a_misspelt_knob_is_refused_with_a_hint(name, hint):
    found = problem(f"NAMED_CHROOT = EL9=/a\n{name} = 1")
    assert (found.name, found.knob, found.remedy) == ("UNKNOWN_KNOB", name, hint)


def test_the_hooks_of_our_keyword_are_no_misspelt_knobs():
    read("ISOLATION_HOOK_PREPARE_JOB = /x\nISOLATION_HOOK_JOB_EXIT_TIMEOUT = 5")


def test_the_starters_own_value_counts():
    assert read("ISOLATION_MIN_UID = 600\nSTARTER.ISOLATION_MIN_UID = 700").min_uid == 700


@pytest.mark.parametrize("name", ["ISOLATION_MIN_UID", "MOUNT_UNDER_SCRATCH", "NAMED_CHROOT"])
def test_a_value_for_one_slot_type_is_refused(name):
    assert problem(f"SLOT_TYPE_1.{name} = 1").name == "PREFIXED_KNOB"


def test_an_expression_for_private_directories_is_taken_with_a_warning():
    found = problem('MOUNT_UNDER_SCRATCH = strcat("/tmp", ",/var/tmp")', native_chroot=False)
    assert found.severity == WARNING
