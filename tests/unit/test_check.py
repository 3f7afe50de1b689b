"""Everything that is wrong with a machine's configuration is said, and nothing that is right."""

from dataclasses import replace

import pytest

from condor_isolation import check, machine, reader, records, trust
from condor_isolation.condor import Config, effective
from condor_isolation.machine import Helper, Machine, Source
from condor_isolation.problems import ERROR, NOTE, WARNING, errors
from condor_isolation.settings import Knob

LIBEXEC = "/usr/libexec/condor-isolation"
NEW, OLD = (25, 14, 1), (23, 9, 6)
START = "True && HasIsolation && PreCmd PostCmd ToolDaemonCmd TransferPlugins SuspendJobAtExec"
GOOD = {
    "STARTER": "/usr/sbin/condor_starter",
    "EXECUTE": "/var/lib/condor/execute",
    "USER_JOB_WRAPPER": f"{LIBEXEC}/job-wrapper",
    "STARTER_JOB_HOOK_KEYWORD": "ISOLATION",
    "ISOLATION_HOOK_PREPARE_JOB": f"{LIBEXEC}/prepare-job",
    "START": START + " WantDocker JobUniverse",
    "LOG": "/var/log/condor",
    "DISABLE_SETUID": "false",
    "USE_PID_NAMESPACES": "false",
    "PER_JOB_NAMESPACES": "true",
}
HELPER = Helper(f"{LIBEXEC}/isolate", 0, 0o4755)
FILES = (GOOD["STARTER"], GOOD["USER_JOB_WRAPPER"], GOOD["ISOLATION_HOOK_PREPARE_JOB"])
SOURCE = Source("/etc/condor/condor_config", 1, 2)


def examine(version=NEW, facts=None, links=None, missing=(), untrusted=None, **knobs):
    """Return the problems of a good machine with KNOBS changed and paths as said."""
    values = {name: value for name, value in {**GOOD, **knobs}.items() if value is not None}
    table = effective(Knob(name, value, f"{name}.conf:7") for name, value in values.items())
    config = Config(version, table)
    settings, problems = reader.read(config.knobs, config.native_chroot)
    executes = machine.execute_directories(config)
    named = machine._named_paths(settings, config, executes) | {SOURCE.path}
    paths = {}
    for path in named:
        kind = trust.FILE if path in (*FILES, SOURCE.path) else trust.DIRECTORY
        kind = trust.MISSING if path in missing else kind
        real = (links or {}).get(path, path)
        paths[path] = trust.PathFact(path, kind, real, (untrusted or {}).get(path, ""))
    accounts = {"alice": 1000, "atlas": 2000}
    good = Machine(
        config=config,
        sources=(SOURCE,),
        paths=paths,
        users={a.name: accounts.get(a.name) for r in settings.chroots for a in r.users},
        groups={a.name: accounts.get(a.name) for r in settings.chroots for a in r.groups},
        helper=HELPER,
        executes=executes,
        classad_path="/usr/lib/python3/dist-packages",
    )
    return (*problems, *check.check(settings, replace(good, **(facts or {}))))


def only(**more):
    """Return the only problem."""
    found = examine(**more)
    assert len(found) == 1, [p.line() for p in found]
    assert found[0].place.endswith(":7") or found[0].place == "default" or not found[0].place
    return found[0]


def error(**more):
    found = only(**more)
    assert found.severity == ERROR, found.line()
    return found


def warning(**more):
    found = only(**more)
    assert found.severity == WARNING, found.line()
    return found


def test_a_good_machine_has_no_problem():
    assert examine() == ()
    assert examine(NAMED_CHROOT="EL9=/chroots/el9", NAMED_CHROOT_EL9_USERS="alice") == ()


def test_an_older_htcondor_with_what_it_needs_has_no_problem():
    assert (
        examine(
            OLD,
            STARTER_JOB_HOOK_KEYWORD=None,
            ISOLATION_HOOK_PREPARE_JOB=None,
            NAMED_CHROOT="EL9=//",
            ISOLATION_NAMED_CHROOT="EL9=/chroots/el9",
        )
        == ()
    )


# Chroots


def test_a_missing_chroot_is_an_error():
    found = error(NAMED_CHROOT="EL9=/chroots/el9", missing=["/chroots/el9"])
    assert found.what == "EL9: /chroots/el9 does not exist"


def test_a_chroot_that_others_may_change_is_an_error():
    reason = "/chroots belongs to uid 1000"
    found = error(NAMED_CHROOT="EL9=/chroots/el9", untrusted={"/chroots/el9": reason})
    assert (found.name, found.what) == ("UNTRUSTED", f"EL9: {reason}")


