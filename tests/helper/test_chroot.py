"""Named chroots: what a job finds in one, and which are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import CALL, TINY, assert_refused, ended_well
from .starter import ALICE, EXECUTE

ROOTS = [("tiny", str(TINY), "ro")]
IN_TINY = {"plan": [("root", "tiny")]}


def in_(path, access="ro", **more):
    return {
        "policy": {"root": [("spoilt", str(path), access)], **more},
        "plan": [("root", "spoilt")],
    }


def test_a_job_that_asks_for_a_chroot_gets_it_and_the_others_do_not(run_job):
    command = ["/bin/sh", "-c", "head -1 /etc/os-release"]
    assert run_job(command, policy={"root": ROOTS}, **IN_TINY).text == "NAME=Tiny"
    assert run_job(command, policy={"root": ROOTS}).text != "NAME=Tiny"


def test_every_job_gets_the_chroot_that_the_policy_forces(run_job):
    policy = {"root": [*ROOTS, ("other", str(TINY), "ro")], "root_forced": "tiny"}
    command = ["/bin/sh", "-c", "head -1 /etc/os-release"]
    assert run_job(command, policy=policy).text == "NAME=Tiny"
    assert run_job(command, policy=policy, **IN_TINY).text == "NAME=Tiny"
    assert_refused(run_job(command, policy=policy, plan=[("root", "other")]), "CI-021", "other")


@pytest.mark.parametrize("name", ["resolv.conf", "hosts", "passwd", "group"])
def test_names_and_addresses_in_a_chroot_are_the_machines_and_read_only(run_python, name):
    os.chown(f"/etc/{name}", ALICE, -1)
    code = f"{CALL}print(tried(open, '/etc/{name}', 'a'))\nprint(open('/etc/{name}').read())"
    try:
        result = run_python(code, policy={"root": ROOTS}, **IN_TINY).stdout.decode()
        outside = run_python(code, wrapper=None).stdout.decode()
    finally:
        os.chown(f"/etc/{name}", 0, -1)
    assert result == f"EROFS\n{Path('/etc', name).read_text()}\n"
    assert outside.startswith("done\n")


def test_nothing_of_the_machine_is_reachable_from_a_chroot(run_python):
    code = f"""{CALL}
def entries(path):
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        return errno.errorcode[error.errno]
print(entries('/') == {sorted(p.name for p in TINY.iterdir())}, entries('/home'), entries('/src'),
      entries('/..') == entries('/'), entries('/proc/1/root'), entries('/proc/1/cwd'),
      entries('/.machine'), os.path.exists('/etc/condor-isolation'))
mounted = {{line.split()[4] for line in open('/proc/self/mountinfo')}}
print(*sorted(mounted))"""
    first, second = run_python(code, policy={"root": ROOTS}, **IN_TINY).text.splitlines()
    assert first == "True ENOENT ENOENT True EACCES EACCES ENOENT False"
    paths = [path for path in second.split() if not path.startswith(("/dev/", "/sys/"))]
    dirs = ["/", "/dev", "/proc", "/sys", "/tmp", "/usr", "/var/tmp", EXECUTE]
    files = [f"/etc/{name}" for name in ("group", "hosts", "passwd", "resolv.conf")]
    own = [path for path in paths if path.startswith(f"{EXECUTE}/dir_")]
    assert len(own) == 1
    assert sorted(paths) == sorted([*dirs, *files, *own])


def test_the_classic_ways_out_of_a_chroot_are_closed(run_python):
    code = f"""{CALL}
