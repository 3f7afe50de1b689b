"""What HTCondor hands to a job arrives unchanged: each test compares with a plain run."""

from __future__ import annotations

import ast
import os
import re
import resource
import signal
from pathlib import Path

import pytest

from .conftest import CALL, assert_refused, ended_well, line_of
from .starter import HELPER, WRAPPER

INFINITY = resource.RLIM_INFINITY
READ_ENVIRONMENT = ["/bin/cat", "/proc/self/environ"]
SHOW_LIMITS = ["/bin/cat", "/proc/self/limits"]


def by_sandbox(result):
    """Return the output without what differs from sandbox to sandbox."""
    return result.stdout.replace(bytes(result.sandbox), b"SANDBOX")


@pytest.fixture
def same(run_job):
    """Run a command with and without the helper; return the one output."""

    def run(command, **how):
        inside = run_job(command, **how)
        outside = run_job(command, wrapper=None, **how)
        assert ended_well(inside), (inside.error_file, inside.stderr)
        assert ended_well(outside), outside.stderr
        assert by_sandbox(inside) == by_sandbox(outside)
        return by_sandbox(inside)

    return run


DANGEROUS = {
    "LD_LIBRARY_PATH": "/tmp:/opt/lib",
    "LD_DEBUG_OUTPUT": "/tmp/debug",
    "TMPDIR": "/tmp/inner",
    "LOCPATH": "/nowhere",
    "GCONV_PATH": "/nowhere",
    "GLIBC_TUNABLES": "glibc.malloc.check=1",
    "MALLOC_TRACE": "/tmp/trace",
    "NLSPATH": "/nowhere",
    "RESOLV_HOST_CONF": "/etc/shadow",
    "PYTHONPATH": "/tmp",
    "PYTHONSTARTUP": "/tmp/evil.py",
    "BASH_ENV": "/tmp/evil.sh",
    "IFS": "x",
}


def test_variables_that_a_setuid_program_loses_reach_the_job(same):
    seen = same(READ_ENVIRONMENT, env=DANGEROUS)
    for name, value in DANGEROUS.items():
        assert f"{name}={value}\0".encode() in seen


def test_a_preloaded_library_reaches_the_job_and_nobody_before_it(run_job):
    result = run_job(["/bin/true"], env={"LD_PRELOAD": "/nowhere/lib.so"})
    assert (result.exit_status, result.error_file) == (0, None)
    # The loader complains once: for /bin/true, not for the helper and not for the planner.
    assert result.stderr.count(b"/nowhere/lib.so") == 1


@pytest.mark.parametrize(
    "entry",
    [
        b"no-equals-sign",
        b"EMPTY=",
        b"=value",
        b"=",
        b"NEWLINE=a\nb",
        b"BYTES=\xff\xfe",
    ],
)
def test_an_entry_of_any_form_arrives_as_it_is(same, entry):
    assert b"\0" + entry + b"\0" in same(READ_ENVIRONMENT, raw_env=[entry])


def test_a_variable_given_twice_is_still_there_twice(same):
    seen = same(READ_ENVIRONMENT, raw_env=[b"TWICE=1", b"TWICE=2"])
    assert seen.endswith(b"\0TWICE=1\0TWICE=2\0")


def test_an_empty_entry_arrives(same):
    assert b"BEFORE=1\0\0AFTER=1\0" in same(
        READ_ENVIRONMENT, raw_env=[b"BEFORE=1", b"", b"AFTER=1"]
    )


@pytest.mark.parametrize(("count", "size"), [(8000, 120), (9, 120_000), (1, 131_000)])
def test_a_large_environment_arrives(same, count, size):
    entries = [b"V%05d=" % i + b"x" * size for i in range(count)]
    assert len(same(READ_ENVIRONMENT, raw_env=entries)) > count * size


@pytest.mark.parametrize(
    "arguments", [[], [""], ["-c", "--", "a b", "\n", "%s%n", "*", "\\"], ["x" * 100_000]]
)
def test_arguments_arrive_as_they_are(same, arguments):
    script = ["/usr/bin/python3", "-I", "-c", "import sys; print(sys.argv[1:])", *arguments]
    assert same(script).decode() == f"{arguments}\n"


ROOMY = {
    "AS": (1 << 33, 1 << 34),
    "CORE": (0, 1 << 20),
    "CPU": (1000, 2000),
    "DATA": (1 << 32, INFINITY),
    "FSIZE": (1 << 20, 1 << 30),
    "MEMLOCK": (4096, 1 << 20),
    "MSGQUEUE": (1000, 800_000),
    "NOFILE": (100, 4000),
    "NPROC": (400, 500),
    "RSS": (1 << 30, INFINITY),
    "RTTIME": (1000, 2000),
    "SIGPENDING": (100, 200),
    "STACK": (1 << 20, 1 << 24),
}


@pytest.mark.parametrize("name", ROOMY)
def test_a_limit_arrives_soft_and_hard(same, name):
    limits = {getattr(resource, f"RLIMIT_{name}"): ROOMY[name]}
    assert same(SHOW_LIMITS, rlimits=limits) != same(SHOW_LIMITS)