@pytest.mark.parametrize(
    "path", ["/var/lib/condor/execute/x", "/var/lib/condor", "/tmp/el9", "/var", "/var/log/condor"]
)
def test_a_chroot_in_the_way_of_sandboxes_private_or_hidden_directories_is_an_error(path):
    found = examine(NAMED_CHROOT=f"EL9={path}")
    assert {p.name for p in found} == {"PLACE"} and errors(found)


def test_a_link_does_not_hide_that_a_chroot_is_in_a_private_directory():
    links = {"/chroots/el9": "/tmp/el9"}
    assert error(NAMED_CHROOT="EL9=/chroots/el9", links=links).name == "PLACE"


@pytest.mark.parametrize(("field", "kind"), [("USERS", "user"), ("GROUPS", "group")])
def test_an_account_that_does_not_exist_is_an_error(field, kind):
    knob = f"NAMED_CHROOT_EL9_{field}"
    found = error(NAMED_CHROOT="EL9=/chroots/el9", **{knob: "ghost"})
    assert (found.knob, found.what) == (knob, f"there is no {kind} ghost")


def points(*wanted):
    root = "/chroots/el9"
    return tuple(
        trust.MountPoint(root, path, trust.DIRECTORY, root + path, kind, obstacle)
        for path, kind, obstacle in wanted
    )


def test_missing_mount_points_are_one_note():
    facts = {"mount_points": points(("/dev", "missing", ""), ("/proc", "missing", ""))}
    found = only(NAMED_CHROOT="EL9=/chroots/el9", facts=facts)
    assert found.severity == NOTE
    assert found.remedy == "apply will create /chroots/el9/dev /chroots/el9/proc"


def test_a_mount_point_that_cannot_be_made_is_an_error():
    facts = {"mount_points": points(("/dev", "missing", "/chroots is on a read-only file system"))}
    found = error(NAMED_CHROOT="EL9=/chroots/el9", facts=facts)
    assert found.what.endswith("but /chroots is on a read-only file system")
    assert found.remedy == "do: mkdir -p /chroots/el9/dev"


def test_execute_behind_a_link_is_an_error_where_there_are_chroots():
    links = {GOOD["EXECUTE"]: "/scratch"}
    assert examine(links=links) == ()
    found = error(NAMED_CHROOT="EL9=/chroots/el9", links=links)
    assert found.remedy == "set EXECUTE = /scratch"


@pytest.mark.parametrize(
    ("named", "what"),
    [
        (None, "crashes on a chroot that is not in it"),
        ("EL8=//", "crashes on a chroot that is not in it"),
        ("EL9=/chroots/el9", "would chroot the wrapper"),
        ("EL9=/", "would chroot the wrapper"),
    ],
)
def test_before_25_5_1_named_chroot_has_to_name_each_chroot_and_do_nothing(named, what):
    found = error(
        version=OLD,
        STARTER_JOB_HOOK_KEYWORD=None,
        ISOLATION_HOOK_PREPARE_JOB=None,
        NAMED_CHROOT=named,
        ISOLATION_NAMED_CHROOT="EL9=/chroots/el9",
    )
    assert found.name == "NATIVE_CHROOT" and what in found.what
    assert "write NAMED_CHROOT = EL9=//" in found.remedy


# Binds, private, hidden, read-only


def test_a_bind_of_nothing_is_an_error():
    assert error(ISOLATION_BIND="/a:/opt", missing=["/a"]).name == "MISSING_PATH"


def test_a_bind_on_nothing_is_an_error_where_jobs_have_the_machines_root():
    assert "on the machine" in error(ISOLATION_BIND="/opt:/a", missing=["/a"]).what
    forced = {"NAMED_CHROOT": "EL9=/el9", "ISOLATION_CHROOT": '"EL9"'}
    assert examine(ISOLATION_BIND="/opt:/a", missing=["/a"], **forced) == ()


@pytest.mark.parametrize(
    "path",
    ["/", "/proc", "/proc/sys", "/sys/fs", "/dev/shm", "/tmp/x", "/var/tmp", GOOD["EXECUTE"]],
)
def test_nothing_is_bound_where_the_helper_mounts_itself(path):
    found = examine(ISOLATION_BIND=f"/opt:{path}")
    assert {p.name for p in found} == {"BAD_BIND"}


def test_one_destination_for_two_sources_is_an_error():
    assert error(ISOLATION_BIND="/a:/x, /b:/x").name == "BAD_BIND"
    more = {"NAMED_CHROOT": "EL9=/el9", "NAMED_CHROOT_EL9_BIND": "/b:/x"}
    names = {p.name for p in examine(ISOLATION_BIND="/a:/x", **more)}
    assert names == {"BAD_BIND"}


