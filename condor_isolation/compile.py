"""Makes the records of the compiled policy: a pure function of settings and machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from condor_isolation import records
from condor_isolation.machine import Machine
from condor_isolation.settings import Account, Bind, Chroot, Settings

POLICY_DIRECTORY = "/etc/condor-isolation"
POLICY_PATH = f"{POLICY_DIRECTORY}/policy"

Record = tuple[str, ...]
NOTHING: dict[str, Any] = {
    "private": (),
    "hide": (),
    "read_only": (),
    "binds": (),
    "chroots": (),
    "forced": "",
    "limits": {},
    "expressions": {},
}


def compile_policy(settings: Settings, machine: Machine) -> bytes:
    """Return the file that the helper loads.

    Given settings that check.py found no error in, so that every account has a number and every
    path exists.  Raise records.RecordError if they do not fit the format all the same.
    """
    return records.encode("policy", list(_all(settings, machine)))


def _all(settings: Settings, machine: Machine) -> Iterator[Record]:
    yield ("enable", str(int(settings.enable)))
    yield from _from(machine)
    yield ("min-uid", str(settings.min_uid))
    if not settings.enable:  # whatever is wrong with the rest does not matter
        settings = replace(settings, **NOTHING)
    # The order is the order of the files, of the table or of the alphabet: never of a hash.
    yield from (("execute", path) for path in _once(machine.real(e) for e in machine.executes))
    yield from (("private", path) for path in settings.private)
    yield from (("hide", path) for path in settings.hide)
    yield from (("read-only", path) for path in settings.read_only)
    yield from (("bind", *_bind(bind, machine)) for bind in outer_first(settings.binds))
    for root in sorted(settings.chroots, key=lambda root: root.name):
        yield from _root(root, machine)
    if settings.forced:
        yield ("root-forced", settings.forced)
    yield from _limits(settings)
    yield from (("mode", *item) for item in settings.modes.items())
    yield from (("expr", *item) for item in sorted(settings.expressions.items()))
    if settings.expressions and machine.classad_path:
        yield ("classad-path", machine.classad_path)


def _from(machine: Machine) -> Iterator[Record]:
    config = machine.config
    for source in machine.sources:
        yield ("source", str(source.mtime_ns), str(source.size), source.path)
    yield ("starter", machine.real(config.value("STARTER")))
    # The helper compares these two with its arguments: as HTCondor writes them, links and all.
    wrapper = config.value("USER_JOB_WRAPPER")
    yield ("wrapper", wrapper)
    yield ("planner", machine.real(machine.python), machine.real(wrapper))
    yield ("sshd", config.value("SSH_TO_JOB_SSHD") or "/usr/sbin/sshd")


def _once(paths: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))


def outer_first(binds: tuple[Bind, ...]) -> list[Bind]:
    """Return BINDS so that none covers an earlier one."""
    return sorted(binds, key=lambda bind: bind.destination)


def _bind(bind: Bind, machine: Machine) -> Record:
    return (machine.real(bind.source), bind.destination, bind.access)


def _numbers(accounts: Iterable[Account], known: Mapping[str, int | None]) -> list[int]:
    """Return the ids of ACCOUNTS.  To leave one out could open the chroot to everyone."""
    found = set()
    for account in accounts:
        number = known.get(account.name)
        if number is None:
            raise records.RecordError(f"{account.knob}: {account.name} has no number")
        found.add(number)
    return sorted(found)


def _root(root: Chroot, machine: Machine) -> Iterator[Record]:
    yield ("root", root.name, machine.real(root.path), "ro" if root.read_only else "rw")
    for uid in _numbers(root.users, machine.users):
        yield ("root-user", root.name, str(uid))
    for gid in _numbers(root.groups, machine.groups):
        yield ("root-group", root.name, str(gid))
    yield from (("root-bind", root.name, *_bind(bind, machine)) for bind in outer_first(root.binds))


def _limits(settings: Settings) -> Iterator[Record]:
    if settings.tmp_size is not None:
        yield ("tmp-size", str(settings.tmp_size))
    yield ("shm-size", str(settings.shm_size))
    yield ("network", settings.network)
    for word in records.LIMIT_WORDS:
        if word in settings.limits:
            yield ("limit", word, str(settings.limits[word]))