def test_all_limits_together_arrive(same):
    same(
        SHOW_LIMITS,
        rlimits={getattr(resource, f"RLIMIT_{name}"): both for name, both in ROOMY.items()},
    )


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_the_umask_arrives_and_does_not_disturb_the_isolation(run_job, same, umask):
    assert same(["/bin/sh", "-c", "umask"], umask=umask) == b"%04o\n" % umask
    result = run_job(["/bin/sh", "-c", "cd /tmp; cd /var/tmp; cd /dev/shm"], umask=umask)
    assert ended_well(result), result.stderr
    assert (result.scratch / "tmp").stat().st_mode == 0o40700


@pytest.mark.parametrize("nice", [0, 1, 10, 19])
def test_the_nice_value_arrives(same, nice):
    assert same(["/usr/bin/nice"], nice=nice) == b"%d\n" % nice


# The C library's own, which posix_spawn leaves ignored in what make starts.
INTERNAL_SIGNALS = 1 << 31 | 1 << 32
ALL_SIGNALS = [n for n in range(1, 65) if n not in (signal.SIGKILL, signal.SIGSTOP, 32, 33)]


@pytest.mark.parametrize(
    "ignored",
    [(), (signal.SIGPIPE,), (signal.SIGCHLD,), (signal.SIGINT, signal.SIGRTMAX), ALL_SIGNALS],
)
@pytest.mark.parametrize("blocked", [(), (signal.SIGTERM,), (signal.SIGCHLD,), ALL_SIGNALS])
def test_ignored_and_blocked_signals_arrive(run_job, ignored, blocked):
    for wrapper in ({}, {"wrapper": None}):
        how = {"ignored": ignored, "blocked": blocked, **wrapper}
        lines = run_job(["/bin/cat", "/proc/self/status"], **how).stdout.decode().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        assert int(fields["SigBlk"], 16) == sum(1 << (n - 1) for n in blocked)
        now_ignored = int(fields["SigIgn"], 16) & ~INTERNAL_SIGNALS
        assert now_ignored == sum(1 << (n - 1) for n in ignored)
        assert int(fields["SigCgt"], 16) == 0


def test_an_alarm_set_before_does_not_end_the_helper(run_job):
    def alarm():
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    command = ["/bin/sleep", "0.1"]
    assert ended_well(run_job(command, before_exec=alarm))
    assert run_job(command, before_exec=alarm, wrapper=None).signal == signal.SIGALRM


def test_the_working_directory_arrives(same, place):
    assert same(["/bin/pwd"], cwd=str(place)).decode() == f"{place}\n"
    assert same(["/bin/pwd"], cwd="/").decode() == "/\n"


def test_a_working_directory_below_the_scratch_arrives(run_job):
    def inner():
        os.makedirs("a/b")
        os.chdir("a/b")

    result = run_job(["/bin/pwd"], before_exec=inner)
    assert result.text == f"{result.scratch}/a/b"


def test_a_working_directory_in_a_private_directory_is_refused(run_job):
    """It is another one inside: the job must not find itself in an empty directory."""
    result = run_job(["/bin/pwd"], cwd="/tmp")
    assert_refused(result, "CI-023", "/tmp is another directory inside")
    assert run_job(["/bin/pwd"], cwd="/tmp", policy={"modes": {"tmp": "off"}}).text == "/tmp"


def test_a_working_directory_that_was_removed_is_refused(run_job):
    def lose():
        os.mkdir("lost")
        os.chdir("lost")
        os.rmdir("../lost")

    assert_refused(run_job(["/bin/true"], before_exec=lose), "CI-023")
    assert ended_well(run_job(["/bin/true"], before_exec=lose, wrapper=None))


def test_a_working_directory_that_cannot_be_entered_again_is_refused(run_job):
    def close():
        os.mkdir("closed")
        os.chdir("closed")
        os.chmod(".", 0)

    result = run_job(["/bin/true"], before_exec=close)
    assert_refused(result, "CI-023", f"{result.scratch}/closed", "EACCES")
    assert ended_well(run_job(["/bin/true"], before_exec=close, wrapper=None))


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_closed_standard_descriptors_lead_nowhere_in_the_job(run_python, closed):
    def close():
        for fd in closed:
            os.close(fd)

    code = """
import os
targets = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)]
open('seen', 'w').write(repr(targets))"""
    result = run_python(code, before_exec=close)
    assert ended_well(result)
    for fd, target in enumerate(ast.literal_eval((result.scratch / "seen").read_text())):
        if fd in closed:  # glibc makes 0 of a setuid program /dev/full, which cannot be read
            assert target in ("/dev/null", "/dev/full")
        else:
            assert target.startswith("pipe:")