def test_a_bind_inside_another_needs_its_mount_point_in_the_source_of_that():
    knobs = {"NAMED_CHROOT": "EL9=/el9", "NAMED_CHROOT_EL9_BIND": "/srv/a:/a, /srv/b:/a/b"}
    assert examine(**knobs) == ()
    assert "make /srv/a/b" in error(missing=["/srv/a/b"], **knobs).remedy


def test_a_chroots_bind_that_covers_one_of_every_job_is_an_error():
    knobs = {"NAMED_CHROOT": "EL9=/el9", "NAMED_CHROOT_EL9_BIND": "/srv/a:/a"}
    assert "covers /a/b" in error(ISOLATION_BIND="/srv/b:/a/b", **knobs).what


def test_a_bind_of_what_is_hidden_is_a_warning():
    assert warning(ISOLATION_BIND="/var/log/condor/x:/x").name == "PLACE"


def test_a_private_directory_that_is_not_there_is_an_error():
    found = error(MOUNT_UNDER_SCRATCH="/tmp,/var/tmp,/gone", missing=["/gone"])
    assert found.what == "/gone is no directory"


@pytest.mark.parametrize("path", ["/", "/proc", "/dev/shm"])
def test_what_the_system_needs_cannot_be_private(path):
    found = examine(MOUNT_UNDER_SCRATCH=f"/tmp,/var/tmp,{path}")
    assert f"{path} cannot be private" in [p.what for p in errors(found)]


def test_execute_below_a_private_directory_is_an_error():
    assert "is below /tmp" in error(EXECUTE="/tmp/condor/execute").what


def test_every_execute_directory_counts():
    found = examine(SLOT_TYPE_2_EXECUTE="/tmp/a", SLOT3_EXECUTE="/tmp/b", SLOT_WEIGHT="/tmp/c")
    assert len(errors(found)) == 2


def test_a_read_only_path_that_is_not_there_is_an_error():
    assert error(ISOLATION_READ_ONLY="/opt, /gone", missing=["/gone"]).name == "MISSING_PATH"


def test_a_hidden_path_that_is_not_there_yet_is_none():
    assert examine(ISOLATION_HIDE="/etc/condor/tokens.d", missing=["/etc/condor/tokens.d"]) == ()


def test_what_sandboxes_are_in_can_be_hidden():
    assert examine(ISOLATION_HIDE="/var/lib/condor") == ()


def test_hiding_the_system_is_an_error():
    assert error(ISOLATION_HIDE="/proc").name == "PLACE"


# Expressions


def test_what_is_no_expression_is_an_error():
    facts = {"bad_expressions": {"cpu-max": "is no ClassAd expression"}}
    assert error(facts=facts, ISOLATION_CPU_MAX="1 +").knob == "ISOLATION_CPU_MAX"


def test_an_expression_without_classad2_to_evaluate_it_is_an_error():
    found = error(facts={"classad_path": ""}, ISOLATION_CPU_MAX="TARGET.RequestCpus")
    assert "finds no module classad2" in found.what


# HTCondor's own knobs


@pytest.mark.parametrize(
    ("knob", "value"),
    [("USE_PID_NAMESPACES", "True"), ("DISABLE_SETUID", "true"), ("PER_JOB_NAMESPACES", "False")],
)
def test_a_knob_that_works_against_the_isolation_is_an_error(knob, value):
    assert error(**{knob: value}).name == "HTCONDOR_KNOB"


def test_a_master_with_no_new_privs_is_an_error():
    assert error(facts={"master_no_new_privs": True}).name == "HELPER"


@pytest.mark.parametrize("value", [None, "relative", "/etc//x"])
def test_without_our_wrapper_nothing_is_isolated(value):
    found = error(USER_JOB_WRAPPER=value)
    assert found.remedy == f"write USER_JOB_WRAPPER = {LIBEXEC}/job-wrapper"


@pytest.mark.parametrize("helper", [None, Helper("/bin/sh", 0, 0o755), Helper("/usr/bin/env")])
def test_a_wrapper_whose_first_line_is_not_the_helper_is_an_error(helper):
    assert error(facts={"helper": helper}).name == "WRAPPER"


@pytest.mark.parametrize(
    "helper",
    [
        Helper(HELPER.path),
        replace(HELPER, uid=1000),
        replace(HELPER, mode=0o755),
        replace(HELPER, mode=0o4775),
        replace(HELPER, mode=0o6755),
        replace(HELPER, nosuid=True),
    ],
)
def test_a_helper_without_roots_rights_is_an_error(helper):
    assert error(facts={"helper": helper}).name == "HELPER"


