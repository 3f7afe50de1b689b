"""A stand-in for condor_starter: makes a sandbox and starts one command as the job's user.

It is a fork of the test's process, so that a test can hand over plain functions; it runs with
real uid 0 and effective uid condor, as the real one does, and the policy of the tests names its
program (``/proc/self/exe``) as the starter.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import shutil
import signal
import struct
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

EXECUTE = "/var/lib/condor/execute"
LIBEXEC = "/usr/libexec/condor-isolation"
HELPER = f"{LIBEXEC}/isolate"
WRAPPER = f"{LIBEXEC}/job-wrapper"
MARK = Path("/run/condor-isolation/fault")
PROGRAM = os.path.realpath("/proc/self/exe")

CONDOR = 101
ALICE = 1000
BOB = 1001
GROUPS = (1000, 2000, 2001)

NOT_STARTED = 96  # exit status of a stand-in, or of its child, whose own code failed
SECONDS_MAX = 30.0
PTRACE_DETACH = 17

libc = ctypes.CDLL(None, use_errno=True)

Limits = Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class Start:
    """How a job is started; the defaults are what HTCondor does."""

    layout: str = "nested"  # since 25.4; "flat": before
    wrapper: str | None = WRAPPER  # None: without the helper
    argv: Sequence[str] | None = None  # the whole of it
    program: str = ""  # "": the first of argv
    uid: int = ALICE
    gid: int = ALICE
    groups: Sequence[int] = GROUPS
    env: Mapping[str, str] = field(default_factory=dict)  # added to HTCondor's
    raw_env: Sequence[bytes] = ()  # entries of any form, behind these
    rlimits: Limits = field(default_factory=dict)
    umask: int = 0o022
    cwd: str | None = None  # None: the scratch directory
    nice: int = 0
    blocked: Sequence[int] = ()
    ignored: Sequence[int] = (signal.SIGPIPE,)
    stdin: bytes = b""
    owner: int = -1  # of the sandbox, if it is not uid
    parent_uid: int = 0  # real uid of the stand-in
    prepare: Callable[[Path], object] = lambda scratch: None  # as root, scratch is there
    before_drop: Callable[[], object] = lambda: None  # in the child, as root
    before_exec: Callable[[], object] = lambda: None  # in the child, as the job's user


@dataclass
class Result:
    exit_status: int | None  # None: ended by a signal
    signal: int | None
    stdout: bytes
    stderr: bytes
    error_file: str | None
    mark: str | None
    sandbox: Path
    scratch: Path

    @property
    def text(self) -> str:
        """What the job wrote, for jobs that write one line."""
        return self.stdout.decode().strip()


class Running:
    """A job that has been started."""

    def __init__(self, starter: int, start: Start, ends: dict[str, int], stdin: int) -> None:
        self.starter = starter
        self.start = start
        self.sandbox = sandbox_of(starter)
        self.scratch = scratch_of(self.sandbox, start)
        self._ends = ends  # name -> read end
        self._stdin = stdin
        self._text = {name: b"" for name in ends}
        word = self._read_exactly("report", 4)
        self.pid = struct.unpack("i", word)[0] if word else 0  # of the monitor, or plain job
        if self._stdin >= 0:
            with suppress(BrokenPipeError):
                os.write(self._stdin, start.stdin)
            os.close(self._stdin)

    def _read_exactly(self, name: str, size: int) -> bytes:
        while len(self._text[name]) < size and name in self._ends:
            self._pump(SECONDS_MAX, only=name)
        text, self._text[name] = self._text[name][:size], self._text[name][size:]
        return text

    def _pump(self, seconds: float, only: str = "") -> bool:
        """Read what there is; return False when nothing came."""
        names = [only] if only else list(self._ends)
        ready, _, _ = select.select([self._ends[n] for n in names], [], [], max(seconds, 0))
        for name in names:
            if self._ends[name] in ready:
                got = os.read(self._ends[name], 1 << 16)
                self._text[name] += got
                if not got:
                    os.close(self._ends.pop(name))
        return bool(ready)

    def wait_for(self, text: bytes, seconds: float = SECONDS_MAX) -> bytes:
        """Return the job's output as soon as it contains TEXT."""
        end = time.monotonic() + seconds
        while text not in self._text["stdout"]:
            assert "stdout" in self._ends, f"no {text!r} in {self._text}"
            assert self._pump(end - time.monotonic()), f"no {text!r} within {seconds} s"
        return self._text["stdout"]

    def stdout_is_closed(self, seconds: float) -> bool:
        """Tell whether nobody holds the job's stdout any more, waiting at most SECONDS."""
        end = time.monotonic() + seconds
        while "stdout" in self._ends and time.monotonic() < end:
            self._pump(end - time.monotonic(), only="stdout")
        return "stdout" not in self._ends

    def send(self, number: int) -> None:
        """Send a signal to the process that HTCondor knows as the job."""
        os.kill(self.pid, number)

    def has_ended(self) -> bool:
        return bool(select.select([self._ends["report"]], [], [], 0)[0])

    def wait(self, seconds: float = SECONDS_MAX, *, kill: bool = True) -> Result:
        """Return how the job ended; one that does not end within SECONDS is an error."""
        end = time.monotonic() + seconds
        while "report" in self._ends:
            if not self._pump(end - time.monotonic()):
                if kill:
                    self.kill()
                raise AssertionError(f"did not end within {seconds} s: {self._text}")
        while self._ends and self._pump(0.3):
            pass  # what is left in the pipes; a process that outlived the job may hold them
        os.waitpid(self.starter, 0)
        assert len(self._text["report"]) == 4, f"the stand-in failed: {self._text['stderr']!r}"
        status = struct.unpack("i", self._text["report"])[0]
        error_file = self.scratch / ".job_wrapper_failure"
        return Result(
            exit_status=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            stdout=self._text["stdout"],
            stderr=self._text["stderr"],
            error_file=error_file.read_text() if error_file.is_file() else None,
            mark=MARK.read_text() if MARK.exists() else None,
            sandbox=self.sandbox,
            scratch=self.scratch,
        )

    def kill(self) -> None:
        """End all of it, whatever its state is; what is gone already is no error."""
        for pid in (self.pid, self.starter):
            with suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.starter, 0)
        for end in self._ends.values():
            os.close(end)
        self._ends.clear()

    def clean(self) -> None:
        shutil.rmtree(self.sandbox, ignore_errors=True)


