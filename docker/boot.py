"""Process 1 of a node: makes the machine that it sees, then runs one command in it."""

import os
import signal
import socket
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cgroups
import linux

HOSTNAME = "node"
FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
MACHINE = "/.machine"
EXECUTE = "/var/lib/condor/execute"
CGROUPS = Path("/sys/fs/cgroup")
DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
# Name look-ups must find the host without asking anybody, or HTCondor hangs for minutes.
FILES = {
    "/etc/hostname": f"{HOSTNAME}\n",
    "/etc/hosts": f"127.0.0.1 {HOSTNAME} localhost\n",
    "/etc/resolv.conf": "",
}


@dataclass(frozen=True)
class Bind:
    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class Plan:
    """What a node is made of."""

    root: Path
    staging: Path
    binds: Sequence[Bind]
    scripts: Mapping[str, str]
    hierarchies: Sequence[cgroups.Hierarchy]
    environment: Mapping[str, str]
    command: Sequence[str]


def main(plan: Plan, groups: Sequence[Path]) -> int:
    """Called as process 1 of a PID namespace; returns the status to exit with."""
    try:
        for group in groups:
            cgroups.enter(group)
        linux.unshare(
            linux.CLONE_NEWNS
            | linux.CLONE_NEWUTS
            | linux.CLONE_NEWIPC
            | linux.CLONE_NEWNET
            | linux.CLONE_NEWCGROUP
        )
        os.umask(0o022)
        socket.sethostname(HOSTNAME)
        linux.loopback_up()
        sources = [os.open(bind.source, os.O_PATH) for bind in plan.binds]
        _enter_root(plan.root, plan.staging)
        _mount_system()
        _mount_cgroups(plan.hierarchies)
        _write_files(plan.scripts)
        for bind, source in zip(plan.binds, sources):
            _bind(source, bind)
            os.close(source)
        linux.detach(MACHINE)
        os.rmdir(MACHINE)
    except OSError as error:
        print(f"node: cannot boot: {error}", file=sys.stderr)
        return FAILED
    return _run(plan.command, plan.environment)


def _enter_root(root: Path, staging: Path) -> None:
    linux.mount("", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    lower = os.open(root, os.O_PATH)
    linux.mount("node", str(staging), "tmpfs", data="mode=755")
    os.chdir(staging)
    for name in ("lower", "upper", "work", "root", "execute"):
        os.mkdir(name)
    # A name without the commas and colons that overlay would take apart.
    linux.mount(f"/proc/self/fd/{lower}", "lower", flags=linux.MS_BIND)
    os.close(lower)
    linux.mount("node", "root", "overlay", data="lowerdir=lower,upperdir=upper,workdir=work")
    # An overlay cannot be the upper layer of another one, and jobs may want theirs in scratch.
    execute = Path("root" + EXECUTE)
    if execute.is_dir():
        owner = execute.stat()
        os.chown("execute", owner.st_uid, owner.st_gid)
        os.chmod("execute", stat.S_IMODE(owner.st_mode))
        linux.mount("execute", str(execute), flags=linux.MS_BIND)
    os.chdir("root")
    os.mkdir(MACHINE[1:])
    # The kernel refuses user namespaces to whoever is in a mere chroot.
    linux.pivot_root(".", MACHINE[1:])
    os.chdir("/")


def _mount_system() -> None:
    hardened = linux.MS_NOSUID | linux.MS_NODEV
    linux.mount("proc", "/proc", "proc", hardened | linux.MS_NOEXEC)
    linux.mount("sysfs", "/sys", "sysfs", hardened | linux.MS_NOEXEC)
    linux.mount("tmpfs", "/tmp", "tmpfs", data="mode=1777")
    linux.mount("tmpfs", "/run", "tmpfs", hardened, "mode=755")
    linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID, "mode=755")
    os.mkdir("/run/lock")
    os.chmod("/run/lock", 0o1777)
    for name, (major, minor) in DEVICES.items():
        os.mknod(f"/dev/{name}", stat.S_IFCHR, os.makedev(major, minor))
        os.chmod(f"/dev/{name}", 0o666)
    for name, target in LINKS.items():
        os.symlink(target, f"/dev/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"/dev/{name}")
    linux.mount(
        "devpts",
        "/dev/pts",
        "devpts",
        linux.MS_NOSUID | linux.MS_NOEXEC,
        "newinstance,gid=5,mode=620,ptmxmode=666",
    )
    linux.mount("tmpfs", "/dev/shm", "tmpfs", hardened, "mode=1777")
    linux.mount("mqueue", "/dev/mqueue", "mqueue", hardened | linux.MS_NOEXEC)


def _mount_cgroups(hierarchies: Sequence[cgroups.Hierarchy]) -> None:
    hardened = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    if any(hierarchy.kind == "cgroup2" for hierarchy in hierarchies):
        linux.mount("cgroup2", str(CGROUPS), "cgroup2", hardened)
        return
    linux.mount("tmpfs", str(CGROUPS), "tmpfs", hardened, "mode=755")
    for hierarchy in hierarchies:
        target = CGROUPS / hierarchy.name
        target.mkdir()
        linux.mount("cgroup", str(target), "cgroup", hardened, hierarchy.options)


def _write_files(scripts: Mapping[str, str]) -> None:
    for name, text in FILES.items():
        Path(name).unlink(missing_ok=True)
        Path(name).write_text(text)
    for name, text in scripts.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
        os.chmod(name, 0o755)


def _bind(source: int, bind: Bind) -> None:
    target = Path(bind.target)
    if stat.S_ISDIR(os.fstat(source).st_mode):
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    linux.mount(f"/proc/self/fd/{source}", str(target), flags=linux.MS_BIND)
    if bind.read_only:
        flags = linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY
        linux.mount("", str(target), flags=flags)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs the command and reaps every orphan until it ends."""
    child = os.fork()
    if child == 0:
        _exec(command, environment)
    while True:
        pid, status = os.wait()
        if pid == child:
            return exit_status(status)


def exit_status(status: int) -> int:
    """As a shell has it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _exec(command: Sequence[str], environment: Mapping[str, str]) -> None:
    # Neither what Python ignores nor what a runner in the background inherited.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), dict(environment))
    except OSError as error:
        print(f"node: {command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)
