"""The cron job: HasIsolation is true only as long as everything it can see is in order."""

import os
import subprocess
import sys
import time
from pathlib import Path

import classad2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condor_isolation import advertise, ownership, records

REPO = Path(__file__).resolve().parents[2]
SCRIPT = REPO / "wrappers" / "advertise"


class Machine:
    """A machine in a directory, with a policy that the cron job takes."""

    def __init__(self, directory, monkeypatch):
        self.directory = directory
        self.helper = directory / "isolate"
        self.helper.write_text("")
        self.helper.chmod(0o4755)
        self.wrapper = directory / "job-wrapper"
        self.wrapper.write_text(f"#!{self.helper}\n")
        self.source = directory / "condor_config"
        self.source.write_text("X = 1\n")
        self.policy = directory / "policy"
        self.roots = []
        self.enable, self.forced = "1", ""
        self.untrusted = {}
        monkeypatch.setattr(ownership, "untrusted", lambda path: self.untrusted.get(path, ""))
        monkeypatch.setattr(advertise, "ROOT", os.getuid())

    def chroot(self, name):
        path = self.directory / name
        path.mkdir(exist_ok=True)
        self.roots.append((name, str(path)))
        return path

    def write(self):
        status = self.source.stat()
        rows = [
            ("enable", self.enable),
            ("source", str(status.st_mtime_ns), str(status.st_size), str(self.source)),
            ("starter", "/usr/sbin/condor_starter"),
            ("wrapper", str(self.wrapper)),
            ("planner", "/usr/bin/python3", str(self.wrapper)),
            ("min-uid", "500"),
            ("execute", "/var/lib/condor/execute"),
            *(("root", name, path, "ro") for name, path in self.roots),
            *([("root-forced", self.forced)] if self.forced else []),
            ("shm-size", "1048576"),
            ("network", "host"),
            *(("mode", name, mode) for name, mode, _help in records.CONTROLS),
        ]
        self.policy.write_bytes(records.encode("policy", rows))

    def ad(self, policy=None):
        """Return the ad as HTCondor reads it."""
        text = advertise.examine(policy or advertise.Policy(str(self.policy)))
        return dict(classad2.parseNext(text, classad2.ParserType.Old))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine(tmp_path, monkeypatch)
    made.write()
    return made


def unfit(machine, ident):
    ad = machine.ad()
    assert ad["HasIsolation"] is False
    assert ad["IsolationComment"].startswith(ident), ad["IsolationComment"]
    assert not set(advertise.NAME_LISTS) & set(ad)
    return ad["IsolationComment"]


def test_a_machine_in_order_has_isolation_and_says_its_version(machine):
    ad = machine.ad()
    assert ad["HasIsolation"] is True
    assert ad["IsolationMode"] == "setuid" and ad["IsolationVersion"]
    assert ad["IsolationRoots"] == "" and "IsolationComment" not in ad


def test_without_chroots_there_is_no_list_of_them_to_match(machine):
    assert not set(advertise.NAME_LISTS) & set(machine.ad())


def test_chroots_are_offered_under_every_name_that_condor_submit_asks_for(machine):
    machine.chroot("EL8"), machine.chroot("EL9")
    machine.write()
    ad = machine.ad()
    assert [ad[name] for name in ("NamedChroot", "edChroot", "ed_chroot")] == ["EL8,EL9"] * 3
    assert ad["IsolationRoots"] == "EL8,EL9"


def test_without_a_policy_there_is_no_isolation(machine):
    machine.policy.unlink()
    unfit(machine, "CI-004")


@pytest.mark.parametrize("damage", [b"", b"junk", b"\xff\xfe"])
def test_a_damaged_policy_is_no_policy(machine, damage):
    machine.policy.write_bytes(damage)
    unfit(machine, "CI-006")


def test_a_policy_edited_by_hand_is_no_policy(machine):
    machine.policy.write_bytes(machine.policy.read_bytes().replace(b"min-uid 500", b"min-uid 100"))
    unfit(machine, "CI-006")


def test_a_changed_or_missing_source_makes_the_policy_stale(machine):
    machine.source.write_text("X = 2 \n")
    assert str(machine.source) in unfit(machine, "CI-008")
    machine.source.unlink()
    unfit(machine, "CI-008")


def test_a_policy_that_was_good_is_looked_at_again(machine):
    policy = advertise.Policy(str(machine.policy))
    assert machine.ad(policy)["HasIsolation"] is True
    machine.source.write_text("X = 22\n")
    assert machine.ad(policy)["HasIsolation"] is False
    machine.write()
    assert machine.ad(policy)["HasIsolation"] is True


def test_a_policy_that_became_bad_does_not_count_as_the_good_one_it_was(machine):
    policy = advertise.Policy(str(machine.policy))
    machine.ad(policy)
    machine.policy.write_bytes(b"junk")
    assert machine.ad(policy)["HasIsolation"] is False
    assert machine.ad(policy)["HasIsolation"] is False