fd = os.open('/', os.O_RDONLY)
print(tried(os.chroot, 'tmp'), call('mount', b'none', b'/tmp', b'tmpfs', 0, None),
      call('umount2', b'/proc', 2), call('pivot_root', b'.', b'.') if hasattr(libc, 'pivot_root')
      else call('syscall', 155, b'.', b'.'), call('setns', fd, 0))"""
    inside = run_python(code, policy={"root": ROOTS}, **IN_TINY).text
    assert inside == "EPERM EPERM EPERM EPERM EINVAL"


def test_the_sandbox_is_at_its_usual_path_in_a_chroot_and_can_be_written(run_job):
    result = run_job(
        ["/bin/sh", "-c", f"pwd; ls {EXECUTE}; echo kept > output"],
        policy={"root": ROOTS},
        **IN_TINY,
    )
    assert result.text.split() == [str(result.scratch), result.sandbox.name]
    assert (result.scratch / "output").read_text() == "kept\n"


@pytest.mark.parametrize("control", ["sandboxes", "tmp", "proc"])
def test_a_chroot_works_with_a_control_switched_off(run_job, control):
    policy = {"root": ROOTS, "modes": {control: "off"}}
    result = run_job(["/bin/sh", "-c", "pwd; cd / && touch new"], policy=policy, **IN_TINY)
    assert result.text == str(result.scratch)
    assert result.exit_status == 1


def test_a_read_only_chroot_cannot_be_written_and_a_writable_one_can(run_python, chroot):
    os.chown(chroot / "srv/data", ALICE, ALICE)
    code = f"{CALL}print(tried(open, '/srv/data/new', 'w'))"
    assert run_python(code, **in_(chroot)).text == "EROFS"
    assert run_python(code, **in_(chroot, "rw")).text == "done"
    assert (chroot / "srv/data/new").exists()


def test_setuid_files_and_devices_of_a_chroot_are_dead(run_python, chroot):
    shutil.copy("/usr/bin/id", chroot / "srv/data/id")
    os.chmod(chroot / "srv/data/id", 0o4755)
    os.mknod(chroot / "srv/data/null", 0o20666, os.makedev(1, 3))
    os.chmod(chroot / "srv/data/null", 0o666)
    code = (
        f"{CALL}print(tried(open, '/srv/data/null', 'w'))\nos.execv('/srv/data/id', ['id', '-u'])"
    )
    code = code.replace("\nos.execv", "\nsys.stdout.flush()\nos.execv")
    safe = in_(chroot, modes={"no-new-privs": "off"})
    assert run_python(code, **safe).text == f"EACCES\n{ALICE}"
    open_ = in_(chroot, modes={"no-new-privs": "off", "nosuid": "off"})
    assert run_python(code, **open_).text == "done\n0"


def test_a_bind_of_one_chroot_is_seen_in_that_one_only(run_python, place):
    (place / "data").touch()
    policy = {
        "root": [*ROOTS, ("other", str(TINY), "ro")],
        "root_bind": [("tiny", str(place), "/srv/data", "ro")],
    }
    code = f"{CALL}print(os.listdir('/srv/data'), tried(open, '/srv/data/new', 'w'))"
    assert run_python(code, policy=policy, **IN_TINY).text == "['data'] EROFS"
    assert run_python(code, policy=policy, plan=[("root", "other")]).text == "[] EROFS"
    policy["root_bind"] = [("tiny", str(place), "/srv/data", "rw")]
    assert run_python(code, policy=policy, **IN_TINY).text == "['data'] done"


def test_a_bind_for_every_job_is_seen_in_a_chroot_too(run_python, place):
    (place / "data").touch()
    policy = {"root": ROOTS, "bind": [(str(place), "/srv/data", "ro")]}
    code = "import os; print(os.listdir('/srv/data'))"
    assert run_python(code, policy=policy, **IN_TINY).text == "['data']"


def test_compatibility_links_of_a_chroot_are_resolved_inside_it(run_python, chroot):
    (chroot / "var/tmp").rmdir()
    (chroot / "var/tmp").symlink_to("/srv/data")
    code = "import os; open('/var/tmp/own', 'w'); print(os.listdir('/srv/data'))"
    result = run_python(code, **in_(chroot))
    assert result.text == "['own']"
    assert (result.scratch / "var/tmp/own").exists()
    assert os.listdir(chroot / "srv/data") == []


@pytest.mark.parametrize("target", ["/../../../srv/outside", "../../../../srv/outside"])
def test_a_link_cannot_take_a_mount_out_of_the_chroot(run_job, chroot, target):
    outside = Path("/srv/outside")
    outside.mkdir()
    try:
        (chroot / "var/tmp").rmdir()
        (chroot / "var/tmp").symlink_to(target)
        result = run_job(["/bin/true"], **in_(chroot))
        assert_refused(result, "CI-018", "/var/tmp", str(chroot))
        (chroot / "srv/outside").mkdir()
        assert ended_well(run_job(["/bin/true"], **in_(chroot)))
        assert os.listdir(outside) == []
    finally:
        outside.rmdir()


@pytest.mark.parametrize(
    "name", ["proc", "tmp", "var/tmp", EXECUTE[1:], "etc/passwd", "dev", "sys"]
)
def test_a_chroot_without_a_mount_point_is_refused(run_job, chroot, name):
    assert ended_well(run_job(["/bin/true"], **in_(chroot)))
    (chroot / name).unlink() if (chroot / name).is_file() else (chroot / name).rmdir()
    assert_refused(run_job(["/bin/true"], **in_(chroot)), "CI-018", f"/{name}", str(chroot))


@pytest.mark.parametrize("part", ["/chroots/part", "/chroots/part/spoilt"])
@pytest.mark.parametrize(("uid", "mode"), [(ALICE, 0o755), (0, 0o775), (0, 0o757), (0, 0o1777)])
def test_a_chroot_that_others_can_change_is_refused(run_job, mounted, part, uid, mode):
    path = Path("/chroots/part/spoilt")
    path.mkdir(parents=True)
    try:
        mounted("", path, "", "--rbind", str(TINY))
        assert ended_well(run_job(["/bin/true"], **in_(path)))
        subprocess.run(["umount", "-l", path], check=True)
        os.chown(part, uid, -1)
        os.chmod(part, mode)
        result = run_job(["/bin/true"], **in_(path))
        assert_refused(result, "CI-005", f"{part} belongs to uid {uid} and has mode {mode:04o}")
    finally:
        shutil.rmtree("/chroots/part")


@pytest.mark.parametrize("part", ["/chroots/link", "/chroots/link/tiny"])
def test_a_chroot_behind_a_link_is_refused(run_job, part):
    link = Path("/chroots/link")
    link.symlink_to("/chroots" if part.endswith("tiny") else TINY)
    try:
        assert_refused(run_job(["/bin/true"], **in_(part)), "CI-017", part)
    finally:
        link.unlink()
    assert ended_well(run_job(["/bin/true"], **in_(TINY)))


@pytest.mark.parametrize("what", ["missing", "file"])
def test_a_chroot_that_is_no_directory_is_refused(run_job, what):
    path = Path("/chroots/odd")
    if what == "file":
        path.touch()
    try:
        reason = "ENOENT" if what == "missing" else "ENOTDIR"
        assert_refused(run_job(["/bin/true"], **in_(path)), "CI-017", str(path), reason)
    finally:
        path.unlink(missing_ok=True)


def test_only_those_on_its_list_may_use_a_chroot(run_job):
    def use(**policy):
        return run_job(["/bin/true"], policy={"root": ROOTS, **policy}, **IN_TINY)

    assert ended_well(use())
    assert ended_well(use(root_user=[("tiny", "1"), ("tiny", str(ALICE))]))
    assert ended_well(use(root_group=[("tiny", "2001")]))
    assert ended_well(use(root_group=[("tiny", "1000")]))
    assert ended_well(use(root_user=[("other", "1")]))
    assert ended_well(use(root_user=[("tiny", "1")], root_group=[("tiny", "2001")]))
    assert_refused(use(root_user=[("tiny", "1")]), "CI-022", "uid 1000", "tiny")
    assert_refused(use(root_group=[("tiny", "3000")]), "CI-022", "uid 1000", "tiny")


@pytest.mark.parametrize("name", ["Tiny", "tin", "tiny2", "chroots", "tiny.", "_"])
def test_a_chroot_is_known_by_its_whole_name(run_job, name):
    result = run_job(["/bin/true"], policy={"root": ROOTS}, plan=[("root", name)])
    assert_refused(result, "CI-021", name)


def test_the_command_is_looked_up_inside_the_chroot(run_job, place):
    script = place / "script"
    script.write_text("#!/bin/sh\necho outside\n")
    script.chmod(0o755)
    assert run_job([str(script)], policy={"root": ROOTS}).text == "outside"
    result = run_job([str(script)], policy={"root": ROOTS}, **IN_TINY)
    assert_refused(result, "CI-020", str(script), "ENOENT")


def test_a_working_directory_that_the_chroot_lacks_is_refused(run_job, place):
    how = {"cwd": str(place), "policy": {"root": ROOTS}}
    assert run_job(["/bin/pwd"], **how).text == str(place)
    assert_refused(run_job(["/bin/pwd"], **how, **IN_TINY), "CI-023", str(place), "ENOENT")
    assert_refused(
        run_job(["/bin/pwd"], **{**how, "cwd": "/srv"}, **IN_TINY), "CI-023", "/srv is another"
    )