TIGHT = {
    "FSIZE=0": (resource.RLIMIT_FSIZE, (0, 0)),
    "AS=16M": (resource.RLIMIT_AS, (1 << 24, 1 << 24)),
    "AS=64K": (resource.RLIMIT_AS, (1 << 16, 1 << 16)),
    "DATA=0": (resource.RLIMIT_DATA, (0, 0)),
    "NOFILE=0": (resource.RLIMIT_NOFILE, (0, 0)),
    "NOFILE=3": (resource.RLIMIT_NOFILE, (3, 3)),
    "NOFILE=4": (resource.RLIMIT_NOFILE, (4, 4)),
    "NOFILE=10": (resource.RLIMIT_NOFILE, (10, 10)),
    "NPROC=0": (resource.RLIMIT_NPROC, (0, 0)),
    "NPROC=1": (resource.RLIMIT_NPROC, (1, 1)),
    "STACK=16K": (resource.RLIMIT_STACK, (1 << 14, 1 << 14)),
    "STACK=256K": (resource.RLIMIT_STACK, (1 << 18, 1 << 18)),
    "CPU=1": (resource.RLIMIT_CPU, (1, 1)),
    "MEMLOCK=0": (resource.RLIMIT_MEMLOCK, (0, 0)),
    "SIGPENDING=0": (resource.RLIMIT_SIGPENDING, (0, 0)),
    "MSGQUEUE=0": (resource.RLIMIT_MSGQUEUE, (0, 0)),
    "RTTIME=1": (resource.RLIMIT_RTTIME, (1, 1)),
}


# What a helper needs more of than these, and what only CAP_SYS_RESOURCE can give.
NEEDS_RESOURCE = ("AS=16M", "CPU=1", "NOFILE=0", "NOFILE=3", "NOFILE=4", "NOFILE=10")
NEVER_ENOUGH = ("NPROC=0", "NPROC=1", "AS=64K", "STACK=16K")


def may_raise_limits():
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return bool(int(status["CapEff"], 16) >> 24 & 1)


@pytest.mark.parametrize("name", TIGHT)
def test_under_a_tight_limit_the_job_runs_with_it_or_one_clear_line_tells_why_not(run_job, name):
    which, limits = TIGHT[name]
    inside = run_job(SHOW_LIMITS, rlimits={which: limits})
    outside = run_job(SHOW_LIMITS, rlimits={which: limits}, wrapper=None)
    if outside.exit_status != 0:
        assert inside.exit_status != 0  # NOFILE=0: no dynamic program can start either
    elif inside.error_file is None:
        assert (inside.exit_status, inside.signal) == (outside.exit_status, outside.signal)
        assert inside.stdout == outside.stdout
    else:
        line_of(inside)
        assert re.fullmatch(r"CI-0\d\d: [^;]*\w[^;]*; .*\n", inside.error_file)
        assert ": ;" not in inside.error_file
        assert name in NEVER_ENOUGH or (name in NEEDS_RESOURCE and not may_raise_limits())


@pytest.mark.parametrize("name", ["NOFILE=3", "NOFILE=4", "NOFILE=5"])
def test_a_helper_without_descriptors_never_completes_the_job(run_job, name):
    files = int(name[-1])
    result = run_job(["/bin/true"], rlimits={resource.RLIMIT_NOFILE: (files, files)})
    assert result.error_file is not None


EIGHT_MIB = 8 << 20  # the kernel cuts the soft limit of a setuid program's stack to this


@pytest.mark.parametrize("soft", [1 << 20, EIGHT_MIB - 4096, EIGHT_MIB + 4096, 1 << 30, INFINITY])
def test_a_stack_of_any_size_with_an_endless_hard_limit_arrives_or_is_endless(run_job, soft):
    """What the kernel has cut is given back as HTCondor's default, which is the hard limit."""
    limits = {resource.RLIMIT_STACK: (soft, INFINITY)}
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_STACK))"
    seen = ast.literal_eval(run_job(["/usr/bin/python3", "-c", code], rlimits=limits).text)
    assert seen == (soft if soft < EIGHT_MIB else INFINITY, INFINITY)


def test_a_hard_limit_of_the_stack_is_never_raised(same):
    same(SHOW_LIMITS, rlimits={resource.RLIMIT_STACK: (1 << 30, 1 << 30)})
    same(SHOW_LIMITS, rlimits={resource.RLIMIT_STACK: (EIGHT_MIB, EIGHT_MIB)})


@pytest.mark.parametrize("size", [0, 1, 4096])
def test_a_soft_limit_on_the_size_of_files_spares_the_error_file(run_job, size):
    limits = {resource.RLIMIT_FSIZE: (size, 1 << 20)}
    assert_refused(run_job(["/absent"], rlimits=limits), "CI-020", "/absent", "ENOENT")


def test_a_job_may_have_no_argument_at_all_in_front_of_it(run_job):
    assert_refused(run_job([], argv=[WRAPPER]), "CI-009")
    assert_refused(run_job([], argv=[HELPER]), "CI-009")
    assert_refused(run_job([], argv=[], program=HELPER), "CI-009")


def test_the_job_has_the_affinity_and_the_oom_score_of_a_plain_job(run_python):
    def pinned():
        os.sched_setaffinity(0, {0})
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("800")

    code = f"{CALL}print(os.sched_getaffinity(0), open('/proc/self/oom_score_adj').read())"
    assert run_python(code, before_drop=pinned).text == "{0} 800"
    assert run_python(code, before_drop=pinned, wrapper=None).text == "{0} 800"
