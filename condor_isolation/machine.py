"""Gathers what check and compile have to know about the machine.  Changes nothing."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field

import condor_isolation
from condor_isolation import condor, ownership, trust
from condor_isolation.condor import CondorError, Config
from condor_isolation.settings import Account, Bind, Chroot, Settings

PYTHON = "/usr/bin/python3"
# What every chroot needs.  /dev is the machine's, bound whole, so nothing below it is needed.
SYSTEM_DIRECTORIES = ("/dev", "/proc", "/sys")
SYSTEM_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/passwd", "/etc/group")
PROGRAM_KNOBS = ("STARTER", "USER_JOB_WRAPPER", "ISOLATION_HOOK_PREPARE_JOB")
NO_NEW_PRIVS = "\nNoNewPrivs:\t1\n"


@dataclass(frozen=True)
class Source:
    """A file or directory that the configuration came from, as it was when that was read."""

    path: str
    mtime_ns: int
    size: int


@dataclass(frozen=True)
class Helper:
    """The program in the first line of USER_JOB_WRAPPER."""

    path: str
    uid: int = -1
    mode: int = 0
    nosuid: bool = False
    untrusted: str = ""


@dataclass(frozen=True)
class Machine:
    """All facts, so that check and compile are functions of them and of the settings."""

    config: Config
    sources: tuple[Source, ...] = ()
    absent: tuple[str, ...] = ()
    paths: dict[str, trust.PathFact] = field(default_factory=dict)
    mount_points: tuple[trust.MountPoint, ...] = ()
    users: dict[str, int | None] = field(default_factory=dict)
    groups: dict[str, int | None] = field(default_factory=dict)
    helper: Helper | None = None
    executes: tuple[str, ...] = ()
    python: str = PYTHON
    package: str = ""
    classad_path: str = ""
    bad_expressions: dict[str, str] = field(default_factory=dict)
    master_no_new_privs: bool = False

    def real(self, path: str) -> str:
        """Return the real path of PATH."""
        fact = self.paths.get(path)
        return fact.real if fact else path

    def is_inside(self, path: str, directory: str) -> bool:
        """Tell whether PATH is DIRECTORY or below it, links resolved."""
        return is_below(self.real(path), self.real(directory))


def is_below(path: str, directory: str) -> bool:
    """Tell whether PATH is DIRECTORY or below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def execute_directories(config: Config) -> tuple[str, ...]:
    """Return every directory that sandboxes are made in."""
    found = [config.value("EXECUTE")]
    for name in sorted(config.knobs):
        slot = name[4:-8] if name.startswith("SLOT") and name.endswith("_EXECUTE") else ""
        if slot.isdigit() or (slot.startswith("_TYPE_") and slot[6:].isdigit()):
            found.append(config.value(name))
    if "SCHEDD" in config.value("DAEMON_LIST").upper():
        found.append(config.value("LOCAL_UNIV_EXECUTE"))
    return tuple(dict.fromkeys(path for path in found if path))


