"""Bad input on a real pool: one clear line where its reader looks, and no job is lost.

A job whose start failed is Idle or held with the reason in its log; it has never completed.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import jobs
import pool
import pytest
from pool import ACCESS_POINT, HELPER, MARK, POLICY, slot, until

HELD = "012"
EVICTED = "004"
TRUE = "#!/bin/sh\necho ran\n"


def refused(job: jobs.Job, ident: str) -> str:
    """Wait until the job is back to Idle for reason IDENT; return the line that says so."""
    log = job.wait(EVICTED)
    assert "005 (" not in log, log
    found = re.search(rf"^\s+(?:Error from .*: )?(.*{ident}: .*)$", log, re.MULTILINE)
    assert found, log
    return found.group(1)


def held(job: jobs.Job, ident: str) -> str:
    """Wait until the job is held for reason IDENT; return what condor_q -hold shows."""
    log = job.wait(HELD)
    assert "\n005 (" not in log and "\n001 (" not in log, log
    said = jobs.run("condor_q", "-hold", str(job.cluster), "-af", "HoldReason")
    assert ident in said, said
    ad = job.ad()
    assert ad["HoldReasonSubCode"] == int(ident.removeprefix("CI-")), ad
    return said.strip()


def test_an_unknown_chroot_is_held_with_what_is_offered(
    alice: jobs.Submitter, mended: None
) -> None:
    ACCESS_POINT.unlink()  # it would keep the job Idle
    jobs.run("condor_isolation", "apply")
    said = held(alice.submit(TRUE, ['+RequestedChroot = "L9"']), "CI-021")
    assert "L9" in said and "EL9" in said and "SL7" not in said.replace("bob", "")


def test_a_chroot_of_somebody_else_is_held(alice: jobs.Submitter) -> None:
    said = held(alice.submit(TRUE, ['+RequestedChroot = "SL7"']), "CI-022")
    assert "SL7" in said
    assert jobs.Submitter("bob").run(TRUE, ['+RequestedChroot = "SL7"']).output == "ran\n"


def test_an_attribute_of_the_wrong_type_is_held(alice: jobs.Submitter) -> None:
    job = alice.submit(TRUE, ['+IsolationPidsMax = "many"'])
    assert "IsolationPidsMax" in held(job, "CI-026")


def test_more_than_the_ceiling_is_held(alice: jobs.Submitter) -> None:
    job = alice.submit(TRUE, ["+IsolationPidsMax = 1000000"])
    assert "1000000" in held(job, "CI-024")


@pytest.mark.parametrize(
    ("commands", "script"),
    [
        (["executable = /no/such/program", "transfer_executable = False"], TRUE),
        (["executable = /etc/hostname", "transfer_executable = False"], TRUE),
        ([], "#!/no/such/interpreter\n"),
    ],
    ids=["missing", "not-executable", "bad-interpreter"],
)
def test_a_command_that_cannot_run_is_held(
    alice: jobs.Submitter, commands: list[str], script: str
) -> None:
    held(alice.submit(script, commands), "CI-020")


def test_a_command_that_is_missing_in_the_chroot_only_is_held(alice: jobs.Submitter) -> None:
    program = "/usr/bin/python3"
    assert not Path(pool.CHROOT_PATH + program).exists()
    commands = [f"executable = {program}", "transfer_executable = False", "arguments = -V"]
    assert "Python 3" in alice.run(TRUE, commands).output
    held(alice.submit(TRUE, [*commands, '+RequestedChroot = "EL9"']), "CI-020")


BREAKS = {
    "CI-004": Path.unlink,
    "CI-005 mode": lambda policy: policy.chmod(0o664),
    "CI-005 owner": lambda policy: shutil.chown(policy, "alice"),
    "CI-006 truncated": lambda policy: change(policy, lambda text: text[: len(text) // 2]),
    "CI-006 edited": lambda policy: change(policy, lambda text: text.replace(b"id 500", b"id 501")),
    "CI-007": lambda policy: change(policy, lambda text: text.replace(b"policy 1", b"policy 2", 1)),
    "CI-008": lambda policy: touch(jobs.SITE),
    "CI-001": lambda policy: HELPER.chmod(0o755),
}


def change(path: Path, edit: Callable[[bytes], bytes]) -> None:
    """Edit a file as an accident would."""
    path.write_bytes(edit(path.read_bytes()))


def touch(path: Path) -> None:
    """Edit a fragment as an administrator would who then forgets to apply."""
    path.write_text(path.read_text() + "# edited at 2 a.m.\n")


@pytest.mark.smoke
@pytest.mark.parametrize("what", BREAKS)
def test_a_job_on_a_broken_machine_goes_back_to_idle_with_the_reason(
    alice: jobs.Submitter, exposed: None, what: str
) -> None:
    BREAKS[what](POLICY)
    reason = refused(alice.submit(TRUE), what.split()[0])
    assert "condor_isolation apply" in reason or "4755" in reason or "chown root" in reason


@pytest.mark.smoke
@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_machine_stops_matching_says_why_and_matches_again_when_mended(
    alice: jobs.Submitter, mended: None, what: str
) -> None:
    BREAKS[what](POLICY)
    until(lambda: slot("HasIsolation") == "false", "HasIsolation = false")
    assert what.split()[0] in slot("IsolationComment")
    job = alice.submit(TRUE)
    time.sleep(3)  # three cycles of the negotiator
    assert "\n001 (" not in job.log
    jobs.install()
    jobs.run("condor_isolation", "apply")
    job.wait("005")
    assert job.output == "ran\n"


def test_the_mark_of_a_fault_stops_the_machine_at_once(
    alice: jobs.Submitter, exposed: None
) -> None:
    os.rename("/chroots", "/gone")  # the machine's fault, which the policy does not show
    try:
        job = alice.submit(TRUE, ['+WantOS = "EL9"'])
        refused(job, "CI-017")
        assert MARK.read_text().startswith("CI-017: ")
        until(lambda: slot("HasIsolation") == "false", "HasIsolation = false")
        assert "CI-017" in slot("IsolationComment")
    finally:
        os.rename("/gone", "/chroots")


def test_a_chroot_that_others_may_write_is_not_entered(
    alice: jobs.Submitter, exposed: None
) -> None:
    mode = Path("/chroots").stat().st_mode
    os.chmod("/chroots", 0o777)
    try:
        assert "/chroots" in refused(alice.submit(TRUE, ['+WantOS = "EL9"']), "CI-005")
    finally:
        os.chmod("/chroots", mode)


@pytest.mark.parametrize(
    ("body", "ident"),
    [
        ("raise RuntimeError('broken')", "CI-012"),
        ("print('rubbish')", "CI-013"),
        ("while True: print('x' * 65536)", "CI-013"),
        ("import ctypes; ctypes.string_at(0)", "CI-012"),
    ],
    ids=["crash", "rubbish", "huge", "signal"],
)
def test_a_broken_planner_starts_no_job_and_leaves_no_mark(
    alice: jobs.Submitter, exposed: None, body: str, ident: str
) -> None:
    wrapper = HELPER.with_name("job-wrapper")
    wrapper.write_text(wrapper.read_text().splitlines()[0] + "\n" + body + "\n")
    refused(alice.submit(TRUE), ident)
    assert not MARK.exists()


def test_a_forged_job_ad_that_is_too_big_gains_nothing(
    alice: jobs.Submitter, exposed: None
) -> None:
    forged = {".job.ad": "x" * 5_000_000}
    refused(alice.submit(TRUE, ["transfer_input_files = .job.ad"], forged), "CI-025")


def test_a_forged_job_ad_opens_no_chroot_of_somebody_else(
    alice: jobs.Submitter, exposed: None
) -> None:
    forged = {".job.ad": 'WantOS = "SL7"\nMyType = "Job"\n'}
    refused(alice.submit(TRUE, ["transfer_input_files = .job.ad"], forged), "CI-022")


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("input = /", "descriptor 0"),
        ("input = {secret}", "descriptor 0"),
        ("output = {secret}", "descriptor 1"),
    ],
    ids=["directory", "read", "write"],
)
def test_a_standard_descriptor_reaches_no_other_sandbox(
    alice: jobs.Submitter, exposed: None, command: str, what: str
) -> None:
    other = alice.submit("#!/bin/sh\necho secret >secret; sleep 300\n")
    other.wait("001")
    execute = Path(jobs.run("condor_config_val", "EXECUTE").strip())
    other.until(lambda: bool(list(execute.glob("dir_*/**/secret"))), "file of the other job")
    [secret] = execute.glob("dir_*/**/secret")
    # The positive control: the starter opens it, as this uid may.
    assert jobs.as_user("alice", "cat", str(secret), cwd=Path("/")) == "secret\n"
    commands = [command.format(secret=secret), "should_transfer_files = NO"]
    job = alice.submit("#!/bin/sh\ncat <&0; ls /proc/self/fd/0/\n", commands)
    assert what in refused(job, "CI-032")
    other.remove()
