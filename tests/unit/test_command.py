"""Whether a command can be run in a chroot: sure faults are told, doubt is silence."""

import os

import pytest

from condor_isolation.command import Missing, Unsure, View, command_problem


@pytest.fixture
def root(tmp_path):
    """A chroot with a shell behind a symlink, as distributions have it."""
    top = tmp_path / "root"
    (top / "usr/bin").mkdir(parents=True)
    (top / "bin").symlink_to("usr/bin")
    program(top / "usr/bin/dash", b"\x7fELF")
    (top / "usr/bin/sh").symlink_to("/usr/bin/dash")
    return top


def program(path, content, mode=0o755):
    path.write_bytes(content)
    path.chmod(mode)
    return path


def problem(root, command, mounts=()):
    return command_problem(View(str(root), mounts), command)


@pytest.mark.parametrize("command", ["/usr/bin/dash", "/usr/bin/sh", "/bin/sh", "/bin/../bin//sh"])
def test_a_program_of_the_chroot_can_be_run(root, command):
    assert problem(root, command) == ""


@pytest.mark.parametrize("command", ["/bin/no", "/no/sh", "/usr/bin/dash/sh", "/home/x"])
def test_a_program_that_is_not_in_the_chroot_is_told(root, command):
    assert problem(root, command) == f"{command} does not exist"


def test_a_program_of_the_host_does_not_count(root, tmp_path):
    there = program(tmp_path / "tool", b"\x7fELF")
    assert problem(root, str(there)) == f"{there} does not exist"


def test_symlinks_are_followed_inside_the_chroot(root, tmp_path):
    outside = program(tmp_path / "outside", b"\x7fELF")
    (root / "absolute").symlink_to(outside)
    (root / "climbing").symlink_to("../../../../.." + str(outside))
    assert "does not exist" in problem(root, "/absolute")
    assert "does not exist" in problem(root, "/climbing")


def test_a_symlink_that_climbs_above_the_root_stays_in_it(root):
    (root / "climbing").symlink_to("../../../usr/bin/dash")
    assert problem(root, "/climbing") == ""


def test_a_circle_of_symlinks_is_told(root):
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    assert "does not exist" in problem(root, "/a")


def test_a_directory_is_told(root):
    assert problem(root, "/usr/bin") == "/usr/bin is a directory"


def test_a_file_that_nobody_may_execute_is_told(root):
    program(root / "data", b"#!/bin/sh\n", 0o644)
    assert problem(root, "/data") == "/data is not executable for this user"


@pytest.mark.parametrize("line", [b"#!/bin/sh", b"#! /bin/sh -e\n", b"#!\t/bin/sh\t-e\n"])
def test_a_script_with_its_interpreter_can_be_run(root, line):
    program(root / "script", line)
    assert problem(root, "/script") == ""


def test_a_script_without_its_interpreter_is_told(root):
    program(root / "script", b"#!/usr/bin/python3.6 -u\nprint()\n")
    expected = "/script wants an interpreter: /usr/bin/python3.6 does not exist"
    assert problem(root, "/script") == expected


def test_a_script_with_the_line_ends_of_windows_is_told(root):
    program(root / "script", b"#!/bin/sh\r\necho\r\n")
    assert problem(root, "/script") == "/script has the line ends of Windows"


def test_the_interpreter_of_the_interpreter_counts(root):
    program(root / "usr/bin/wrapper", b"#!/usr/bin/lost\n")
    program(root / "script", b"#!/usr/bin/wrapper\n")
    assert "/usr/bin/lost does not exist" in problem(root, "/script")


def test_scripts_that_interpret_each_other_come_to_an_end(root):
    program(root / "a", b"#!/b\n")
    program(root / "b", b"#!/a\n")
    assert problem(root, "/a") == ""


@pytest.mark.parametrize(
    "head", [b"", b"echo no first line\n", b"#!", b"#!bin/sh\n", b"#!" + b" " * 300, b"\x7fELF"]
)
def test_what_only_the_kernel_can_tell_is_no_problem(root, head):
    program(root / "script", head)
    assert problem(root, "/script") == ""


def test_an_interpreter_longer_than_the_kernel_reads_is_no_problem(root):
    program(root / "script", b"#!/" + b"x" * 300 + b"\n")
    assert problem(root, "/script") == ""


def test_a_scratch_directory_is_that_of_the_host(root, tmp_path):
    scratch = tmp_path / "execute/dir_1/scratch"
    scratch.mkdir(parents=True)
    program(scratch / "job", b"#!/bin/sh\n")
    assert problem(root, f"{scratch}/job", [(str(scratch), str(scratch))]) == ""
    assert "does not exist" in problem(root, f"{scratch}/no", [(str(scratch), str(scratch))])


def test_a_script_of_the_scratch_directory_has_an_interpreter_of_the_chroot(root, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    program(tmp_path / "python", b"\x7fELF")
    program(scratch / "job", f"#!{tmp_path}/python\n".encode())
    assert "does not exist" in problem(root, f"{scratch}/job", [(str(scratch), str(scratch))])


def test_a_bind_is_that_of_the_host_even_behind_a_symlink(root, tmp_path):
    (tmp_path / "sw").mkdir()
    program(tmp_path / "sw/tool", b"\x7fELF")
    (tmp_path / "current").symlink_to("sw")
    mounts = [("/software", str(tmp_path / "current"))]
    assert problem(root, "/software/tool", mounts) == ""
    assert "does not exist" in problem(root, "/software/no", mounts)
    assert "does not exist" in problem(root, "/softwares/tool", mounts)


def test_the_innermost_of_two_binds_counts(root, tmp_path):
    for name in ("outer", "inner"):
        (tmp_path / name).mkdir()
        program(tmp_path / name / name, b"\x7fELF")
    mounts = [("/a", str(tmp_path / "outer")), ("/a/b", str(tmp_path / "inner"))]
    assert problem(root, "/a/outer", mounts) == ""
    assert problem(root, "/a/b/inner", mounts) == ""
    assert "does not exist" in problem(root, "/a/b/outer", mounts)


@pytest.mark.parametrize("command", ["/proc/self/exe", "/dev/fd/3", "/sys/x", "/tmp/job", "/tmp"])
def test_what_the_helper_mounts_anew_is_no_problem(root, command):
    assert command_problem(View(str(root), [], ["/tmp"]), command) == ""


def test_what_this_user_cannot_look_into_is_no_problem(root, monkeypatch):
    def denied(_path):
        raise PermissionError

    monkeypatch.setattr("posix.lstat", denied)
    assert problem(root, "/bin/nothing") == ""
    with pytest.raises(Unsure):
        View(str(root), []).locate("/bin/sh")


def test_a_program_that_cannot_be_read_can_be_run(root, monkeypatch):
    program(root / "secret", b"#!/lost\n")

    def denied(*_arguments):
        raise PermissionError

    monkeypatch.setattr("posix.open", denied)
    assert problem(root, "/secret") == ""


def test_a_fifo_does_not_block(root):
    os.mkfifo(root / "fifo", 0o755)
    assert problem(root, "/fifo") == ""


def test_locate_says_where_on_the_host(root):
    view = View(str(root), [])
    assert view.locate("/bin/sh") == f"{root}/usr/bin/dash"
    assert view.locate("/") == f"{root}/"
    with pytest.raises(Missing):
        view.locate("/no")
