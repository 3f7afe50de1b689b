"""Failures injected into the helper's system calls: the job never runs with less isolation.

strace lets one call after the other fail, in every process of the helper; it is gone before the
planner's and the job's first instruction.  ``ISOLATION_INJECT_STEP=1`` takes every call (two
minutes), the default each ninth.
"""

from __future__ import annotations

import ast
import collections
import os
import re
import signal
import subprocess
import zlib
from pathlib import Path

import pytest

from .conftest import TINY, assert_refused, mounts, processes_of_jobs, wait_until
from .starter import ALICE, EXECUTE, GROUPS, WRAPPER
from .test_rights import children

STEP = int(os.environ.get("ISOLATION_INJECT_STEP", "9"))
LOG = "/run/trace"
STRACE = ["/usr/bin/strace", "-D", "-f", "-b", "execve", "-u", "alice", "-o", LOG]
# Calls that cannot fail, that are the end of a process, or that libc makes before main.
LEFT_OUT = {
    *("getpid", "getppid", "gettid", "umask", "getresuid", "getresgid", "getuid", "geteuid"),
    *("execve", "exit", "exit_group", "rt_sigreturn", "rt_sigprocmask", "setsid"),
    *("arch_prctl", "brk", "mprotect", "set_tid_address", "set_robust_list", "rseq", "getrandom"),
}
# musl looks whether a setuid program has its standard descriptors, and crashes if it cannot.
BEFORE_MAIN = {("poll", 1)}
# What puts a control in force, which could be reported as done and not be.
PRETENDED = {
    *("unshare", "mount", "move_mount", "mount_setattr", "pivot_root", "umount2"),
    *("setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid"),
    *("chdir", "fchdir", "close_range", "dup2", "mkdirat"),
}

FACTS = """
import os, resource
facts = {}
for name in ('pid', 'mnt', 'ipc', 'uts', 'cgroup'):
    facts[name] = os.readlink(f'/proc/self/ns/{name}') == HOST[name]
for line in open('/proc/self/status'):
    key, _, value = line.partition(':')
    if key[:4] in ('SigB', 'SigI', 'SigC') or key[:3] in ('Cap', 'NoN', 'Uid', 'Gid', 'Gro', 'Tra'):
        facts[key] = value.split()
own = os.environ['_CONDOR_SCRATCH_DIR'].split('/')[-2]
for line in open('/proc/self/mountinfo'):  # of mounts at one place the last is seen
    path, flags = line.replace(own, 'OWN').split()[4:6]
    facts['mount ' + path] = (sorted(flags.split(',')), line.split(' - ')[1].split()[0])
for path, device in DEVICES.items():
    facts['own ' + path] = os.stat(path).st_dev != device
facts['limits'] = [resource.getrlimit(n) for n in range(16)]
facts['fds'] = [n for n in range(64) if n != 3 and os.path.lexists(f'/proc/self/fd/{n}')]
facts['processes'] = sorted(int(p) for p in os.listdir('/proc') if p.isdigit())
for path in ('/tmp', '/var/tmp', '/dev/shm', '/dev/pts', '/dev/mqueue'):
    facts[path] = (sorted(os.listdir(path)), oct(os.stat(path).st_mode), os.stat(path).st_uid)
facts['sandboxes'] = [name.replace(own, 'OWN') for name in os.listdir(EXECUTE)]
facts['cwd'] = os.getcwd().replace(own, 'OWN')
facts['environment'] = sorted(os.environ)
print(repr(facts))
"""


@pytest.fixture(params=["machine", "chroot"])
def traced(start_job, request):
    """Run the job that tells what it sees, while strace does OPTIONS to the helper."""
    in_chroot = request.param == "chroot"
    host = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "mnt", "ipc", "uts")}
    host["cgroup"] = os.readlink("/proc/self/ns/cgroup")
    own = ("/proc", "/dev/shm", "/dev/mqueue", "/dev/pts")
    devices = {path: os.stat(path).st_dev for path in own}
    code = f"HOST, DEVICES, EXECUTE = {host!r}, {devices!r}, {EXECUTE!r}" + FACTS
    policy = {
        "modes": {"limits": "off", "cgroup-namespace": "require"},
        "root": [("tiny", str(TINY), "ro")],
    }
    plan = [("root", "tiny")] if in_chroot else []
    before = mounts()

    def run(*options):
        job = start_job(
            [],
            argv=[*STRACE, *options, "--", WRAPPER, "/usr/bin/python3", "-I", "-S", "-c", code],
            # strace takes the ids and groups of alice; the sandbox is hers.
            uid=0,
            gid=0,
            owner=ALICE,
            policy=policy,
            plan=plan,
        )
        try:
            result = job.wait(2, kill=False)
        except AssertionError:
            return job, None
        wait_until(lambda: processes_of_jobs() == {}, explain=processes_of_jobs)
        assert mounts() == before
        return job, result

    return run


@pytest.fixture
def clean(traced):
    """What the job sees when nothing fails."""
    _job, result = traced()
    assert result.exit_status == 0, result
    return ast.literal_eval(result.text)


def calls():
    """Return how often the helper makes each system call, in the process that does so most."""
    counts = collections.Counter()
    for line in Path(LOG).read_text().splitlines():
        if match := re.match(r"(\d+) +(\w+)\(", line):
            counts[match.group(1, 2)] += 1
    most = collections.Counter()
    for (_pid, name), count in counts.items():
        most[name] = max(most[name], count)
    return {name: count for name, count in most.items() if name not in LEFT_OUT}


