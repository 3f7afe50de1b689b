"""Installing the policy: whole or not at all, and never by accident."""

import os
import stat

import pytest

from condor_isolation import apply, compile, condor, machine, ownership, records, trust
from condor_isolation.apply import ApplyError
from condor_isolation.condor import CondorError, Config, effective
from condor_isolation.machine import Machine
from condor_isolation.problems import ERROR, errors
from condor_isolation.settings import Knob, Settings

OLD, NEW = b"old policy\n", b"new policy\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a directory that stands for /etc/condor-isolation, trusted as that is."""
    directory = tmp_path / "condor-isolation"
    monkeypatch.setattr(compile, "POLICY_DIRECTORY", str(directory))
    monkeypatch.setattr(compile, "POLICY_PATH", str(directory / "policy"))
    monkeypatch.setattr(apply, "FAULT_MARK", str(tmp_path / "fault"))
    monkeypatch.setattr(ownership, "untrusted", lambda _path: "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return directory


def result(**facts):
    config = Config((25, 14, 1), {})
    return apply.Result(Settings(), Machine(config, **facts), (), NEW)


def test_the_policy_is_readable_by_all_and_writable_by_its_owner(place):
    os.umask(0o077)
    apply.install(NEW)
    assert (place / "policy").read_bytes() == NEW
    assert stat.S_IMODE((place / "policy").stat().st_mode) == 0o644
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
    os.umask(0o022)


@pytest.mark.parametrize("call", ["fsync", "rename", "fchmod"])
def test_a_failure_on_the_way_leaves_the_old_policy_and_nothing_else(place, monkeypatch, call):
    apply.install(OLD)

    def fail(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(ApplyError, match="No space left on device"):
        apply.install(NEW)
    assert (place / "policy").read_bytes() == OLD
    assert [entry.name for entry in place.iterdir()] == ["policy"]


def test_an_interrupt_on_the_way_leaves_the_old_policy_and_nothing_else(place, monkeypatch):
    apply.install(OLD)

    def interrupt(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        apply.install(NEW)
    assert [entry.name for entry in place.iterdir()] == ["policy"]
    assert (place / "policy").read_bytes() == OLD


def test_a_directory_that_others_may_write_is_refused(place, monkeypatch):
    monkeypatch.setattr(ownership, "untrusted", lambda path: f"{path} belongs to uid 7")
    with pytest.raises(ApplyError, match="belongs to uid 7"):
        apply.install(NEW)
    assert not (place / "policy").exists()


def test_a_link_in_the_place_of_the_directory_is_refused(place, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to("elsewhere")
    with pytest.raises(ApplyError, match="symbolic link"):
        apply.install(NEW)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_who_is_not_root_installs_nothing(place, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ApplyError, match="only root"):
        list(apply.apply(result(), reconfig=False))
    assert not place.exists()


def test_the_mark_of_a_fault_goes_with_the_old_policy(place, tmp_path):
    (tmp_path / "fault").write_text("CI-004: x\n")
    list(apply.apply(result(), reconfig=False))
    assert not (tmp_path / "fault").exists()
    assert (place / "policy").read_bytes() == NEW


def test_htcondor_is_told_only_if_it_runs_and_only_if_wanted(place, monkeypatch):
    told = []
    monkeypatch.setattr(condor, "reconfig", lambda: told.append(1))
    monkeypatch.setattr(condor, "master_pid", lambda _config: None)
    assert "does not run" in list(apply.apply(result(), reconfig=True))[-1]
    monkeypatch.setattr(condor, "master_pid", lambda _config: 7)
    list(apply.apply(result(), reconfig=False))
    assert not told
    list(apply.apply(result(), reconfig=True))
    assert told


def test_if_htcondor_cannot_be_told_the_policy_is_installed_and_that_is_said(place, monkeypatch):
    def fail():
        raise CondorError("condor_reconfig failed: no master")

    monkeypatch.setattr(condor, "reconfig", fail)
    monkeypatch.setattr(condor, "master_pid", lambda _config: 7)
    with pytest.raises(ApplyError, match=r"^the policy is installed, but condor_reconfig failed"):
        list(apply.apply(result(), reconfig=True))
    assert (place / "policy").read_bytes() == NEW


# Mount points


def point(path, wanted=trust.DIRECTORY, kind=trust.MISSING):
    return trust.MountPoint(os.path.dirname(path), path, wanted, str(path), kind)


def test_missing_mount_points_are_made_with_their_parents(tmp_path):
    os.umask(0o077)
    directory, file = tmp_path / "a/b", tmp_path / "c/d"
    made = list(apply.make_mount_points([point(str(directory)), point(str(file), trust.FILE)]))
    os.umask(0o022)
    assert made == [str(directory), str(file)]
    assert directory.is_dir() and file.read_bytes() == b""
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_what_is_there_is_left_alone(tmp_path):
    (tmp_path / "f").write_text("mine")
    points = [point(str(tmp_path / "f"), trust.FILE, trust.FILE), point(str(tmp_path / "f"))]
    assert list(apply.make_mount_points(points)) == []
    assert (tmp_path / "f").read_text() == "mine"


def test_no_file_is_made_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to("target")
    assert list(apply.make_mount_points([point(str(tmp_path / "link"), trust.FILE)])) == []
    assert not (tmp_path / "target").exists()


def test_a_mount_point_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(ApplyError, match="f/d"):
        list(apply.make_mount_points([point(str(tmp_path / "f/d"))]))


# What changes


def policy(*lines):
    text = "\n".join([f"{records.MAGIC} policy 1", *lines, f"end {len(lines)} 0"]) + "\n"
    return text.encode()


def test_the_difference_is_records_that_go_and_come():
    old = policy("enable 1", "private /tmp", "source 1 2 /etc/x")
    new = policy("enable 1", "private /var/tmp", "source 3 4 /etc/x", "source 5 6 /etc/y")
    assert list(apply.difference(old, new)) == [
        "- private /tmp",
        "+ private /var/tmp",
        "+ source /etc/y",
    ]


def test_a_new_policy_and_a_broken_old_one_differ_in_everything():
    new = policy("enable 1")
    assert list(apply.difference(b"", new)) == list(apply.difference(b"junk\xff", new))
    assert list(apply.difference(b"", new)) == ["+ enable 1"]


def test_a_long_difference_is_cut():
    new = policy(*(f"private /p{n}" for n in range(100)))
    lines = list(apply.difference(b"", new))
    assert len(lines) == apply.DIFF_LINES_MAX + 1
    assert lines[-1] == "... and 60 more"


# From the configuration to the policy


def configuration(monkeypatch, **knobs):
    table = effective(Knob(name, value, "site.conf:1") for name, value in knobs.items())
    read = (Config((25, 14, 1), table), (machine.Source("/etc/x", 1, 2),), ())
    monkeypatch.setattr(machine, "read_config", lambda: read)


def test_a_configuration_with_an_error_gives_no_policy(monkeypatch):
    configuration(monkeypatch)
    found = apply.examine()
    assert errors(found.problems) and found.policy == b""


def test_an_emergency_gives_a_policy_whatever_else_is_wrong(monkeypatch):
    configuration(
        monkeypatch,
        ISOLATION_ENABLE="False",
        EXECUTE="/var/lib/condor/execute",
        STARTER="/usr/sbin/condor_starter",
        USER_JOB_WRAPPER="/gone/job-wrapper",
        NAMED_CHROOT="EL9=/gone, EL9=/other, x",
        ISOLATION_XYZ="1",
    )
    found = apply.examine()
    assert found.problems and not errors(found.problems)
    assert ["enable", "0"] in records.decode("policy", found.policy)


def test_what_does_not_fit_the_format_is_an_error_and_no_policy(monkeypatch):
    configuration(monkeypatch, ISOLATION_ENABLE="False", EXECUTE="relative")
    found = apply.examine()
    assert [p.name for p in found.problems if p.severity == ERROR] == ["APPLY"]
    assert found.policy == b""
