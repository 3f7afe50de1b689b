"""The main job: condor_submit with a named chroot runs isolated."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import jobs
import pool
import pytest
from pool import ACCESS_POINT, CHROOT_PATH

WHERE = "#!/bin/sh\n. /etc/os-release; echo $VERSION_CODENAME\n"


def events(job: jobs.Job, number: str) -> list[str]:
    """Return the events with this NUMBER of the job's log, as texts."""
    return [part for part in job.log.split("\n...\n") if part.lstrip().startswith(f"{number} (")]


@pytest.mark.smoke
def test_a_job_that_names_a_chroot_runs_in_it(alice: jobs.Submitter) -> None:
    outside = alice.run(WHERE).output
    inside = alice.run(WHERE, ['+RequestedChroot = "EL9"']).output
    assert outside.strip() != inside.strip() == "bookworm"


@pytest.mark.smoke
def test_two_jobs_of_one_user_do_not_see_each_other(alice: jobs.Submitter) -> None:
    execute = Path(jobs.run("condor_config_val", "EXECUTE").strip())
    other = alice.submit("#!/bin/sh\necho secret >/tmp/secret; sleep 300\n")
    other.wait("001")
    other.until(lambda: bool(list(execute.glob("dir_*/**/tmp/secret"))), "file of the other job")
    [secret] = execute.glob("dir_*/**/tmp/secret")
    # The positive control: without isolation this uid reads the file and sees the process.
    assert jobs.as_user("alice", "cat", str(secret), cwd=Path("/")) == "secret\n"
    assert "sleep 300" in jobs.as_user("alice", "ps", "-u", "alice", "-o", "args", cwd=Path("/"))
    look = f"#!/bin/sh\nps -e -o args; cat {secret}; ls /tmp {execute}\n"
    job = alice.run(look)
    assert "sleep 300" not in job.output
    assert f"{secret}: No such file or directory" in job.errors
    assert [line for line in job.output.split() if line.startswith("dir_")] == [
        re.findall(r"dir_\d+", job.ad().get("LastRemoteScratchDir", "") or job.output)[-1]
    ]
    other.remove()


@pytest.mark.smoke
@pytest.mark.parametrize("status", [0, 1, 3, 126, 127, 255])
def test_an_exit_status_reaches_the_submitter(alice: jobs.Submitter, status: int) -> None:
    job = alice.run(f"#!/bin/sh\nexit {status}\n")
    assert f"return value {status})" in job.log


@pytest.mark.smoke
@pytest.mark.parametrize("number", [6, 9, 11, 15])
def test_a_death_by_signal_reaches_the_submitter(alice: jobs.Submitter, number: int) -> None:
    job = alice.run(f"#!/bin/sh\nkill -{number} $$\n")
    assert f"Abnormal termination (signal {number})" in job.log


def test_a_soft_kill_reaches_the_job(alice: jobs.Submitter) -> None:
    script = "#!/bin/sh\ntrap 'echo caught; exit 0' TERM\nwhile :; do sleep 0.1; done\n"
    job = alice.submit(script, ["when_to_transfer_output = ON_EXIT_OR_EVICT"])
    job.wait("001")
    jobs.run("condor_vacate_job", str(job.cluster))
    job.until(lambda: bool(events(job, "004")) or bool(events(job, "005")), "eviction")
    job.remove()
    spool = jobs.run("condor_config_val", "SPOOL").strip()
    kept = jobs.run("grep", "-rl", "caught", spool, str(job.directory), check=False)
    assert kept.strip(), job.log


def test_nothing_of_a_removed_job_is_left(alice: jobs.Submitter) -> None:
    script = "#!/bin/sh\n(setsid sh -c 'setsid sleep 4242 & sleep 4243' &)\nsleep 4244\n"
    job = alice.submit(script)
    job.wait("001")

    def running() -> int:
        return jobs.run("ps", "-e", "-o", "args").count("\nsleep 424")

    pool.until(lambda: running() == 3, "three processes of the job")
    job.remove()
    pool.until(lambda: running() == 0, "end of the job's processes")


def test_a_daemon_that_a_job_leaves_ends_with_it(alice: jobs.Submitter) -> None:
    alice.run("#!/bin/sh\n(setsid sleep 4245 >/dev/null 2>&1 </dev/null &)\nsleep 0.3\n")
    assert "sleep 4245" not in jobs.run("ps", "-e", "-o", "args")


