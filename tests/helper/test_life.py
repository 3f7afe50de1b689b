"""Monitor and init: the job ends as it would have ended, and nothing of it stays."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import CALL, mounts, processes_of_jobs, wait_until
from .starter import ALICE
from .test_rights import children, status_of

FATAL = [n for n in range(1, 65) if n not in (17, 18, 19, 20, 21, 22, 23, 28, 32, 33)]
FORWARDED = [n for n in FATAL if n != signal.SIGKILL]

COUNT_SIGNALS = """
import os, signal
signals = set(range(1, 65)) - {9, 19, 32, 33}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
os.write(1, b'ready\\n')
while True:
    os.write(1, b'%d\\n' % signal.sigwait(signals))
"""

DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3):
            if 'keep' not in sys.argv:
                os.close(fd)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open('alive', 'w').write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists('alive'):
    time.sleep(0.005)
print('ready', flush=True)
if 'stay' in sys.argv:
    time.sleep(600)
"""


@pytest.mark.parametrize("status", [0, 1, 2, 96, 125, 126, 127, 128, 137, 143, 254, 255])
def test_the_exit_status_is_the_jobs(run_job, status):
    result = run_job(["/bin/sh", "-c", f"exit {status}"])
    assert (result.exit_status, result.error_file, result.mark) == (status, None, None)


@pytest.mark.parametrize("number", FATAL)
def test_death_by_a_signal_is_the_jobs(run_python, number):
    code = f"import os, signal; signal.signal({number}, 0) if {number} != 9 else 0; "
    result = run_python(code + f"os.kill(os.getpid(), {number})")
    assert (result.exit_status, result.signal) == (None, number)
    assert (result.error_file, result.mark) == (None, None)


def test_a_job_that_dumps_core_leaves_its_core_and_the_monitor_none(run_python):
    import resource

    how = {"rlimits": {resource.RLIMIT_CORE: (1 << 24, 1 << 24)}}
    result = run_python("import os; os.abort()", **how)
    plain = run_python("import os; os.abort()", wrapper=None, **how)
    assert result.signal == plain.signal == signal.SIGABRT
    cores = [sorted(p.name.split(".")[0] for p in r.scratch.glob("core*")) for r in (result, plain)]
    assert cores[0] == cores[1]


@pytest.mark.parametrize("number", FORWARDED)
def test_a_signal_to_the_monitor_reaches_the_job_once(start_job, number):
    job = start_job(["/usr/bin/python3", "-I", "-c", COUNT_SIGNALS])
    job.wait_for(b"ready")
    job.send(number)
    assert job.wait_for(b"%d\n" % number, 5) == b"ready\n%d\n" % number
    job.send(signal.SIGKILL)
    assert job.wait().stdout == b"ready\n%d\n" % number


def test_the_jobs_user_may_signal_the_monitor(start_job):
    """HTCondor's interactive sessions do ``kill $_CONDOR_JOB_PIDS``."""
    job = start_job(["/usr/bin/python3", "-I", "-c", COUNT_SIGNALS])
    job.wait_for(b"ready")
    subprocess.run(["kill", "-USR1", str(job.pid)], user=ALICE, check=True)
    job.wait_for(b"10\n", 5)


def test_a_job_that_is_terminated_ends_by_that_signal(start_job):
    job = start_job(["/bin/sh", "-c", "echo ready; exec sleep 60"])
    job.wait_for(b"ready")
    job.send(signal.SIGTERM)
    result = job.wait(5)
    assert (result.signal, result.error_file) == (signal.SIGTERM, None)


def test_the_job_can_be_stopped_and_continued(start_job):
    job = start_job(["/bin/sh", "-c", "echo ready; exec sleep 0.2"])
    job.wait_for(b"ready")
    (init,) = children(job.pid)
    (main,) = children(init)
    os.kill(main, signal.SIGSTOP)
    wait_until(lambda: status_of(main)["State"].startswith("T"))
    time.sleep(0.3)
    assert not job.has_ended()
    os.kill(main, signal.SIGCONT)
    assert job.wait(5).exit_status == 0


def test_orphans_become_the_inits_and_are_reaped(start_job):
    code = "for i in 1 2 3 4 5 6 7 8; do (true &); done; (sleep 0.05 &) ; echo ready; exec sleep 60"
    job = start_job(["/bin/sh", "-c", code])
    job.wait_for(b"ready")
    (init,) = children(job.pid)
    wait_until(lambda: len(children(init)) == 1, explain=lambda: children(init))


def test_what_the_job_leaves_behind_dies_with_it(start_job):
    job = start_job(["/usr/bin/python3", "-I", "-c", DAEMON])
    assert job.wait(5).exit_status == 0
    assert processes_of_jobs() == {}
    # Without isolation it lives on.
    job = start_job(["/usr/bin/python3", "-I", "-c", DAEMON], wrapper=None)
    assert job.wait(5).exit_status == 0
    left = int((job.scratch / "alive").read_text())
    assert left in processes_of_jobs()
    os.kill(left, signal.SIGKILL)


def test_a_daemon_that_holds_the_output_does_not_keep_it_open(start_job):
    job = start_job(["/usr/bin/python3", "-I", "-c", DAEMON, "keep"])
    job.wait(5)
    assert job.stdout_is_closed(1)


