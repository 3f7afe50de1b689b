"""The compiled policy: what the helper loads, the same bytes for the same configuration."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condor_isolation import compile, records, trust
from condor_isolation.condor import Config
from condor_isolation.machine import Machine, Source
from condor_isolation.settings import Account, Bind, Chroot, Knob, Settings

MODES = {name: mode for name, mode, _help in records.CONTROLS}
SETTINGS = Settings(private=("/tmp", "/var/tmp"), shm_size=1 << 30, min_uid=500, modes=MODES)
CONFIG = Config(
    (25, 14, 1),
    {
        name: Knob(name, value)
        for name, value in (
            ("STARTER", "/usr/sbin/condor_starter"),
            ("USER_JOB_WRAPPER", "/usr/libexec/condor-isolation/job-wrapper"),
        )
    },
)
MACHINE = Machine(
    config=CONFIG,
    sources=(Source("/etc/condor/condor_config", 1795359658033141112, 4417),),
    executes=("/var/lib/condor/execute",),
)


def compiled(settings=SETTINGS, machine=MACHINE):
    """Return the records, which must be such as the helper takes."""
    data = compile.compile_policy(settings, machine)
    return records.decode("policy", data)


def rows(key, settings=SETTINGS, machine=MACHINE):
    return [row[1:] for row in compiled(settings, machine) if row[0] == key]


def linked(**real):
    """Return the machine on which some paths lead elsewhere."""
    paths = {
        path.replace("_", "/"): trust.PathFact(path, trust.DIRECTORY, to)
        for path, to in real.items()
    }
    return replace(MACHINE, paths=paths)


def test_the_smallest_policy_is_one_that_the_helper_takes():
    assert rows("enable") == [["1"]]
    assert rows("starter") == [["/usr/sbin/condor_starter"]]
    assert rows("wrapper") == [["/usr/libexec/condor-isolation/job-wrapper"]]
    assert rows("planner") == [["/usr/bin/python3", "/usr/libexec/condor-isolation/job-wrapper"]]
    assert rows("sshd") == [["/usr/sbin/sshd"]]
    assert rows("mode") == [list(item) for item in MODES.items()]


def test_every_source_is_recorded_with_its_time_and_size():
    assert rows("source") == [["1795359658033141112", "4417", "/etc/condor/condor_config"]]


def test_what_the_helper_opens_is_recorded_without_links():
    machine = linked(_data="/srv/data", _srv_el9="/mnt/el9", _var_lib_condor_execute="/scratch")
    settings = replace(
        SETTINGS,
        binds=(Bind("/data", "/data", "ro", "ISOLATION_BIND"),),
        chroots=(Chroot("EL9", "/srv/el9", "NAMED_CHROOT"),),
    )
    assert rows("bind", settings, machine) == [["/srv/data", "/data", "ro"]]
    assert rows("root", settings, machine) == [["EL9", "/mnt/el9", "ro"]]
    assert rows("execute", settings, machine) == [["/scratch"]]


def test_what_the_helper_compares_with_its_arguments_is_recorded_as_htcondor_writes_it():
    machine = linked(**{"_usr_libexec_condor-isolation_job-wrapper": "/opt/ci/job-wrapper"})
    assert rows("wrapper", machine=machine) == [["/usr/libexec/condor-isolation/job-wrapper"]]
    assert rows("planner", machine=machine)[0][1] == "/opt/ci/job-wrapper"


def test_two_names_of_one_execute_directory_are_one_record():
    machine = replace(
        linked(_a="/scratch", _b="/scratch"),
        executes=("/a", "/b"),
    )
    assert rows("execute", machine=machine) == [["/scratch"]]


def test_a_directory_that_sandboxes_are_in_is_hidden_too():
    settings = replace(SETTINGS, hide=("/var/lib/condor", "/var/log/condor"))
    assert rows("hide", settings) == [["/var/lib/condor"], ["/var/log/condor"]]


def test_accounts_are_numbers_each_once_in_order():
    users = (Account("bob", "K"), Account("alice", "K"), Account("1001", "K"))
    settings = replace(SETTINGS, chroots=(Chroot("EL9", "/el9", "K", users=users),))
    machine = replace(MACHINE, users={"alice": 1000, "bob": 1001, "1001": 1001})
    assert rows("root-user", settings, machine) == [["EL9", "1000"], ["EL9", "1001"]]


@pytest.mark.parametrize("field", ["users", "groups"])
def test_an_account_without_a_number_never_opens_the_chroot_to_everyone(field):
    root = Chroot("EL9", "/el9", "K", **{field: (Account("ghost", "K"),)})
    with pytest.raises(records.RecordError, match="ghost has no number"):
        compile.compile_policy(replace(SETTINGS, chroots=(root,)), MACHINE)


def test_no_bind_covers_an_earlier_one():
    binds = tuple(Bind(path, path, "ro", "K") for path in ("/a/b/c", "/a", "/a/b"))
    settings = replace(SETTINGS, binds=binds)
    assert [row[1] for row in rows("bind", settings)] == ["/a", "/a/b", "/a/b/c"]


def test_expressions_come_with_the_place_of_classad2():
    settings = replace(SETTINGS, expressions={"cpu-max": 'ifThenElse(TARGET.X == "a b", 1, 2)'})
    machine = replace(MACHINE, classad_path="/usr/lib/python3/dist-packages")
    assert rows("expr", settings, machine) == [["cpu-max", 'ifThenElse(TARGET.X == "a b", 1, 2)']]
    assert rows("classad-path", settings, machine) == [["/usr/lib/python3/dist-packages"]]
    assert rows("classad-path", SETTINGS, machine) == []


def test_limits_sizes_and_the_forced_chroot_are_recorded():
    settings = replace(
        SETTINGS,
        limits={"pids-max": 100, "memory-high": 1 << 30},
        tmp_size=1 << 20,
        chroots=(Chroot("EL9", "/el9", "K", read_only=False),),
        forced="EL9",
    )
    assert rows("limit", settings) == [["memory-high", str(1 << 30)], ["pids-max", "100"]]
    assert rows("tmp-size", settings) == [[str(1 << 20)]]
    assert rows("root-forced", settings) == [["EL9"]]
    assert rows("root", settings) == [["EL9", "/el9", "rw"]]


def test_when_disabled_nothing_that_could_be_wrong_is_in_the_policy():
    settings = replace(
        SETTINGS,
        enable=False,
        chroots=(Chroot("EL9", "/nowhere", "K", users=(Account("ghost", "K"),)),),
        binds=(Bind("/a", "/b", "ro", "K"),),
        expressions={"cpu-max": "("},
    )
    keys = {row[0] for row in compiled(settings)}
    assert keys == {
        "enable",
        "source",
        "starter",
        "wrapper",
        "planner",
        "sshd",
        "min-uid",
        "execute",
        "shm-size",
        "network",
        "mode",
    }


@given(st.permutations(["EL7", "EL8", "EL9", "SL5"]))
def test_the_order_of_the_chroots_does_not_change_the_policy(names):
    roots = tuple(Chroot(name, f"/{name}", "K") for name in names)
    assert [row[0] for row in rows("root", replace(SETTINGS, chroots=roots))] == sorted(names)


def test_what_does_not_fit_the_format_is_refused():
    with pytest.raises(records.RecordError):
        compile.compile_policy(SETTINGS, replace(MACHINE, executes=()))
    with pytest.raises(records.RecordError):
        compile.compile_policy(replace(SETTINGS, private=("relative",)), MACHINE)