def test_the_environment_of_the_job_is_whole(alice: jobs.Submitter) -> None:
    environment = "LD_LIBRARY_PATH=/a:/b MALLOC_PERTURB_=3 GCONV_PATH=/g TWO='a b'"
    job = alice.run("#!/bin/sh\nenv\n", [f'environment = "{environment}"'])
    for line in ("LD_LIBRARY_PATH=/a:/b", "MALLOC_PERTURB_=3", "GCONV_PATH=/g", "TWO=a b"):
        assert line in job.output.splitlines()
    assert re.search(r"^TMPDIR=/tmp$", job.output, re.MULTILINE)


def test_the_submit_command_requested_chroot_matches_the_exact_name(
    alice: jobs.Submitter,
) -> None:
    job = alice.run(WHERE, ["requested_chroot = EL9"])
    assert job.output.strip() == "bookworm"
    assert job.ad()["RequestedChroot"] == "EL9"
    other = alice.submit(WHERE, ["requested_chroot = L9"])
    said = jobs.run("condor_q", "-better-analyze", str(other.cluster))
    other.remove()
    assert "NamedChroot" in said and not events(other, "001")


def test_an_access_point_without_our_fragment_matches_too(
    alice: jobs.Submitter, mended: None
) -> None:
    ACCESS_POINT.unlink()
    jobs.run("condor_isolation", "apply")
    job = alice.run(WHERE, ['+RequestedChroot = "EL9"'])
    assert job.output.strip() == "bookworm"


def test_condor_run_works(alice: jobs.Submitter) -> None:
    command = ("condor_run", "-a", "request_disk=10MB", "id -un")
    said = jobs.as_user("alice", *command, cwd=Path("/home/alice"))
    assert said.strip() == "alice"


def test_the_chroot_is_read_only_and_has_the_names_of_the_machine(alice: jobs.Submitter) -> None:
    script = "#!/bin/sh\ntouch /usr/x; cat /etc/hosts; id -un; getent passwd bob\n"
    job = alice.run(script, ['+RequestedChroot = "EL9"'])
    assert "Read-only file system" in job.errors
    assert job.output.splitlines()[0] == Path("/etc/hosts").read_text().splitlines()[0]
    assert job.output.splitlines()[-2] == "alice" and "bob" in job.output.splitlines()[-1]
    assert not Path(CHROOT_PATH, "usr/x").exists()


def test_lists_of_the_site_are_in_force(
    alice: jobs.Submitter, site: Callable[[str], str], tmp_path: Path
) -> None:
    for name in ("shown", "hidden", "fixed"):
        directory = Path("/srv", name)
        directory.mkdir()
        directory.chmod(0o777)
        (directory / "file").write_text(name)
    look = "cat shown/file; ls -A hidden; touch fixed/x; touch shown/y"
    script = f"#!/bin/sh\ncd /srv; {look}\n"
    control = alice.run(script)
    assert control.output.splitlines() == ["shownfile"] and control.errors == ""
    site("ISOLATION_HIDE = $(ISOLATION_HIDE), /srv/hidden\nISOLATION_READ_ONLY = /srv/fixed\n")
    job = alice.run(script)
    assert job.output == "shown"
    assert "'fixed/x': Read-only file system" in job.errors


@pytest.mark.smoke
def test_after_uninstall_jobs_run_as_before(alice: jobs.Submitter, mended: None) -> None:
    jobs.run("make", "-C", str(jobs.SOURCE), "uninstall")
    jobs.run("condor_reconfig")
    job = alice.run("#!/bin/sh\ngrep NoNewPrivs /proc/self/status; ps -e | wc -l\n")
    assert "NoNewPrivs:\t0" in job.output
    assert int(job.output.split()[-1]) > 10


def test_with_isolation_enable_false_jobs_run_as_before(
    alice: jobs.Submitter, mended: None
) -> None:
    jobs.configure(pool.SITE + "ISOLATION_ENABLE = False\n")
    pool.until(lambda: pool.slot("HasIsolation") == "false", "HasIsolation = false")
    job = alice.run("#!/bin/sh\ngrep NoNewPrivs /proc/self/status; exit 5\n")
    assert "NoNewPrivs:\t0" in job.output and "return value 5)" in job.log