@pytest.mark.parametrize("mode", [0o755, 0o4775, 0o6755])
def test_a_helper_that_is_not_setuid_or_is_more_is_no_helper(machine, mode):
    machine.helper.chmod(mode)
    unfit(machine, "CI-001")


def test_a_helper_of_another_user_is_no_helper(machine, monkeypatch):
    monkeypatch.setattr(advertise, "ROOT", os.getuid() + 1)
    unfit(machine, "CI-001")


def test_a_helper_on_a_nosuid_mount_is_no_helper(machine, monkeypatch):
    mount = type("Mount", (), {"f_flag": os.ST_NOSUID})
    monkeypatch.setattr(os, "statvfs", lambda _path: mount)
    assert "nosuid" in unfit(machine, "CI-001")


def test_a_missing_helper_or_wrapper_is_said(machine):
    machine.helper.unlink()
    unfit(machine, "CI-001")
    machine.wrapper.unlink()
    unfit(machine, "CI-001")


def test_the_emergency_exit_is_no_isolation(machine):
    machine.enable = "0"
    machine.write()
    unfit(machine, "ISOLATION_ENABLE is False")


def test_a_chroot_that_cannot_be_used_is_not_offered_and_the_rest_is(machine):
    machine.chroot("EL8").rmdir()
    machine.untrusted[str(machine.chroot("EL7"))] = "/x belongs to uid 7"
    machine.chroot("EL9")
    machine.write()
    ad = machine.ad()
    assert ad["HasIsolation"] is True and ad["NamedChroot"] == "EL9"
    assert ad["IsolationComment"].startswith("CI-017: EL8")


def test_a_link_in_the_place_of_a_chroot_is_none(machine):
    machine.chroot("EL8").rmdir()
    (machine.directory / "EL8").symlink_to("/")
    machine.write()
    assert "NamedChroot" not in machine.ad()


def test_if_every_job_gets_a_chroot_that_cannot_be_used_there_is_no_isolation(machine):
    machine.chroot("EL8").rmdir()
    machine.forced = "EL8"
    machine.write()
    unfit(machine, "CI-017")


def test_the_mark_of_a_failed_job_counts_for_a_while(tmp_path):
    mark = tmp_path / "fault"
    now = time.time()
    assert advertise.fault(str(mark), now) == ""
    mark.write_text("CI-015: pid: no such luck\nsecond line\n")
    assert advertise.fault(str(mark), now) == "CI-015: pid: no such luck"
    assert advertise.fault(str(mark), now + advertise.FAULT_SECONDS + 1) == ""
    mark.write_text("")
    assert advertise.fault(str(mark), now) == "a job could not be isolated"


def test_a_mark_from_a_clock_that_was_wrong_does_not_count_for_ever(tmp_path):
    mark = tmp_path / "fault"
    mark.write_text("x")
    os.utime(mark, (2**32, 2**32))
    assert advertise.fault(str(mark), time.time()) == ""


@given(st.text(max_size=200))
def test_whatever_the_reason_the_ad_is_one_that_htcondor_can_read(text):
    ad = classad2.parseNext(advertise.make_ad([], False, text), classad2.ParserType.Old)
    assert ad["HasIsolation"] is False
    assert ("IsolationComment" in ad) == bool(text)


def test_the_process_says_a_fault_and_its_end_within_two_seconds(tmp_path):
    mark = tmp_path / "fault"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from condor_isolation import advertise; "
        "advertise.examine = lambda _policy: 'HasIsolation = true\\n'; "
        "advertise.main('/nonexistent', sys.argv[2])"
    )
    command = [sys.executable, "-IS", "-c", code, str(REPO), str(mark)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "HasIsolation = true\n"
            assert process.stdout.readline() == "- update:true\n"
            start = time.monotonic()
            mark.write_text("CI-015: x\n")
            assert process.stdout.readline() == "HasIsolation = false\n"
            while process.stdout.readline() != "- update:true\n":
                pass
            mark.unlink()
            assert process.stdout.readline() == "HasIsolation = true\n"
            assert time.monotonic() - start < 3
        finally:
            process.kill()


def test_the_process_ends_when_the_startd_does(tmp_path):
    pid = tmp_path / "pid"
    command = f"{sys.executable} -IS {SCRIPT} >/dev/null 2>&1 & echo $! > {pid}; sleep 0.3"
    subprocess.run(["/bin/sh", "-c", command], check=True)
    for _attempt in range(100):
        if not Path("/proc", pid.read_text().strip()).exists():
            return
        time.sleep(0.05)
    os.kill(int(pid.read_text()), 9)
    pytest.fail("it lives on")


def test_what_stays_in_memory_is_little():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from condor_isolation import advertise; "
        "print(sorted(m for m in sys.modules if m in "
        "{'re', 'json', 'dataclasses', 'subprocess', 'typing', 'click', 'classad2', 'enum'}))"
    )
    command = [sys.executable, "-IS", "-c", code, str(REPO)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