def sandbox_of(starter: int) -> Path:
    return Path(EXECUTE, f"dir_{starter}")


def scratch_of(sandbox: Path, start: Start) -> Path:
    return sandbox if start.layout == "flat" else sandbox / "scratch"


def environment(scratch: Path, start: Start) -> list[bytes]:
    """Return the entries of the job's environment, as HTCondor orders nothing in particular."""
    entries = {
        "_CONDOR_SCRATCH_DIR": str(scratch),
        "_CONDOR_JOB_AD": str(scratch / ".job.ad"),
        "_CONDOR_MACHINE_AD": str(scratch / ".machine.ad"),
        "_CONDOR_WRAPPER_ERROR_FILE": str(scratch / ".job_wrapper_failure"),
        "_CONDOR_SLOT": "slot1_1",
        "TMPDIR": "/tmp",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **start.env,
    }
    return [f"{key}={value}".encode() for key, value in entries.items()] + list(start.raw_env)


def start_job(command: Sequence[str], start: Start) -> Running:
    """Fork the stand-in and return as soon as its child is about to run COMMAND."""
    pipes = {name: os.pipe() for name in ("report", "stdout", "stderr")}
    stdin = os.pipe()
    starter = os.fork()
    if starter == 0:
        _run_starter(command, start, stdin[0], {name: ends[1] for name, ends in pipes.items()})
    os.close(stdin[0])
    for _read, write in pipes.values():
        os.close(write)
    return Running(starter, start, {name: ends[0] for name, ends in pipes.items()}, stdin[1])


