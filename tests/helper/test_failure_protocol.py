"""How a failure reaches its reader: the starter, the machine's ad, the job's event log."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from condor_isolation import messages

from . import policy as policies
from .conftest import (
    TINY,
    assert_refused,
    ended_well,
    line_of,
    processes_of_jobs,
    read_as_condor,
    wait_until,
)
from .starter import ALICE, MARK

# One failure of each kind, before the fork and after it, before the drop and after it.
FAILURES = {
    "CI-004": {"prepare": lambda _scratch: policies.FILE.unlink()},
    "CI-012": {"planner": "raise SystemExit(1)"},
    "CI-013": {"plan": b"rubbish"},
    "CI-014": {"policy": {"execute": ["/srv"]}},
    "CI-017": {"policy": {"root": [("r", "/absent", "ro")]}, "plan": [("root", "r")]},
    "CI-018": {"policy": {"private": ["/absent"]}},
    "CI-020": {"command": ["/absent"]},
    "CI-021": {"plan": [("root", "r")]},
    "CI-023": {"cwd": "/tmp"},
    "CI-031": {"policy": {"bind": [("/absent", "/srv", "ro")]}},
}


@pytest.fixture
def fail(run_job):
    def run(ident, **more):
        how = {"command": ["/bin/true"], **FAILURES[ident], **more}
        return run_job(how.pop("command"), **how)

    return run


@pytest.mark.parametrize("layout", ["flat", "nested"])
@pytest.mark.parametrize("ident", FAILURES)
def test_one_line_is_where_user_condor_can_read_it(fail, ident, layout):
    result = fail(ident, layout=layout)
    line = assert_refused(result, ident)
    file = result.scratch / ".job_wrapper_failure"
    status = file.lstat()
    assert (status.st_mode, status.st_uid) == (0o100644, ALICE)
    assert result.scratch.stat().st_mode & 0o7777 == 0o711
    assert read_as_condor(file) == line + "\n"
    assert (result.exit_status, result.stdout, result.stderr) == (1, b"", b"")


@pytest.mark.parametrize("umask", [0, 0o777])
@pytest.mark.parametrize("ident", ["CI-004", "CI-020"])
def test_the_umask_of_the_job_does_not_hide_the_line(fail, ident, umask):
    assert_refused(fail(ident, umask=umask), ident)


@pytest.mark.parametrize("ident", FAILURES)
def test_the_machine_is_marked_for_its_own_faults_only(fail, ident):
    result = fail(ident)
    if messages.BY_ID[ident][2] == "machine":
        assert result.mark == result.error_file
        status = MARK.stat()
        assert (status.st_mode, status.st_uid) == (0o100644, 0)
    else:
        assert result.mark is None
        assert not list(MARK.parent.glob("fault*"))


def test_a_new_fault_replaces_the_mark_of_the_last_one(fail):
    for ident in ("CI-004", "CI-017", "CI-018"):
        assert fail(ident).mark.startswith(ident)
    assert [entry.name for entry in MARK.parent.iterdir()] == ["fault"]


def test_a_job_that_starts_takes_no_mark_away(run_job, start_job):
    MARK.parent.mkdir(exist_ok=True)
    MARK.write_text("CI-004: earlier\n")
    result = start_job(["/bin/true"]).wait()
    assert (result.exit_status, result.mark) == (0, "CI-004: earlier\n")


@pytest.mark.parametrize("ident", FAILURES)
def test_the_line_is_in_the_systems_log(fail, ident, system_log):
    line = line_of(fail(ident))
    text = system_log()
    assert line in text
    assert "<35>condor-isolation[" in text
    assert f"uid {ALICE}" in text


@pytest.fixture
def system_log():
    """What arrives at /dev/log: a reader of all that has come so far."""
    import socket

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind("/dev/log")
    os.chmod("/dev/log", 0o666)
    listener.setblocking(False)

    def read():
        text = ""
        try:
            while True:
                text += listener.recv(1 << 16).decode() + "\n"
        except BlockingIOError:
            return text

    yield read
    listener.close()
    os.unlink("/dev/log")


def test_a_refused_caller_is_in_the_systems_log(run_job, system_log):
    line_of(run_job(["/bin/true"], parent_uid=ALICE))
    assert "CI-002" in system_log()


@pytest.mark.parametrize("kind", ["file", "link", "dangling", "fifo", "roots"])
def test_what_lies_in_place_of_the_error_file_is_replaced_not_followed(fail, place, kind):
    target = place / "target"
    if kind == "link":
        target.write_text("precious")
        os.chown(target, ALICE, ALICE)

    def lay(scratch):
        path = scratch / ".job_wrapper_failure"
        if kind in ("file", "roots"):
            path.write_text("old " * 1000)
            os.chown(path, 0 if kind == "roots" else ALICE, -1)
        elif kind == "fifo":
            os.mkfifo(path, 0o666)
        else:
            path.symlink_to(target)

    for ident in ("CI-014", "CI-020"):
        result = fail(ident, prepare=lay)
        assert_refused(result, ident)
        assert not (result.scratch / ".job_wrapper_failure").is_symlink()
    assert not target.exists() or target.read_text() == "precious"


def full(scratch):
    """Put a filesystem without any room, and with no inode free, under the scratch directory."""
    options = f"size=4k,nr_inodes=4,uid={ALICE},gid={ALICE},mode=700"
    kept = {p.name: p.read_bytes() for p in scratch.iterdir()}
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "full", str(scratch)], check=True)
    for name in kept:
        (scratch / name).touch()
        os.chown(scratch / name, ALICE, ALICE)
    (scratch / ".machine.ad").write_bytes(b"x" * 4096)


@pytest.fixture
def unmounted(start_job):
    """Unmount what a test's prepare function mounted on a scratch directory."""
    yield
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split(" - ")[1].split()[1] in ("full", "sealed"):
            subprocess.run(["umount", "-l", line.split()[4]], check=True)