def test_a_helper_that_others_can_replace_is_an_error():
    helper = replace(HELPER, untrusted="/usr/libexec may be written by others than root")
    assert error(facts={"helper": helper}).name == "UNTRUSTED"


@pytest.mark.parametrize("path", FILES)
def test_a_program_that_others_can_change_is_an_error(path):
    assert error(untrusted={path: f"{path} belongs to uid 7"}).name == "UNTRUSTED"


def test_another_wrapper_for_one_slot_type_is_a_warning():
    assert warning(**{"SLOT_TYPE_1.USER_JOB_WRAPPER": "/x"}).name == "ROAD"


def test_a_hook_before_24_8_takes_the_jobs_cgroup_and_is_an_error():
    found = examine(OLD)
    assert [p.name for p in errors(found)] == ["HOOK", "HOOK"]


def test_a_hook_of_another_keyword_before_24_8_is_an_error():
    found = error(
        version=(24, 0, 23),
        STARTER_JOB_HOOK_KEYWORD=None,
        ISOLATION_HOOK_PREPARE_JOB=None,
        OSPOOL_HOOK_PREPARE_JOB="/x",
    )
    assert found.knob == "OSPOOL_HOOK_PREPARE_JOB"


@pytest.mark.parametrize("keyword", [None, "OSPOOL"])
def test_another_hook_keyword_is_a_warning(keyword):
    assert warning(STARTER_JOB_HOOK_KEYWORD=keyword).name == "HOOK"


def test_a_hook_that_does_not_exist_is_an_error():
    assert error(missing=[GOOD["ISOLATION_HOOK_PREPARE_JOB"]]).name == "HOOK"


# Roads around the wrapper


def test_a_start_without_hasisolation_is_a_warning_that_says_what_to_write():
    found = warning(START=GOOD["START"].replace("HasIsolation", "True"))
    assert "START = ($(START)) && $(ISOLATION_START)" in found.remedy


def test_every_open_road_is_named_in_one_warning():
    found = examine(
        OLD, STARTER_JOB_HOOK_KEYWORD=None, ISOLATION_HOOK_PREPARE_JOB=None, START="True"
    )
    roads = [p.what for p in found if p.what.startswith("lets past")]
    assert len(roads) == 1
    for road in ("+PreCmd", "tool_daemon_cmd", "transfer_plugins", "docker", "vm universe"):
        assert road in roads[0]


def test_a_road_that_htcondor_itself_closes_is_not_named():
    start = GOOD["START"].replace("PreCmd PostCmd", "")
    assert examine(START=start) == ()
    found = warning(START=start, STARTER_ALLOW_JOB_PRE_AND_POST_CMD="true")
    assert "+PreCmd, +PostCmd" in found.what


def test_a_starter_that_runs_another_command_is_a_warning():
    assert warning(STARTER_REMOTE_CMD="/x").name == "ROAD"


def test_a_default_docker_image_is_a_warning():
    assert warning(DEFAULT_CONTAINER_IMAGE="docker://x", USE_DEFAULT_CONTAINER="True")
    assert examine(DEFAULT_CONTAINER_IMAGE="/images/x.sif") == ()


# Sources, sizes, emergencies


def test_configuration_from_a_command_is_a_warning():
    config = Config(NEW, {}, commands=("/bin/fetch |",))
    found = check.Checker(reader.read({})[0], Machine(config))
    check._sources(found)
    assert [p.severity for p in found.problems] == [WARNING]


def test_a_configuration_file_that_others_may_write_is_a_warning():
    found = warning(untrusted={SOURCE.path: f"{SOURCE.path} belongs to uid 7"})
    assert found.name == "SOURCE"


def test_more_entries_than_the_policy_holds_are_an_error():
    most = records.POLICY["private"][3]
    private = ",".join(["/tmp", "/var/tmp", *(f"/p/{n}" for n in range(most - 1))])
    assert error(MOUNT_UNDER_SCRATCH=private).name == "TOO_MUCH"


def test_in_an_emergency_no_error_is_left():
    found = check.demote(
        examine(NAMED_CHROOT="EL9=/gone", missing=["/gone"], STARTER_REMOTE_CMD="x")
    )
    assert found and not errors(found)


def test_errors_are_said_first():
    found = examine(STARTER_REMOTE_CMD="/x", DISABLE_SETUID="True")
    assert [p.severity for p in check.worst_first(found)] == [ERROR, WARNING]