def every(names=None, step=STEP, offset=0):
    """Return (call, number) for one of STEP calls: the same ones each time, whatever the counts."""
    return [
        (name, number)
        for name, count in sorted(calls().items())
        if names is None or name in names
        for number in range(1, count + 1)
        if (name, number) not in BEFORE_MAIN
        and zlib.crc32(f"{name} {number}".encode()) % step == offset % step
    ]


def differences(seen, clean):
    """Return what the job has that it should not have, or the other way round."""
    for key in sorted({*seen, *clean}):
        is_, should = seen.get(key), clean.get(key)
        if key.startswith("mount ") and is_ and should:
            if set(is_[0]) < set(should[0]) or is_[1] != should[1]:  # more flags do no harm
                yield f"{key}: {is_}, not {should}"
        elif is_ != should:
            yield f"{key}: {is_}, not {should}"


def judge(job, result, clean, what):
    """Return what is wrong with this end of a start, '' if nothing."""
    if result is None:  # it waits, because it could not tell: the job does not complete
        job.kill()
        return ""
    if result.stdout:
        found = "; ".join(differences(ast.literal_eval(result.text), clean))
        return f"{what}: the job runs with {found}" if found else ""
    if result.error_file is not None:
        # .machine.ad takes its place when no file can be made.
        good = result.error_file in ("", "Cpus = 1\n")
        good = good or re.fullmatch(r"CI-\d{3}: .+; .+\n", result.error_file)
        return "" if good else f"{what}: unclear: {result.error_file!r}"
    if result.stderr.startswith((b"CI-002: ", b"CI-010: getrlimit")):
        return ""  # nobody's job, as far as the helper can see; getrlimit cannot fail
    end = (result.exit_status, result.signal, result.stderr)
    return f"{what}: the job completes: {end}"


def test_the_facts_are_those_of_a_job_that_is_not_traced(clean, run_python):
    assert clean["Uid"] == [str(ALICE)] * 4
    assert clean["TracerPid"] == ["0"]
    assert clean["NoNewPrivs"] == ["1"]
    assert not any(clean[name] for name in ("pid", "mnt", "ipc", "uts", "cgroup"))
    assert clean["processes"] == [1, 2]
    assert set(GROUPS) >= set(map(int, clean["Groups"]))


def test_no_call_that_fails_leaves_a_job_with_less_isolation(traced, clean):
    wrong = []
    for name, number in every():
        what = f"{name}:error=EPERM:when={number}"
        wrong.append(judge(*traced("-e", f"inject={what}"), clean, what))
    assert not any(wrong), "\n".join(filter(None, wrong))


def test_no_call_that_only_pretends_leaves_a_job_with_less_isolation(traced, clean):
    wrong = []
    for name, number in [*every(PRETENDED, 1), *every({"prctl"}, offset=3)]:
        what = f"{name}:retval=0:when={number}"
        wrong.append(judge(*traced("-e", f"inject={what}"), clean, what))
    assert not any(wrong), "\n".join(filter(None, wrong))


def test_a_kill_at_any_call_leaves_no_process_no_mount_and_no_job(traced, clean):
    wrong = []
    for name, number in every(offset=5):
        what = f"{name}:signal=KILL:when={number}"
        job, result = traced("-e", f"inject={what}")
        assert result is not None, what
        if result.signal != signal.SIGKILL:
            wrong.append(judge(job, result, clean, what))
    assert not any(wrong), "\n".join(filter(None, wrong))


NAMESPACES = {
    "pid": "clone:error=EPERM:when=2",  # the first makes the planner
    "ipc": "unshare:error=EPERM:when=1",
    "uts": "unshare:error=EPERM:when=2",
    "cgroup-namespace": "unshare:error=EPERM:when=3",
}


@pytest.mark.parametrize("control", NAMESPACES)
@pytest.mark.parametrize("mode", ["require", "prefer"])
def test_a_namespace_that_the_kernel_refuses_is_required_or_left_out(start_job, control, mode):
    name = control.partition("-")[0]
    command = ["/bin/readlink", f"/proc/self/ns/{name}"]
    job = start_job(
        [],
        argv=[*STRACE, "-e", f"inject={NAMESPACES[control]}", "--", WRAPPER, *command],
        uid=0,
        gid=0,
        owner=ALICE,
        policy={"modes": {control: mode}},
    )
    result = job.wait()
    if mode == "require":
        assert_refused(result, "CI-015", f"{control}: ", "EPERM")
    else:
        assert (result.text, result.error_file) == (os.readlink(f"/proc/self/ns/{name}"), None)


def test_watchers_that_were_stopped_go_on_as_if_nothing_had_been(start_job):
    job = start_job(["/bin/sh", "-c", "echo ready; exec sleep 0.4"])
    job.wait_for(b"ready")
    (init,) = children(job.pid)
    for _ in range(20):
        for pid in (job.pid, init):
            for number in (signal.SIGSTOP, signal.SIGCONT):
                os.kill(pid, number)
    result = job.wait(5)
    assert (result.exit_status, result.error_file) == (0, None)


def test_watchers_that_are_interrupted_go_on_as_if_nothing_had_been(start_job):
    job = start_job(["/bin/sh", "-c", "echo ready; exec sleep 0.4"])
    job.wait_for(b"ready")
    (init,) = children(job.pid)
    for pid in (job.pid, init):
        look = ["timeout", "-s", "INT", "0.1", "strace", "-o", LOG, "-p", str(pid)]
        subprocess.run(look, check=False, capture_output=True)
    result = job.wait(5)
    assert (result.exit_status, result.error_file) == (0, None)