@pytest.mark.parametrize("ident", ["CI-004", "CI-020", "CI-021"])
def test_on_a_full_disk_the_failure_is_still_told_to_the_starter(start_job, unmounted, ident):
    how = {"command": ["/bin/true"], **FAILURES[ident]}
    given = how.pop("prepare", lambda _scratch: None)

    def prepare(scratch):
        given(scratch)
        full(scratch)
        with pytest.raises(OSError, match="No space"):
            (scratch / "one").mkdir()
            (scratch / "more").mkdir()

    result = start_job(
        how.pop("command"), prepare=prepare, policy=how.pop("policy", None) or sized(), **how
    ).wait(10)
    assert (result.exit_status, result.stdout) == (1, b"")
    assert result.error_file is not None, "the job completes"


def sized():
    """Private directories of their own, because there is no room for them in the scratch."""
    return {"tmp_size": str(1 << 20)}


def sealed(scratch):
    """Make the scratch directory one in which the job's user can make no file."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"uid={ALICE}", "sealed", scratch], check=True)
    subprocess.run(["mount", "-o", "remount,ro", scratch], check=True)


@pytest.mark.parametrize("ident", ["CI-013", "CI-020", "CI-021"])
def test_when_nothing_can_be_told_the_job_never_completes(start_job, unmounted, ident):
    how = {"command": ["/bin/true"], "policy": sized(), **FAILURES[ident]}
    job = start_job(how.pop("command"), prepare=sealed, **how)
    with pytest.raises(AssertionError, match="did not end"):
        job.wait(0.5, kill=False)
    # Only the one that waits is left, as the job's user, and it does not eat CPU time.
    wait_until(lambda: len(processes_of_jobs()) == 1, explain=processes_of_jobs)
    assert Path(f"/proc/{job.pid}/status").read_text().count("S (sleeping)") == 1
    # Vacating the job and the starter's soft and hard kill end it.
    job.send(signal.SIGTERM)
    assert job.wait(2).signal == signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL, signal.SIGUSR1])
@pytest.mark.parametrize("ignored", [(), (signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1)])
def test_a_waiting_failure_ends_by_any_signal_of_htcondors(start_job, unmounted, number, ignored):
    job = start_job(["/absent"], prepare=sealed, policy=sized(), ignored=ignored)
    with pytest.raises(AssertionError, match="did not end"):
        job.wait(0.3, kill=False)
    job.send(number)
    if number in ignored:
        with pytest.raises(AssertionError, match="did not end"):
            job.wait(0.1, kill=False)
    else:
        assert job.wait(2).signal == number


@pytest.mark.parametrize("ident", ["CI-013", "CI-014", "CI-020", "CI-023"])
def test_without_the_variable_the_line_is_in_the_systems_log(fail, ident, system_log):
    """HTCondor exports it always, and lets no job change it."""
    result = fail(ident, env={"_CONDOR_WRAPPER_ERROR_FILE": ""})
    assert (result.exit_status, result.stdout) == (126, b"")
    assert f": {ident}: " in system_log()


def test_an_error_file_outside_of_the_scratch_is_written_as_the_user(run_job, place):
    env = {"_CONDOR_WRAPPER_ERROR_FILE": f"{place}/elsewhere"}
    run_job(["/absent"], env=env)
    assert (place / "elsewhere").stat().st_uid == ALICE


# The job's command


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (None, 0, "ENOENT"),
        (b"", 0o644, "EACCES"),
        (b"\x7fELF broken", 0o755, "ENOEXEC"),
        (b"no interpreter line\n", 0o755, "ENOEXEC"),
        (b"#!/absent/interpreter\n", 0o755, "ENOENT"),
        (b"#!/etc/passwd\n", 0o755, "EACCES"),
        ("directory", 0o755, "EACCES"),
    ],
)
def test_a_command_that_cannot_be_run_is_told(run_job, content, mode, reason):
    def make(scratch):
        path = scratch / "command"
        if content == "directory":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
        if content is not None:
            os.chown(path, ALICE, ALICE)
            path.chmod(mode)

    result = run_job(["./command"], prepare=make)
    assert_refused(result, "CI-020", "./command", reason)


def test_a_script_without_a_newline_at_its_end_runs(run_job):
    def make(scratch):
        (scratch / "command").write_bytes(b"#!/bin/sh")
        (scratch / "command").chmod(0o755)

    assert ended_well(run_job(["./command"], prepare=make))


def test_a_command_in_a_missing_directory_of_the_chroot_is_told(run_job):
    policy = {"root": [("tiny", str(TINY), "ro")]}
    result = run_job(["/opt/absent/command"], policy=policy, plan=[("root", "tiny")])
    assert_refused(result, "CI-020", "/opt/absent/command", "ENOENT")


def test_a_command_with_odd_bytes_gives_a_printable_line(run_job):
    result = run_job([b"/absent/\n\x1b[31m\xff%s%n"])
    line = assert_refused(result, "CI-020", "/absent/??[31m?%s%n")
    assert line.isprintable()


def test_a_very_long_command_gives_a_bounded_line(run_job):
    result = run_job(["/" + "x" * 100_000])
    assert result.error_file.startswith("CI-020: ")
    assert result.error_file.count("\n") == 1
    assert len(result.error_file) <= 2048
