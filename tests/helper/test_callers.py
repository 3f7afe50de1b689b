"""Who may call the helper: the configured condor_starter for an ordinary user, nobody else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import CALL, assert_refused, assert_unprivileged, ended_well, line_of
from .starter import ALICE, EXECUTE, HELPER, PROGRAM, WRAPPER, libc

PR_SET_NO_NEW_PRIVS = 38
PTRACE_TRACEME = 0
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000


def test_the_configured_starter_may_call(run_job):
    assert ended_well(run_job(["/bin/true"]))
    policy = {"starter": ["/usr/sbin/absent", PROGRAM]}
    assert ended_well(run_job(["/bin/true"], policy=policy))


def test_another_program_of_roots_may_not_call(run_job):
    result = run_job(["/bin/true"], policy={"starter": ["/usr/bin/env"]})
    assert_refused(result, "CI-002", "is not /usr/bin/env")


def test_a_copy_of_the_starter_may_not_call(run_job, place):
    copy = place / "condor_starter"
    copy.write_bytes(Path(PROGRAM).read_bytes())
    result = run_job(["/bin/true"], policy={"starter": [str(copy)]})
    assert_refused(result, "CI-002", f"is not {copy}")


def test_a_user_may_not_call(run_job):
    result = run_job(["/bin/true"], parent_uid=ALICE)
    assert_refused(result, "CI-002", "no program of root's")
    assert result.error_file is None  # it is nobody's job
    assert ended_well(run_job(["/bin/true"], parent_uid=ALICE, wrapper=None))


def test_a_user_at_the_prompt_is_refused_and_nothing_is_read(run_job):
    run_job(["/bin/true"])  # installs a policy
    for argv in ([HELPER, WRAPPER, "/bin/id"], [HELPER], [HELPER, "--help"], [WRAPPER, "/bin/id"]):
        done = subprocess.run(
            ["/bin/sh", "-c", '"$@"; exit $?', "sh", *argv],
            user=ALICE,
            group=ALICE,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (126, "")
        assert done.stderr.startswith("CI-002: ")
        assert done.stderr.count("\n") == 1


def test_a_job_may_not_call_from_inside(run_job):
    result = run_job([WRAPPER, "/bin/id"])
    assert (result.exit_status, result.stdout) == (126, b"")
    # The parent is the init, not of root; without no_new_privs it is not even that far.
    assert result.stderr.startswith((b"CI-002: ", b"CI-001: "))
    without = run_job([WRAPPER, "/bin/id"], policy={"modes": {"no-new-privs": "off"}})
    assert (without.exit_status, without.stdout) == (126, b"")
    assert without.stderr.startswith((b"CI-002: ", b"CI-001: "))


def test_a_caller_whose_error_file_variable_points_elsewhere_writes_nothing_there(run_job, place):
    victim = place / "victim"
    victim.write_text("precious")
    env = {"_CONDOR_WRAPPER_ERROR_FILE": str(victim)}
    result = run_job(["/bin/true"], parent_uid=ALICE, env=env)
    assert_refused(result, "CI-002")
    assert victim.read_text() == "precious"


def test_the_error_file_is_written_with_the_users_rights_only(start_job):
    victim = Path("/srv/victim")
    victim.write_text("precious")
    victim.chmod(0o644)
    try:
        env = {"_CONDOR_WRAPPER_ERROR_FILE": str(victim)}
        how = {"env": env, "policy": {"starter": ["/usr/bin/env"]}}
        job = start_job(["/bin/true"], **how)
        with pytest.raises(AssertionError, match="did not end"):
            job.wait(0.3)  # it waits, rather than let the job complete
        assert victim.read_text() == "precious"
    finally:
        victim.unlink()


def test_a_helper_that_is_not_setuid_is_refused(run_job):
    os.chmod(HELPER, 0o755)
    try:
        result = run_job(["/bin/true"])
    finally:
        os.chmod(HELPER, 0o4755)
    assert_unprivileged(result, "the helper runs as uid 1000")
    assert ended_well(run_job(["/bin/true"]))


def test_a_helper_of_another_user_is_refused(run_job):
    os.chown(HELPER, 1001, 1001)
    os.chmod(HELPER, 0o4755)
    try:
        result = run_job(["/bin/true"])
    finally:
        os.chown(HELPER, 0, 0)
        os.chmod(HELPER, 0o4755)
    assert_unprivileged(result, "the helper runs as uid 1001")


def test_under_no_new_privs_the_helper_refuses(run_job):
    result = run_job(["/bin/true"], before_exec=lambda: libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    assert_unprivileged(result, "DISABLE_SETUID")


def test_on_a_nosuid_mount_the_helper_refuses(run_job):
    subprocess.run(["mount", "--bind", HELPER, HELPER], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,nosuid", HELPER], check=True)
        result = run_job(["/bin/true"])
    finally:
        subprocess.run(["umount", HELPER], check=True)
    assert_unprivileged(result, "nosuid mount")


def test_in_a_user_namespace_the_helper_refuses(run_job):
    def enter():
        assert libc.unshare(CLONE_NEWUSER) == 0

    line = line_of(run_job(["/bin/true"], before_exec=enter))
    assert line.startswith(("CI-001: ", "CI-002: ")), line
    assert ended_well(run_job(["/bin/true"], before_exec=enter, wrapper=None))


def test_root_in_a_user_namespace_of_roots_is_refused(run_job):
    """Uid 0 of another user namespace is no root, though geteuid() says 0 (CVE-2020-5291)."""

    def enter():
        assert libc.unshare(CLONE_NEWUSER) == 0
        Path("/proc/self/uid_map").write_text("0 0 1\n")

    line = line_of(run_job(["/bin/true"], uid=0, gid=0, before_drop=enter))
    assert line.startswith(("CI-001: ", "CI-002: ")), line


def test_in_a_pid_namespace_of_htcondors_the_helper_refuses(run_job):
    def enter():
        assert libc.unshare(CLONE_NEWPID) == 0
        pid = os.fork()
        if pid:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.setsid()

    result = run_job(["/bin/true"], before_drop=enter)
    assert_refused(result, "CI-002", "USE_PID_NAMESPACES")


def test_a_traced_helper_has_no_rights_and_refuses(run_job):
    """SuspendJobAtExec makes HTCondor start the job traced."""

    def trace():
        assert libc.ptrace(PTRACE_TRACEME, 0, 0, 0) == 0

    assert_unprivileged(run_job(["/bin/true"], before_exec=trace), "SuspendJobAtExec")
    assert ended_well(run_job(["/bin/true"], before_exec=trace, wrapper=None))


def test_uid_0_is_refused(run_job):
    assert_refused(run_job(["/bin/true"], uid=0, gid=0), "CI-003", "the job's uid is 0")


@pytest.mark.parametrize("uid", [1, 101, 499])
def test_a_uid_below_the_least_is_refused(run_job, uid):
    result = run_job(["/bin/true"], uid=uid, gid=uid, groups=[uid])
    assert_refused(result, "CI-003", f"uid {uid} is below 500")


@pytest.mark.parametrize("uid", [500, 65534, 4294967294])
def test_the_least_uid_and_any_above_may_run(run_job, uid):
    result = run_job(["/usr/bin/id", "-u"], uid=uid, gid=uid, groups=[uid])
    assert result.text == str(uid)


def test_the_group_0_is_the_jobs_own_affair(run_job):
    result = run_job(["/usr/bin/id", "-G"], gid=0, groups=[0])
    assert result.text == run_job(["/usr/bin/id", "-G"], gid=0, groups=[0], wrapper=None).text


@pytest.mark.parametrize(
    "argv",
    [
        [HELPER, "/usr/bin/env", "/bin/true"],
        [HELPER, WRAPPER + "/", "/bin/true"],
        [HELPER, "job-wrapper", "/bin/true"],
        [HELPER, "", ""],
        [HELPER, WRAPPER],
        [HELPER, "/usr/libexec/../libexec/condor-isolation/job-wrapper", "/bin/true"],
        ["x" * 100_000, "%s%s%n\n", "/bin/true"],
    ],
)
def test_arguments_that_are_not_the_wrappers_are_refused(run_job, argv):
    assert_refused(run_job([], argv=argv, program=HELPER), "CI-009", WRAPPER)


def test_the_helper_called_as_the_kernel_would_call_it_runs_the_job(run_job):
    assert ended_well(run_job([], argv=[HELPER, WRAPPER, "/bin/true"]))


def test_another_name_of_the_wrapper_is_refused(run_job):
    link = Path("/srv/wrapper")
    link.symlink_to(WRAPPER)
    try:
        assert_refused(run_job(["/bin/true"], wrapper=str(link)), "CI-009", WRAPPER)
    finally:
        link.unlink()


def test_a_wrapper_of_the_users_own_is_refused(run_job):
    def own(scratch):
        (scratch / "wrapper").write_text(f"#!{HELPER}\n")
        (scratch / "wrapper").chmod(0o755)

    result = run_job([], argv=["./wrapper", "/bin/true"], prepare=own)
    assert_refused(result, "CI-009", WRAPPER)


def test_sshd_is_not_started(run_job):
    policy = {"sshd": "/usr/sbin/sshd"}
    result = run_job(["/usr/sbin/sshd", "-i"], policy=policy)
    assert_refused(result, "CI-028", "/usr/sbin/sshd")


def test_a_sandbox_that_is_not_there_is_refused(run_job):
    policy = {"execute": ["/srv"]}
    assert_refused(run_job(["/bin/true"], policy=policy), "CI-014", "below EXECUTE (/srv)")
    policy = {"execute": ["/srv", EXECUTE]}
    assert ended_well(run_job(["/bin/true"], policy=policy))


def test_a_sandbox_of_another_user_is_refused(run_job):
    def give_away(scratch):
        os.chown(scratch, 1001, 1001)
        scratch.chmod(0o777)

    result = run_job(["/bin/true"], prepare=give_away)
    assert_refused(result, "CI-014", "is not the job's")
    assert ended_well(run_job(["/bin/true"], prepare=give_away, wrapper=None))


def test_a_sandbox_behind_a_link_is_refused(run_job):
    def replace(scratch):
        scratch.rename(scratch.with_name("real"))
        scratch.symlink_to("real")

    result = run_job(["/bin/true"], prepare=replace)
    assert_refused(result, "CI-014", "scratch")
    assert ended_well(run_job(["/bin/true"], prepare=replace, wrapper=None))


@pytest.mark.parametrize("kind", ["link", "file", "fifo", "theirs", "roots"])
@pytest.mark.parametrize("name", ["tmp", "var/tmp", "var"])
def test_what_an_earlier_start_left_in_place_of_a_private_directory_is_refused(
    run_job, place, kind, name
):
    def spoil(scratch):
        path = scratch / name
        path.parent.mkdir(exist_ok=True)
        os.chown(path.parent, ALICE, ALICE)
        if kind == "link":
            path.symlink_to(place)
        elif kind == "file":
            path.touch()
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
            os.chown(path, 1001 if kind == "theirs" else 0, 0)
            path.chmod(0o755)

    result = run_job(["/bin/true"], prepare=spoil)
    assert result.error_file is not None
    assert result.error_file.startswith("CI-033: ")
    assert list(place.iterdir()) == []
    off = {"modes": {"tmp": "off"}}
    assert ended_well(run_job(["/bin/true"], prepare=spoil, policy=off))


def test_a_job_cannot_inspect_the_helper_while_it_works(run_job, neighbour):
    other = neighbour()
    assert other.pid
    code = f"{CALL}print(tried(open, '/proc/1/environ', 'rb'), tried(open, '/proc/1/maps'))"
    result = run_job(["/usr/bin/python3", "-I", "-c", code])
    assert result.text == "EACCES EACCES"