def test_killing_the_monitor_ends_everything(start_job):
    job = start_job(["/usr/bin/python3", "-I", "-c", DAEMON, "stay"])
    job.wait_for(b"ready")
    assert len(processes_of_jobs()) == 4  # monitor, init, the job and its daemon
    job.send(signal.SIGKILL)
    assert job.wait(5).signal == signal.SIGKILL
    wait_until(lambda: processes_of_jobs() == {}, explain=processes_of_jobs)


def test_killing_the_init_ends_everything_as_killed(start_job):
    job = start_job(["/usr/bin/python3", "-I", "-c", DAEMON, "stay"])
    job.wait_for(b"ready")
    os.kill(children(job.pid)[0], signal.SIGKILL)
    result = job.wait(5)
    assert (result.signal, result.error_file) == (signal.SIGKILL, None)
    assert processes_of_jobs() == {}


def test_killing_the_job_from_outside_is_told_as_its_end(start_job):
    job = start_job(["/bin/sh", "-c", "echo ready; exec sleep 60"])
    job.wait_for(b"ready")
    os.kill(children(children(job.pid)[0])[0], signal.SIGKILL)
    assert job.wait(5).signal == signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_job_cannot_end_or_stop_its_init(run_python, number):
    result = run_python(f"{CALL}print(tried(os.kill, 1, {int(number)})); print('alive')")
    assert (result.exit_status, result.text) == (0, "done\nalive")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMIN])
def test_a_signal_that_the_job_sends_to_its_init_comes_back_to_it(run_python, number):
    result = run_python(f"import os, time; os.kill(1, {int(number)}); time.sleep(10)")
    assert (result.signal, result.error_file) == (number, None)


def test_output_is_closed_as_soon_as_the_job_closes_it(start_job):
    job = start_job(["/bin/sh", "-c", "exec >&- 2>&-; exec sleep 60"])
    assert job.stdout_is_closed(3)
    assert not job.has_ended()


def test_a_reader_that_goes_away_gives_the_job_a_broken_pipe(run_python):
    code = """
import os, signal
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
r, w = os.pipe()
os.close(r)
os.write(w, b'x')"""
    assert run_python(code).signal == signal.SIGPIPE


def test_a_monitor_killed_at_any_moment_takes_everything_along(start_job):
    """From its exec on until the job runs: no process, no mount, no output after its end."""
    before = mounts()
    script = "while :; do echo running >> output; done"
    chosen = random.Random(1)
    began = ran = 0
    for _ in range(100):
        job = start_job(["/bin/sh", "-c", script])
        time.sleep(chosen.uniform(0, 0.045))
        job.send(signal.SIGKILL)
        assert job.wait(5).signal == signal.SIGKILL
        wait_until(lambda: processes_of_jobs() == {}, explain=processes_of_jobs)
        output = job.scratch / "output"
        size = output.stat().st_size if output.exists() else -1
        began += (job.scratch / "tmp").exists()
        ran += size >= 0
        time.sleep(0.002)
        assert size == (output.stat().st_size if output.exists() else -1)
        assert mounts() == before
    assert 0 < ran < 100, "the moments are not spread over the whole start"
    assert began >= ran


def test_a_helper_killed_before_the_fork_of_init_leaves_no_planner(start_job):
    slow = "import time; time.sleep(30)"
    job = start_job(["/bin/true"], planner=slow)
    wait_until(lambda: any("plan" in line for line in processes_of_jobs().values()))
    job.send(signal.SIGKILL)
    assert job.wait(5).signal == signal.SIGKILL
    wait_until(lambda: processes_of_jobs() == {}, explain=processes_of_jobs)


def test_a_dead_starter_does_not_leave_a_job_without_a_monitor(start_job):
    """HTCondor's master ends the jobs of a dead starter by their cgroup: all must be in it."""
    job = start_job(["/bin/sh", "-c", "echo ready; exec sleep 60"])
    job.wait_for(b"ready")
    (init,) = children(job.pid)
    os.kill(job.starter, signal.SIGKILL)
    time.sleep(0.05)
    assert status_of(job.pid)["PPid"] == "1"
    os.kill(job.pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{init}").exists())


def resident(pid, kind):
    """Return the bytes of one KIND: Rss has all pages, Pss a share of those of many."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{kind}:"))
    return int(line.split()[1]) << 10


def test_monitor_and_init_need_little_memory(start_job, record_property):
    job = start_job(["/bin/sh", "-c", "echo ready; exec sleep 60"])
    job.wait_for(b"ready")
    watchers = [job.pid, *children(job.pid)]
    assert len(watchers) == 2
    used = {kind: sum(resident(pid, kind) for pid in watchers) for kind in ("Rss", "Pss")}
    record_property("resident bytes of monitor and init", str(used))
    assert used["Rss"] < 1.5 * (1 << 20), used


def test_many_jobs_at_once_all_end(start_job):
    jobs = [start_job(["/bin/sh", "-c", f"exit {i}"]) for i in range(40)]
    assert [job.wait().exit_status for job in jobs] == list(range(40))
