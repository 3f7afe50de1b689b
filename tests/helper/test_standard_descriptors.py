"""Standard input, output and error come from outside: none may be a way out of the isolation."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from .conftest import TINY, assert_refused, ended_well
from .starter import ALICE

STANDARD = [0, 1, 2]


def given(descriptor, source, flags=os.O_RDWR):
    """Return a step that makes the file at SOURCE, a path or a function, standard DESCRIPTOR."""

    def put():
        fd = source() if callable(source) else os.open(source, flags)
        os.dup2(fd, descriptor)
        if fd > 2:
            os.close(fd)

    return put


@pytest.mark.parametrize("fd", STANDARD)
def test_a_file_in_the_scratch_directory_is_the_jobs(run_job, fd):
    def make():
        return os.open("own", os.O_RDWR | os.O_CREAT, 0o600)

    code = f"cat /proc/self/fdinfo/{fd} > /dev/null && readlink /proc/$$/fd/{fd} > seen; true"
    result = run_job(["/bin/sh", "-c", code], before_exec=given(fd, make))
    assert ended_well(result)


def test_output_to_a_file_is_written(run_job):
    def make():
        return os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    result = run_job(["/bin/echo", "text"], before_exec=given(1, make))
    assert (result.scratch / "out").read_text() == "text\n"


@pytest.mark.parametrize("fd", STANDARD)
def test_a_file_that_the_job_sees_at_its_path_is_the_jobs(run_job, place, fd):
    (place / "shared").touch()
    os.chown(place / "shared", ALICE, ALICE)
    assert ended_well(run_job(["/bin/true"], before_exec=given(fd, f"{place}/shared")))


@pytest.mark.parametrize("fd", STANDARD)
@pytest.mark.parametrize("kind", ["null", "pipe", "socket"])
def test_what_has_no_path_of_the_machine_is_the_jobs(run_job, fd, kind):
    def make():
        if kind == "null":
            return os.open("/dev/null", os.O_RDWR)
        if kind == "pipe":
            read, write = os.pipe()
            os.dup2(read, 9)  # lives until exec, so that nothing is broken
            return write if fd else read
        return socket.socketpair()[0].detach()

    assert ended_well(run_job(["/bin/true"], before_exec=given(fd, make)))


@pytest.mark.parametrize("fd", STANDARD)
@pytest.mark.parametrize("path", ["/", "/var/lib/condor/execute", "/tmp", "."])
def test_a_directory_is_refused(run_job, fd, path):
    """openat(0, "../..") would lead to the machine."""
    for flags in (os.O_RDONLY, os.O_PATH):
        step = given(fd, path, flags)
        assert_refused(run_job(["/bin/true"], before_exec=step), "CI-032", f"descriptor {fd} ")
        assert ended_well(run_job(["/bin/true"], before_exec=step, wrapper=None))


@pytest.mark.parametrize("fd", STANDARD)
def test_a_file_of_another_sandbox_is_refused(run_job, neighbour, fd):
    other = neighbour("open('secret', 'w').write('secret')")
    step = given(fd, f"{other.scratch}/secret")
    assert_refused(run_job(["/bin/true"], before_exec=step), "CI-032", str(other.scratch))
    assert ended_well(run_job(["/bin/true"], before_exec=step, wrapper=None))


def test_a_file_of_the_machines_tmp_is_refused(run_job):
    path = Path("/tmp/theirs")
    path.touch()
    os.chown(path, ALICE, ALICE)
    try:
        step = given(1, str(path))
        assert_refused(run_job(["/bin/echo", "x"], before_exec=step), "CI-032", str(path))
        off = {"modes": {"tmp": "off"}}
        assert ended_well(run_job(["/bin/true"], before_exec=step, policy=off))
    finally:
        path.unlink()


def test_a_hidden_file_is_refused(run_job, place):
    (place / "secret").write_text("secret")
    os.chown(place / "secret", ALICE, ALICE)
    step = given(0, f"{place}/secret", os.O_RDONLY)
    hidden = {"hide": [f"{place}/secret"]}
    assert_refused(run_job(["/bin/cat"], before_exec=step, policy=hidden), "CI-032")
    assert run_job(["/bin/cat"], before_exec=step).stdout == b"secret"


def test_a_read_only_file_must_not_be_open_for_writing(run_job, place):
    (place / "file").write_text("text")
    os.chown(place / "file", ALICE, ALICE)
    policy = {"read_only": [str(place)]}
    for flags in (os.O_RDWR, os.O_WRONLY):
        step = given(1, f"{place}/file", flags)
        assert_refused(run_job(["/bin/echo"], before_exec=step, policy=policy), "CI-032")
    step = given(0, f"{place}/file", os.O_RDONLY)
    assert run_job(["/bin/cat"], before_exec=step, policy=policy).stdout == b"text"


def test_a_file_that_is_not_in_the_chroot_is_refused(run_job, place):
    (place / "file").write_text("text")
    os.chown(place / "file", ALICE, ALICE)
    step = given(0, f"{place}/file", os.O_RDONLY)
    policy = {"root": [("tiny", str(TINY), "ro")]}
    result = run_job(["/bin/cat"], before_exec=step, policy=policy, plan=[("root", "tiny")])
    assert_refused(result, "CI-032", f"{place}/file")
    assert run_job(["/bin/cat"], before_exec=step, policy=policy).stdout == b"text"


ODD = ["deleted", "renamed over", "memfd", "terminal", "fifo", "other's pipe"]


@pytest.mark.parametrize("kind", ODD)
def test_what_is_not_what_the_job_sees_is_refused(run_job, place, kind):
    os.mkfifo("/tmp/fifo")
    os.chown("/tmp/fifo", ALICE, ALICE)

    def make():
        if kind == "memfd":
            return os.memfd_create("own")
        if kind == "terminal":
            return os.openpty()[1]
        if kind == "fifo":
            return os.open("/tmp/fifo", os.O_RDWR)
        if kind == "other's pipe":
            return os.open("/proc/self/fd/0", os.O_RDWR)
        path = place / "file"
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        if kind == "deleted":
            path.unlink()
        else:
            (place / "new").touch()
            (place / "new").rename(path)
        return fd

    how = {}
    if kind == "other's pipe":
        # A pipe that is opened by a path, as that of another process could be.
        how["before_drop"] = given(0, make)
    else:
        how["before_exec"] = given(0, make)
    try:
        assert_refused(run_job(["/bin/true"], **how), "CI-032", "descriptor 0")
        assert ended_well(run_job(["/bin/true"], wrapper=None, **how))
    finally:
        os.unlink("/tmp/fifo")


def test_input_from_a_read_only_path_cannot_be_opened_again_for_writing(run_job, place):
    file = place / "data"
    file.write_text("as it was")
    os.chown(file, ALICE, ALICE)
    code = "cat; echo changed > /proc/self/fd/0"
    step = given(0, str(file), os.O_RDONLY)
    result = run_job(["/bin/sh", "-c", code], before_exec=step, policy={"read_only": [str(place)]})
    assert result.stdout == b"as it was" and b"Read-only file system" in result.stderr
    assert file.read_text() == "as it was"
    run_job(["/bin/sh", "-c", code], before_exec=step)
    assert file.read_text() == "changed\n"


def test_the_terminal_multiplexer_of_the_machine_is_refused(run_job):
    os.mknod("/dev/ptmx-of-the-machine", 0o20666, os.makedev(5, 2))
    try:
        step = given(0, "/dev/ptmx-of-the-machine", os.O_RDONLY)
        assert_refused(run_job(["/bin/true"], before_exec=step), "CI-032", "terminal")
    finally:
        os.unlink("/dev/ptmx-of-the-machine")
