"""The one table of knobs, and what is read from them.

Reader (reader.py), defaults, fragments, ``show`` and docs/knobs.md derive from SETTINGS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from condor_isolation import records
from condor_isolation.problems import DEFAULT_PLACE

MIB = 1024 * 1024
GLOBAL, CHROOT, FRAGMENT = "global", "chroot", "fragment"
LIBEXEC = "/usr/libexec/condor-isolation"


@dataclass(frozen=True)
class Knob:
    """One knob of the effective configuration; PLACE is ``file:line`` or ``default``."""

    name: str
    value: str
    place: str = DEFAULT_PLACE


@dataclass(frozen=True)
class Setting:
    """One row of the table: all that is known about a knob."""

    name: str
    kind: str
    default: str
    help: str
    scope: str = GLOBAL
    unit: str = ""
    expression: bool = False
    record: str = ""  # the limit, mode or expression of records.py that it becomes
    scale: int = 1  # units of the record in one unit of the knob
    least: Decimal = Decimal(1)
    most: Decimal = Decimal(2**40)
    words: tuple[str, ...] = ()


def _limit(
    record: str,
    unit: str,
    help: str,
    *,
    default: str = "",
    scale: int = 1,
    least: str = "1",
    most: int = 2**40,
    expression: bool = True,
) -> Setting:
    return Setting(
        f"ISOLATION_{record.upper().replace('-', '_')}",
        "amount",
        default,
        help,
        unit=unit,
        expression=expression,
        record=record,
        scale=scale,
        least=Decimal(least),
        most=Decimal(most),
    )


def _mode(control: str, default: str, help: str) -> Setting:
    knob = f"ISOLATION_{control.upper().replace('-', '_')}_MODE"
    return Setting(knob, "word", default, help, record=control, words=records.MODES)


HIDDEN = (
    "LOG",
    "SPOOL",
    "SEC_TOKEN_SYSTEM_DIRECTORY",
    "SEC_PASSWORD_DIRECTORY",
    "SEC_CREDENTIAL_DIRECTORY",
    "SEC_CREDENTIAL_DIRECTORY_KRB",
    "SEC_CREDENTIAL_DIRECTORY_OAUTH",
    "CRED_STORE_DIR",
)

SETTINGS = (
    Setting(
        "ISOLATION_ENABLE",
        "flag",
        "True",
        "False: jobs run as without the package, and the machine no longer says HasIsolation. "
        "For emergencies: set it, run condor_isolation apply.",
    ),
    Setting(
        "MOUNT_UNDER_SCRATCH",
        "private",
        '"/tmp,/var/tmp"',
        "HTCondor's own knob: directories that every job has for itself, kept in its scratch "
        "directory. Of an expression, each path in its string literals becomes private for "
        "every job.",
        expression=True,
    ),
    Setting(
        "NAMED_CHROOT",
        "roots",
        "",
        "Environments that jobs may ask for: NAME=/path pairs. Names are case sensitive. HTCondor "
        "before 25.5.1 reads this knob itself: put the pairs into ISOLATION_NAMED_CHROOT there, "
        "and NAME=// for each name, which does nothing, into this one.",
    ),
    Setting(
        "ISOLATION_NAMED_CHROOT",
        "roots",
        "",
        "The same as NAMED_CHROOT (both are read), with a name that HTCondor before 25.5.1 "
        "leaves alone.",
    ),
    Setting(
        "NAMED_CHROOT_<NAME>_USERS",
        "accounts",
        "",
        "Users that may use this chroot (names or numbers). Without _USERS and _GROUPS everyone "
        "may; with both, who is in either may.",
        scope=CHROOT,
    ),
    Setting(
        "NAMED_CHROOT_<NAME>_GROUPS",
        "accounts",
        "",
        "Groups whose members may use this chroot (names or numbers).",
        scope=CHROOT,
    ),
    Setting(
        "NAMED_CHROOT_<NAME>_BIND",
        "binds",
        "",
        "Directories and files of the machine that are seen in this chroot: "
        "source[:destination][:ro|rw], read-only unless rw is said.",
        scope=CHROOT,
    ),
    Setting(
        "NAMED_CHROOT_<NAME>_READ_ONLY",
        "flag",
        "True",
        "False: jobs may write in the chroot where its file permissions let them. Two jobs of "
        "one user then share what they write.",
        scope=CHROOT,
    ),
    Setting(
        "NAMED_CHROOT_<NAME>_DESCRIPTION",
        "text",
        "",
        "One line for people: what is in it.",
        scope=CHROOT,
    ),
    Setting(
        "ISOLATION_CHROOT",
        "chroot",
        "RequestedChroot",
        "Expression over the job (TARGET) and the machine (MY) that gives the name of the job's "
        'chroot; undefined or "" is the machine itself. A string literal ("EL9") forces that '
        "chroot for every job.",
        expression=True,
        record="chroot",
    ),
    Setting(
        "ISOLATION_BIND",
        "binds",
        "",
        "For every job, in a chroot or not: source[:destination][:ro|rw], read-only unless rw "
        "is said.",
    ),
    Setting(
        "ISOLATION_READ_ONLY",
        "paths",
        "",
        "Directories and files of the machine that are read-only for every job.",
    ),
    Setting(
        "ISOLATION_HIDE",
        "paths",
        ", ".join([*(f"$({name})" for name in HIDDEN), "/run/user"]),
        "Directories and files of the machine that are empty for every job. The default is what "
        "of HTCondor's own no job needs (logs, spool, tokens, passwords), and /run/user, where a "
        "user's service manager would start processes outside the isolation.",
    ),
    Setting(
        "ISOLATION_NETWORK",
        "word",
        "host",
        "Network of the job. Only host (the machine's) for now.",
        words=records.NETWORKS,
    ),
    Setting(
        "ISOLATION_TMP_SIZE",
        "amount",
        "",
        "The private directories are kept in memory and hold this much each. Unset: they are "
        "kept in the scratch directory, and what HTCondor says about disk applies.",
        unit="MiB",
        scale=MIB,
    ),
    Setting(
        "ISOLATION_SHM_SIZE",
        "amount",
        "1024",
        "Ceiling for /dev/shm. What is in it counts as the job's memory.",
        unit="MiB",
        scale=MIB,
    ),
    _limit(
        "memory-max",
        "MiB",
        "Hard memory limit, where it is to be lower than HTCondor's own.",
        scale=MIB,
    ),
    _limit(
        "memory-high",
        "MiB",
        "Above this the job is slowed and its memory reclaimed; nothing is killed.",
        scale=MIB,
    ),
    _limit(
        "memory-low",
        "MiB",
        "Up to this the job's memory is not reclaimed for others. A number only: it is the "
        "machine's to give, and an expression could be led astray by the job's ad.",
        scale=MIB,
        least="0",
        expression=False,
    ),
    _limit("swap-max", "MiB", "Swap that the job may use.", scale=MIB, least="0"),
    _limit(
        "pids-max",
        "processes",
        "Processes and threads of the job, all together.",
        default="10000",
        least="16",
        most=4194304,
    ),
    _limit(
        "cpu-max",
        "cores",
        "CPU time per second of wall clock; fractions allowed. HTCondor itself only sets shares.",
        scale=1000,
        least="0.01",
        most=8192,
    ),
    _limit(
        "cpu-weight",
        "",
        "Share of a busy machine's CPU time. HTCondor gives each job 100 per core.",
        most=10000,
    ),
    Setting(
        "ISOLATION_MIN_UID",
        "amount",
        "500",
        "Jobs of accounts below this are refused.",
        unit="uid",
        most=Decimal(2**31 - 1),
    ),
    *(_mode(*control) for control in records.CONTROLS),
    Setting(
        "ISOLATION_LIBEXEC",
        "macro",
        LIBEXEC,
        "Where the package's programs are; the fragments use it.",
        scope=FRAGMENT,
    ),
    Setting(
        "ISOLATION_START",
        "macro",
        "",
        "What the fragment adds to START. A START that is set in a later file needs it: "
        "START = ($(START)) && $(ISOLATION_START).",
        scope=FRAGMENT,
    ),
    Setting(
        "ISOLATION_HOOK_PREPARE_JOB",
        "macro",
        "",
        "The hook that holds a job with a readable reason (HTCondor 24.8 and later).",
        scope=FRAGMENT,
    ),
    Setting(
        "ISOLATION_COOL_DOWN",
        "macro",
        "60",
        "Access point: a job whose wrapper could not start it waits this long (HTCondor 23.8 and "
        "later).",
        scope=FRAGMENT,
        unit="seconds",
    ),
)

BY_NAME = {row.name: row for row in SETTINGS}
CHROOT_KNOBS = ("NAMED_CHROOT", "ISOLATION_NAMED_CHROOT")
CHROOT_FIELDS = tuple(
    row.name[len("NAMED_CHROOT_<NAME>_") :] for row in SETTINGS if row.scope == CHROOT
)


@dataclass(frozen=True)
class Bind:
    """SOURCE of the machine appears at DESTINATION; KNOB said so."""

    source: str
    destination: str
    access: str
    knob: str


@dataclass(frozen=True)
class Account:
    """A user or group as written: a name or a number."""

    name: str
    knob: str


@dataclass(frozen=True)
class Chroot:
    """One named chroot.  KNOB is the one that names it."""

    name: str
    path: str
    knob: str
    users: tuple[Account, ...] = ()
    groups: tuple[Account, ...] = ()
    binds: tuple[Bind, ...] = ()
    read_only: bool = True
    description: str = ""


@dataclass(frozen=True)
class Settings:
    """What the admin wants, in the units of records.py; paths as written, accounts as named."""

    enable: bool = True
    private: tuple[str, ...] = ()
    chroots: tuple[Chroot, ...] = ()
    forced: str = ""
    binds: tuple[Bind, ...] = ()
    read_only: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    network: str = "host"
    tmp_size: int | None = None
    shm_size: int = 0
    min_uid: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)
    expressions: Mapping[str, str] = field(default_factory=dict)
    modes: Mapping[str, str] = field(default_factory=dict)


Knobs = Mapping[str, Knob]


def mode_rows() -> Iterator[Setting]:
    """Yield the rows of the modes, in the order of records.CONTROLS."""
    return (row for row in SETTINGS if row.record in records.CONTROL_WORDS)
