"""Installs the compiled policy: check, compile, show what changes, rename into place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from condor_isolation import (
    check,
    compile,
    condor,
    machine,
    ownership,
    reader,
    records,
    settings,
    trust,
)
from condor_isolation.condor import CondorError
from condor_isolation.problems import ERROR, Problem, errors

FAULT_MARK = "/run/condor-isolation/fault"
DIFF_LINES_MAX = 40


class ApplyError(Exception):
    """The policy was not installed: one line."""


@dataclass(frozen=True)
class Result:
    """What the configuration asks for, what is wrong with it, and the policy if nothing is."""

    settings: settings.Settings
    machine: machine.Machine
    problems: tuple[Problem, ...]
    policy: bytes = b""


def examine() -> Result:
    """Return all about the effective configuration.  Raise CondorError if it cannot be read."""
    config, sources, absent = machine.read_config()
    wanted, problems = reader.read(config.knobs, config.native_chroot)
    facts = machine.gather(wanted, config, sources, absent)
    problems += check.check(wanted, facts)
    if not wanted.enable:
        problems = check.demote(problems)
    if errors(problems):
        return Result(wanted, facts, problems)
    try:
        return Result(wanted, facts, problems, compile.compile_policy(wanted, facts))
    except records.RecordError as error:
        what = f"the policy cannot be written: {error}"
        late = Problem(ERROR, "APPLY", "", "policy", what, "correct it")
        return Result(wanted, facts, (*problems, late))


def installed() -> bytes:
    """Return the installed policy, empty if there is none."""
    try:
        with open(compile.POLICY_PATH, "rb") as file:
            return file.read(records.POLICY_BYTES_MAX + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ApplyError(f"{compile.POLICY_PATH}: {error.strerror}") from None


def _lines(policy: bytes) -> dict[str, None]:
    """Return the records of POLICY but for the times of its sources, in their order."""
    try:
        found = records.split_lines("policy", policy) if policy else []
    except records.RecordError:
        found = []
    return dict.fromkeys(
        " ".join(("source", record[-1]) if record[0] == "source" else record) for record in found
    )


def difference(old: bytes, new: bytes) -> Iterator[str]:
    """Yield a few lines for people: - what goes, + what comes."""
    before, after = _lines(old), _lines(new)
    lines = [f"- {line}" for line in before if line not in after]
    lines += [f"+ {line}" for line in after if line not in before]
    yield from lines[:DIFF_LINES_MAX]
    if len(lines) > DIFF_LINES_MAX:
        yield f"... and {len(lines) - DIFF_LINES_MAX} more"


def make_mount_points(points: Iterable[trust.MountPoint]) -> Iterator[str]:
    """Make each missing one and yield its place.  Raise ApplyError if that fails."""
    for point in points:
        if point.kind != trust.MISSING or os.path.lexists(point.place):
            continue
        try:
            _make(point.place, point.wanted)
        except OSError as error:
            raise ApplyError(f"{point.place}: {error.strerror}") from None
        yield point.place


def _make(place: str, wanted: str) -> None:
    missing = []
    here = place if wanted == trust.DIRECTORY else os.path.dirname(place)
    while not os.path.lexists(here):
        missing.append(here)
        here = os.path.dirname(here)
    for directory in reversed(missing):
        os.mkdir(directory, 0o755)
        os.chmod(directory, 0o755)  # whatever the umask is
    if wanted != trust.DIRECTORY:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(place, flags, 0o644)
        os.fchmod(fd, 0o644)
        os.close(fd)


def _policy_directory() -> str:
    directory = compile.POLICY_DIRECTORY
    os.makedirs(directory, 0o755, exist_ok=True)
    reason = ownership.untrusted(os.path.realpath(directory))
    if reason or os.path.realpath(directory) != directory:
        raise ApplyError(reason or f"{directory} is a symbolic link")
    os.chmod(directory, 0o755)
    return directory


def install(policy: bytes) -> None:
    """Put POLICY in the place of the old one, whole or not at all.  Raise ApplyError."""
    try:
        directory = _policy_directory()
        fd, temporary = tempfile.mkstemp(prefix=".policy.", dir=directory)
        try:
            with open(fd, "wb") as file:
                file.write(policy)
                file.flush()
                os.fchmod(fd, 0o644)
                os.fsync(fd)
            os.rename(temporary, compile.POLICY_PATH)
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_directory(directory)
    except OSError as error:
        raise ApplyError(f"{error.filename or compile.POLICY_PATH}: {error.strerror}") from None


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_fault_mark() -> None:
    """Let the machine match again: a fault of the old policy says nothing of the new one."""
    try:
        os.unlink(FAULT_MARK)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ApplyError(f"{FAULT_MARK}: {error.strerror}") from None


def apply(result: Result, reconfig: bool) -> Iterator[str]:
    """Install the policy of RESULT and yield a line for each thing done.  Raise ApplyError."""
    if os.geteuid() != 0:
        raise ApplyError("only root can install the policy")
    for place in make_mount_points(result.machine.mount_points):
        yield f"created {place}"
    install(result.policy)
    remove_fault_mark()
    yield f"installed {compile.POLICY_PATH}"
    if not reconfig:
        return
    if condor.master_pid(result.machine.config) is None:
        yield "HTCondor does not run: nothing to reconfigure"
        return
    try:
        condor.reconfig()
    except CondorError as error:
        raise ApplyError(f"the policy is installed, but {error}") from None
    yield "HTCondor reads its configuration again"
