"""require, prefer and off: each control on its own terms."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from condor_isolation import records

from .conftest import CALL, assert_refused, ended_well
from .starter import ALICE, EXECUTE

LIMIT = {"limit": [("memory-max", str(64 << 20))]}


@pytest.mark.parametrize("control", records.CONTROL_WORDS)
@pytest.mark.parametrize("mode", records.MODES)
def test_a_job_runs_in_every_mode_of_a_control(run_job, control, mode):
    result = run_job(["/bin/sh", "-c", "echo fine"], policy={"modes": {control: mode}})
    assert ended_well(result), result.error_file
    assert result.text == "fine"


def test_a_job_runs_with_every_control_off(run_python):
    off = dict.fromkeys(records.CONTROL_WORDS, "off")
    code = """
import os
print(os.getresuid()[2], *(os.readlink(f'/proc/self/ns/{n}') for n in ('pid', 'ipc', 'uts')),
      [line for line in open('/proc/self/status') if line.startswith('CapBnd')])"""
    result = run_python(code, policy={"modes": off})
    assert ended_well(result)
    same = [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "ipc", "uts")]
    assert result.text.startswith(f"{ALICE} {' '.join(same)} ")
    assert "0000000000000000" in result.text  # what no mode takes away


OFF = {
    "pid": ("os.readlink('/proc/self/ns/pid')", lambda: os.readlink("/proc/self/ns/pid")),
    "ipc": ("os.readlink('/proc/self/ns/ipc')", lambda: os.readlink("/proc/self/ns/ipc")),
    "uts": ("os.readlink('/proc/self/ns/uts')", lambda: os.readlink("/proc/self/ns/uts")),
    "cgroup-namespace": (
        "os.readlink('/proc/self/ns/cgroup')",
        lambda: os.readlink("/proc/self/ns/cgroup"),
    ),
    "no-new-privs": ("call('prctl', 39, 0, 0, 0, 0)", lambda: 0),
    "nosuid": ("os.statvfs('/usr').f_flag & 2", lambda: 0),
    "sys": ("os.statvfs('/sys').f_flag & 1", lambda: 0),
    "proc": ("os.stat('/proc').st_dev", lambda: os.stat("/proc").st_dev),
    "tmp": ("os.stat('/tmp').st_ino", lambda: os.stat("/tmp").st_ino),
    "shm": ("os.stat('/dev/shm').st_dev", lambda: os.stat("/dev/shm").st_dev),
    "mqueue": ("os.stat('/dev/mqueue').st_dev", lambda: os.stat("/dev/mqueue").st_dev),
    "pts": ("os.stat('/dev/pts').st_dev", lambda: os.stat("/dev/pts").st_dev),
    "sandboxes": (f"os.stat('{EXECUTE}').st_dev", lambda: os.stat(EXECUTE).st_dev),
}


@pytest.mark.parametrize("control", OFF)
def test_off_is_off_and_nothing_else_is(run_python, control):
    expression, outside = OFF[control]
    code = f"{CALL}print({expression})"
    off = run_python(code, policy={"modes": {control: "off"}})
    assert ended_well(off), off.error_file
    assert off.text == str(outside())
    assert run_python(code).text != str(outside())
    for other in OFF:
        if other != control and (control, other) != ("ipc", "mqueue"):  # it shows that namespace
            expression, outside = OFF[other]
            seen = run_python(f"{CALL}print({expression})", policy={"modes": {control: "off"}})
            assert seen.text != str(outside()), other


def test_a_preferred_limit_that_the_machine_cannot_set_is_left_out(run_job):
    assert ended_well(run_job(["/bin/true"], policy={**LIMIT, "modes": {"limits": "prefer"}}))


def test_a_required_limit_that_the_machine_cannot_set_stops_the_job(run_job):
    result = run_job(["/bin/true"], policy={**LIMIT, "modes": {"limits": "require"}})
    assert_refused(result, "CI-015", "limits: memory-max")


def test_a_limit_that_is_off_is_not_tried(run_job):
    assert ended_well(run_job(["/bin/true"], policy={**LIMIT, "modes": {"limits": "off"}}))


@pytest.fixture
def group():
    """A memory cgroup for one job, as HTCondor makes one; and how its process enters it."""
    path = Path("/sys/fs/cgroup/memory/job")
    path.mkdir()

    def enter():
        (path / "cgroup.procs").write_text("0")

    yield path, enter
    path.rmdir()


def test_a_limit_is_set_on_the_cgroup_of_the_job(run_job, group):
    path, enter = group
    limit = path / "memory.limit_in_bytes"
    how = {"before_drop": enter, "policy": {**LIMIT, "modes": {"limits": "require"}}}
    assert int(limit.read_text()) > 1 << 40
    assert ended_well(run_job(["/bin/true"], **how))
    assert int(limit.read_text()) == 64 << 20


def test_the_tighter_limit_of_plan_and_policy_is_set(run_job, group):
    path, enter = group
    plan = [("limit", "memory-max", str(32 << 20))]
    how = {"before_drop": enter, "policy": {**LIMIT, "modes": {"limits": "require"}}}
    assert ended_well(run_job(["/bin/true"], plan=plan, **how))
    assert int((path / "memory.limit_in_bytes").read_text()) == 32 << 20


def test_a_limit_that_is_there_already_is_never_loosened(run_job, group):
    path, enter = group
    (path / "memory.limit_in_bytes").write_text(str(32 << 20))
    how = {"before_drop": enter, "policy": {**LIMIT, "modes": {"limits": "require"}}}
    assert ended_well(run_job(["/bin/true"], **how))
    assert int((path / "memory.limit_in_bytes").read_text()) == 32 << 20


def test_a_memory_limit_stops_a_job_that_needs_more(run_python, group):
    _path, enter = group
    code = "x = bytearray(200 << 20); print(len(x))"
    plain = run_python(code, before_drop=enter, wrapper=None)
    assert plain.text == str(200 << 20)
    result = run_python(code, before_drop=enter, policy=LIMIT)
    assert (result.signal, result.stdout, result.error_file) == (9, b"", None)


def test_the_limit_of_a_cgroup_shared_with_the_daemons_is_left_alone(run_job):
    """The whole node is in one: a limit on it would hit the starter."""
    root = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    before = root.read_text()
    assert ended_well(run_job(["/bin/true"], policy=LIMIT))
    assert root.read_text() == before


# A control that cannot be put in force: its mount point is missing in a chroot.


@pytest.mark.parametrize(
    ("control", "name"),
    [("proc", "proc"), ("sys", "sys"), ("tmp", "var/tmp")],
)
def test_a_preferred_control_that_cannot_be_set_is_left_out(run_job, control, name, chroot):
    (chroot / name).rmdir()
    how = {"plan": [("root", "spoilt")]}
    roots = [("spoilt", str(chroot), "ro")]
    require = run_job(["/bin/true"], policy={"root": roots}, **how)
    assert_refused(require, "CI-018", f"{control}: /{name}")
    prefer = run_job(["/bin/true"], policy={"root": roots, "modes": {control: "prefer"}}, **how)
    assert ended_well(prefer), prefer.error_file