def _run_starter(
    command: Sequence[str], start: Start, stdin: int, ends: Mapping[str, int]
) -> NoReturn:
    status = NOT_STARTED
    try:
        _close_all_but([stdin, *ends.values()])
        sandbox = sandbox_of(os.getpid())
        scratch = scratch_of(sandbox, start)
        _make_sandbox(sandbox, scratch, start)
        start.prepare(scratch)
        if start.parent_uid != 0:
            os.setgroups(start.groups)
            os.setresgid(start.gid, start.gid, start.gid)
            os.setresuid(start.parent_uid, start.parent_uid, start.parent_uid)
        pid = os.fork()
        if pid == 0:
            _become_job(command, start, scratch, stdin, ends)
        os.write(ends["report"], struct.pack("i", pid))
        for end in (stdin, ends["stdout"]):
            os.close(end)
        if start.parent_uid == 0:
            os.setresuid(0, CONDOR, 0)
        status = os.waitpid(pid, 0)[1]
        if os.WIFSTOPPED(status):  # traced, for SuspendJobAtExec
            libc.ptrace(PTRACE_DETACH, pid, 0, 0)
            status = os.waitpid(pid, 0)[1]
        os.write(ends["report"], struct.pack("i", status))
        status = 0
    except BaseException:
        os.write(ends["stderr"], traceback.format_exc().encode())
    finally:
        os._exit(status)


def _make_sandbox(sandbox: Path, scratch: Path, start: Start) -> None:
    sandbox.mkdir(0o755)
    if scratch != sandbox:
        for name in ("htcondor", "user", "scratch"):
            sandbox.joinpath(name).mkdir(0o700)
        os.chown(sandbox, CONDOR, CONDOR)
    os.chmod(scratch, 0o700)
    owner = start.uid if start.owner < 0 else start.owner
    for name in (".job.ad", ".machine.ad"):
        (scratch / name).write_text('MyType = "Job"\n' if name == ".job.ad" else "Cpus = 1\n")
        os.chown(scratch / name, owner, start.gid)
    os.chown(scratch, owner, start.gid)


def _become_job(
    command: Sequence[str],
    start: Start,
    scratch: Path,
    stdin: int,
    ends: Mapping[str, int],
) -> NoReturn:
    try:
        os.setsid()
        for target, end in enumerate((stdin, ends["stdout"], ends["stderr"])):
            os.dup2(end, target)
        os.closerange(3, 1 << 12)
        os.nice(start.nice)
        for number in range(1, signal.NSIG):
            if number in (signal.SIGKILL, signal.SIGSTOP) or number in (32, 33):
                continue
            ignored = number in start.ignored
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        os.umask(start.umask)
        start.before_drop()
        if start.uid != 0 and start.parent_uid == 0:
            os.setgroups(start.groups)
            os.setresgid(start.gid, start.gid, start.gid)
            os.setresuid(start.uid, start.uid, start.uid)
        os.chdir(start.cwd or scratch)
        start.before_exec()
        wrapped = [*([start.wrapper] if start.wrapper else []), *command]
        argv = wrapped if start.argv is None else start.argv
        signal.pthread_sigmask(signal.SIG_SETMASK, start.blocked)
        execve(start.program or argv[0], argv, environment(scratch, start), start.rlimits)
    except BaseException:
        with suppress(OSError):
            os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(NOT_STARTED)


def execve(
    program: str,
    argv: Sequence[str | bytes],
    entries: Sequence[bytes],
    rlimits: Limits,
) -> NoReturn:
    """As the system call: with entries of any form, and without an argv[0] if ARGV is empty.

    The limits come last: under some of them Python does not work any more.
    """
    raw = [a if isinstance(a, bytes) else os.fsencode(a) for a in argv]
    raw_argv = (ctypes.c_char_p * (len(raw) + 1))(*raw, None)
    raw_entries = (ctypes.c_char_p * (len(entries) + 1))(*entries, None)
    raw_program = os.fsencode(program)
    # HTCondor raises the soft limit of the stack to the hard one for a job without StackSize.
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    for which, limits in {resource.RLIMIT_STACK: (hard, hard), **rlimits}.items():
        resource.setrlimit(which, limits)
    libc.execve(raw_program, raw_argv, raw_entries)
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), program)


def _close_all_but(kept: Sequence[int]) -> None:
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 12)
