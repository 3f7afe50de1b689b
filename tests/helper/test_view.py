"""What a job sees of the machine.  Each test looks at the same thing from outside, too."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from .conftest import ended_well
from .starter import ALICE

CALL = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
def tried(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'done'
"""


@pytest.fixture
def place(tmp_path_factory):
    """A directory on the machine, outside of every private one, that belongs to the job's user."""
    directory = Path("/srv/place")
    directory.mkdir()
    os.chown(directory, ALICE, ALICE)
    yield directory
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    directory.rmdir()


@pytest.fixture
def neighbour(start_job):
    """A job of the same user without isolation, which answers ``ready`` and waits."""

    def start(code=""):
        command = ["/usr/bin/python3", "-I", "-c", CALL + code + "\nprint('ready', flush=True)"]
        job = start_job(
            [*command[:3], command[3] + "\nimport signal; signal.pause()"], wrapper=None
        )
        job.wait_for(b"ready")
        return job

    return start


def test_output_and_status_of_the_job_arrive(run_job):
    result = run_job(["/bin/sh", "-c", "echo out; echo err >&2; cat; exit 3"], stdin=b"in\n")
    assert (result.exit_status, result.stdout, result.stderr) == (3, b"out\nin\n", b"err\n")
    assert (result.error_file, result.mark) == (None, None)


@pytest.mark.parametrize("layout", ["flat", "nested"])
def test_the_job_starts_in_its_scratch_directory_and_keeps_what_it_writes(run_job, layout):
    result = run_job(["/bin/sh", "-c", "/bin/pwd; echo kept > output"], layout=layout)
    assert ended_well(result)
    assert result.text == str(result.scratch)
    assert (result.scratch / "output").read_text() == "kept\n"
    assert (result.scratch / "output").stat().st_uid == ALICE


def test_pid_1_is_the_init_and_other_processes_do_not_exist(run_python, neighbour):
    other = neighbour()
    code = (
        "import os; print(os.getppid(), sorted(int(p) for p in os.listdir('/proc')"
        f" if p.isdigit()), os.path.exists('/proc/{other.pid}'))"
    )
    inside = run_python(code).text
    assert inside == "1 [1, 2] False"
    assert run_python(code, wrapper=None).text.endswith("True")


def test_ps_shows_the_job_alone(run_job):
    lines = run_job(["/bin/ps", "axo", "pid,user,comm"]).text.splitlines()
    seen = [line.split() for line in lines[1:]]
    assert seen == [["1", "alice", "job-wrapper"], ["2", "alice", "ps"]]


def test_signals_cannot_reach_other_processes_of_the_same_user(run_python, neighbour):
    other = neighbour()
    code = f"{CALL}print(tried(os.kill, {other.pid}, 0))"
    assert run_python(code).text == "ESRCH"
    assert run_python(code, wrapper=None).text == "done"


def test_kill_of_everything_hits_nobody_else(run_job, neighbour):
    other = neighbour()
    result = run_job(["/bin/sh", "-c", "kill -9 -1; echo alive"])
    assert result.text == "alive"
    assert not other.has_ended()
    # Without isolation the neighbour dies.
    run_job(["/bin/sh", "-c", "kill -9 -1"], wrapper=None)
    assert other.wait().signal == 9


@pytest.mark.parametrize("name", ["pid", "mnt", "ipc", "uts", "cgroup"])
def test_the_job_has_a_namespace_of_its_own(run_python, name):
    code = f"import os; print(os.readlink('/proc/self/ns/{name}'))"
    outside = os.readlink(f"/proc/self/ns/{name}")
    assert run_python(code, wrapper=None).text == outside
    assert run_python(code).text != outside


@pytest.mark.parametrize("name", ["user", "net", "time"])
def test_the_job_shares_the_namespace_that_no_control_names(run_python, name):
    code = f"import os; print(os.readlink('/proc/self/ns/{name}'))"
    assert run_python(code).text == os.readlink(f"/proc/self/ns/{name}")


def test_system_v_shared_memory_of_others_is_out_of_reach(run_python, neighbour):
    neighbour("key = call('shmget', 4711, 4096, 0o1600)\nassert isinstance(key, int), key")
    code = f"{CALL}print(call('shmget', 4711, 0, 0))"
    try:
        assert run_python(code).text == "ENOENT"
        found = int(run_python(code, wrapper=None).text)
    finally:
        os.system("ipcrm -M 4711")
    assert found >= 0


def test_posix_message_queues_of_others_are_out_of_reach(run_python, neighbour):
    neighbour("assert call('mq_open', b'/theirs', 0o100 | 2, 0o600, None) >= 0")
    code = (
        f"{CALL}print(call('mq_open', b'/theirs', 2), os.path.exists('/dev/mqueue/theirs'),"
        "call('mq_open', b'/own', 0o100 | 2, 0o600, None) >= 0, os.listdir('/dev/mqueue'))"
    )
    try:
        assert run_python(code).text == "ENOENT False True ['own']"
        outside = run_python(code, wrapper=None).text.split()
    finally:
        for name in ("theirs", "own"):
            Path("/dev/mqueue", name).unlink(missing_ok=True)
    assert outside[1:3] == ["True", "True"]


def test_a_change_of_the_machines_name_does_not_reach_the_job(start_job):
    name = socket.gethostname()
    code = (
        "import os, time; print('ready', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "print(os.uname().nodename)"
    )
    try:
        seen = []
        for wrapper in ({}, {"wrapper": None}):
            socket.sethostname(name)
            job = start_job(["/usr/bin/python3", "-I", "-c", code], **wrapper)
            job.wait_for(b"ready")
            socket.sethostname("renamed")
            (job.scratch / "go").touch()
            seen.append(job.wait().text.split()[1])
    finally:
        socket.sethostname(name)
    assert seen == [name, "renamed"]