def look_sources(config: Config) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Return the sources of CONFIG as they are now, and those that are not there."""
    found, absent = [], []
    for path in (*config.files, *config.directories):
        try:
            status = os.stat(path)
        except OSError:
            absent.append(path)
            continue
        found.append(Source(path, status.st_mtime_ns, status.st_size))
    return tuple(found), tuple(absent)


def read_config() -> tuple[Config, tuple[Source, ...], tuple[str, ...]]:
    """Return the configuration and its sources, sure that they belong together."""
    before = look_sources(condor.read_config())
    for _attempt in range(5):
        config = condor.read_config()
        after = look_sources(config)
        if after == before:
            return (config, *after)
        before = after
    raise CondorError("HTCondor's configuration changes while it is read; try again")


def interpreter_of(script: str) -> str:
    """Return the program in the first line of SCRIPT, '' if it has none."""
    try:
        with open(script, "rb") as file:
            line = file.readline(4096)
    except OSError:
        return ""
    words = line[2:].split() if line.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""


def look_helper(wrapper: str) -> Helper | None:
    """Return the helper that the kernel starts for WRAPPER, None if there is none."""
    path = interpreter_of(wrapper)
    if not path.startswith("/"):
        return None
    try:
        status = os.stat(path)
    except OSError:
        return Helper(path)
    nosuid = bool(os.statvfs(path).f_flag & os.ST_NOSUID)
    reason = ownership.untrusted(os.path.realpath(path))
    return Helper(path, status.st_uid, stat.S_IMODE(status.st_mode), nosuid, reason)


def _uid(name: str) -> int | None:
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _gid(name: str) -> int | None:
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _accounts(lists: Iterable[tuple[Account, ...]]) -> set[str]:
    return {account.name for accounts in lists for account in accounts}


def binds_of(settings: Settings, root: Chroot) -> tuple[Bind, ...]:
    """Return the binds that a job in ROOT gets."""
    return (*settings.binds, *root.binds)


def needed_in(settings: Settings, root: Chroot, executes: Iterable[str]) -> dict[str, str]:
    """Return the mount points that ROOT must have: path to kind.

    What is below the destination of a bind has to be in the bind's source: see check.py.
    """
    needed = dict.fromkeys((*SYSTEM_DIRECTORIES, *settings.private, *executes), trust.DIRECTORY)
    needed.update(dict.fromkeys(SYSTEM_FILES, trust.FILE))
    binds = binds_of(settings, root)
    inside = [inner for inner, _outer, _path in nested(binds)]
    for bind in binds:
        if bind not in inside:
            needed[bind.destination] = _bind_kind(bind)
    return needed


def nested(binds: tuple[Bind, ...]) -> tuple[tuple[Bind, Bind, str], ...]:
    """Return (inner, outer, path) of each bind inside another.

    PATH of the machine is what the inner one is mounted on: it is in the outer one's source,
    where apply makes nothing.
    """
    return tuple(
        (inner, outer, outer.source + inner.destination[len(outer.destination) :])
        for inner in binds
        for outer in binds
        if inner.destination != outer.destination and is_below(inner.destination, outer.destination)
    )


def _bind_kind(bind: Bind) -> str:
    return trust.DIRECTORY if os.path.isdir(bind.source) else trust.FILE


def _named_paths(settings: Settings, config: Config, executes: Iterable[str]) -> set[str]:
    paths = {*settings.private, *settings.hide, *settings.read_only, *executes}
    paths.update(root.path for root in settings.chroots)
    for root in settings.chroots:
        paths.update(bind.source for bind in root.binds)
        paths.update(path for *_binds, path in nested(binds_of(settings, root)))
    paths.update(path for bind in settings.binds for path in (bind.source, bind.destination))
    paths.update((PYTHON, *(config.value(knob) for knob in PROGRAM_KNOBS)))
    paths.add(_package())
    return {path for path in paths if path.startswith("/")}


def _package() -> str:
    return os.path.dirname(os.path.realpath(condor_isolation.__file__))


def find_classad() -> str:
    """Return the directory that PYTHON imports classad2 from, '' if it cannot."""
    code = (
        "import importlib.util as u, os; s = u.find_spec('classad2'); "
        "print(os.path.dirname(os.path.dirname(os.path.realpath(s.origin))) if s else '')"
    )
    try:
        done = subprocess.run(
            [PYTHON, "-I", "-c", code],
            env={"PATH": condor.TOOL_PATH},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=condor.TOOL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _bad_expressions(settings: Settings) -> dict[str, str]:
    problems = {
        record: condor.expression_problem(text) for record, text in settings.expressions.items()
    }
    return {record: what for record, what in problems.items() if what}


def master_has_no_new_privs(config: Config) -> bool:
    """Tell whether the running condor_master, and so every job, has no_new_privs."""
    pid = condor.master_pid(config)
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return NO_NEW_PRIVS in file.read()
    except OSError:
        return False


def gather(
    settings: Settings, config: Config, sources: tuple[Source, ...], absent: tuple[str, ...]
) -> Machine:
    """Return all facts that SETTINGS make worth knowing."""
    executes = execute_directories(config)
    named = _named_paths(settings, config, executes) | {source.path for source in sources}
    paths = {path: trust.look(path) for path in named}
    mount_points = [
        trust.look_mount_point(paths[root.path].real, path, kind)
        for root in settings.chroots
        if paths[root.path].kind == trust.DIRECTORY
        for path, kind in needed_in(settings, root, executes).items()
    ]
    return Machine(
        config=config,
        sources=sources,
        absent=absent,
        paths=paths,
        mount_points=tuple(dict.fromkeys(mount_points)),
        users={name: _uid(name) for name in _accounts(r.users for r in settings.chroots)},
        groups={name: _gid(name) for name in _accounts(r.groups for r in settings.chroots)},
        helper=look_helper(config.value("USER_JOB_WRAPPER")),
        executes=executes,
        package=_package(),
        classad_path=find_classad() if settings.expressions else "",
        bad_expressions=_bad_expressions(settings),
        master_no_new_privs=master_has_no_new_privs(config),
    )
