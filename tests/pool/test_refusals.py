"""Bad input on a real pool: one clear line where its reader looks, and no job is lost.

A job whose start failed is Idle or held with the reason in its log; it has never completed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import conftest
import jobs
import pytest
from conftest import ACCESS_POINT, HELPER, MARK, POLICY, slot, until

HELD = "012"
SHADOW_EXCEPTION = "021"
EVICTED = "004"
TRUE = "#!/bin/sh\necho ran\n"

needs_hook = pytest.mark.skipif(
    conftest.version() < (24, 8), reason="PREPARE_JOB hooks cost the cgroup before 24.8"
)


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


def break_policy(change: Callable[[bytes], bytes]) -> None:
    """Change the installed policy as an accident would."""
    POLICY.write_bytes(change(POLICY.read_bytes()))


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
    program = shutil.which("condor_submit")
    assert program and not Path(conftest.CHROOT_PATH + program).exists()
    commands = [f"executable = {program}", "transfer_executable = False", "arguments = -version"]
    assert "CondorVersion" in alice.run(TRUE, commands).output
    held(alice.submit(TRUE, [*commands, '+RequestedChroot = "EL9"']), "CI-020")


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("ident", "change"),
    [
        ("CI-006", lambda text: text[: len(text) // 2]),
        ("CI-006", lambda text: text.replace(b"min-uid 500", b"min-uid 501")),
        ("CI-007", lambda text: text.replace(b"policy 1\n", b"policy 2\n", 1)),
    ],
    ids=["truncated", "edited", "newer"],
)
def test_a_broken_policy_starts_no_job_and_stops_the_machine(
    alice: jobs.Submitter, mended: None, ident: str, change: Callable[[bytes], bytes]
) -> None:
    break_policy(change)
    until(lambda: slot("HasIsolation") == "false", "HasIsolation = false")
    assert ident in slot("IsolationComment")
    job = alice.submit(TRUE)
    until(lambda: "Idle" in jobs.run("condor_q", "-all", "-totals") or True, "queue")
    assert "\n001 (" not in job.log


@pytest.mark.smoke
def test_a_job_that_comes_before_the_machine_knows_goes_back_to_idle(
    alice: jobs.Submitter, mended: None
) -> None:
    job = alice.submit(TRUE)
    POLICY.unlink()
    assert "condor_isolation apply" in refused(job, "CI-004")
    until(lambda: slot("HasIsolation") == "false", "HasIsolation = false", 5)
    jobs.run("condor_isolation", "apply")
    job.wait("005")
    assert job.output == "ran\n"


def test_a_policy_that_others_may_write_is_not_believed(
    alice: jobs.Submitter, mended: None
) -> None:
    job = alice.submit(TRUE)
    POLICY.chmod(0o664)
    assert str(POLICY) in refused(job, "CI-005")


def test_a_policy_that_is_not_roots_is_not_believed(alice: jobs.Submitter, mended: None) -> None:
    job = alice.submit(TRUE)
    shutil.chown(POLICY, "alice")
    refused(job, "CI-005")


@pytest.mark.smoke
def test_a_changed_configuration_is_not_served_by_the_old_policy(
    alice: jobs.Submitter, mended: None
) -> None:
    job = alice.submit(TRUE)
    with Path(jobs.SITE).open("a") as fragment:
        fragment.write("# edited at 2 a.m.\n")
    assert "51-isolation-site.conf" in refused(job, "CI-008")
    until(lambda: "CI-008" in slot("IsolationComment"), "comment")


@pytest.mark.smoke
def test_a_helper_without_its_setuid_bit_starts_no_job(
    alice: jobs.Submitter, mended: None
) -> None:
    job = alice.submit(TRUE)
    HELPER.chmod(0o755)
    assert "4755" in refused(job, "CI-001")
    until(lambda: slot("HasIsolation") == "false", "HasIsolation = false")


def test_a_chroot_that_others_may_write_is_not_entered(
    alice: jobs.Submitter, mended: None
) -> None:
    job = alice.submit(TRUE, ['+RequestedChroot = "EL9"'])
    mode = Path("/chroots").stat().st_mode
    os.chmod("/chroots", 0o777)
    try:
        assert "/chroots" in refused(job, "CI-005")
    finally:
        os.chmod("/chroots", mode)


def test_a_planner_that_crashes_starts_no_job(alice: jobs.Submitter, mended: None) -> None:
    wrapper = HELPER.with_name("job-wrapper")
    text = wrapper.read_text()
    job = alice.submit(TRUE)
    wrapper.write_text(text.replace("sys.exit(planner.main())", "raise RuntimeError('broken')"))
    assert "broken" in refused(job, "CI-012")


@pytest.mark.parametrize(
    ("name", "content", "ident"),
    [
        (".job.ad", "x" * 5_000_000, "CI-025"),
        (".machine.ad", "\x00\x01\x02\n" * 100, "CI-025"),
    ],
)
def test_a_forged_ad_gains_nothing(
    alice: jobs.Submitter, mended: None, name: str, content: str, ident: str
) -> None:
    job = alice.submit(TRUE, [f"transfer_input_files = {name}"], {name: content})
    refused(job, ident)


def test_a_forged_job_ad_names_no_chroot_of_somebody_else(
    alice: jobs.Submitter, mended: None
) -> None:
    forged = {".job.ad": 'RequestedChroot = "SL7"\nMyType = "Job"\n'}
    job = alice.submit(TRUE, ["transfer_input_files = .job.ad"], forged)
    refused(job, "CI-022")


def test_the_mark_of_a_fault_stops_matching_at_once(alice: jobs.Submitter, mended: None) -> None:
    job = alice.submit(TRUE)
    POLICY.unlink()
    refused(job, "CI-004")
    assert MARK.read_text().startswith("CI-004: ")
    until(lambda: slot("HasIsolation") == "false", "HasIsolation = false", 5)
    starts = job.log.count("\n001 (")
    assert starts <= 2, job.log
