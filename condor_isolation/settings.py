"""The one table of knobs, and the reader that makes Settings of the effective configuration.

Parser, defaults, fragments, ``show`` and docs/knobs.md derive from SETTINGS.  All here is pure:
what the machine looks like is looked at in check.py.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Callable

from condor_isolation import records
from condor_isolation.problems import DEFAULT_PLACE, ERROR, WARNING, Problem

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
) -> Setting:
    return Setting(
        f"ISOLATION_{record.upper().replace('-', '_')}",
        "amount",
        default,
        help,
        unit=unit,
        expression=True,
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
        ", ".join(f"$({name})" for name in HIDDEN),
        "Directories and files of the machine that are empty for every job. The default is what "
        "of HTCondor's own no job needs: logs, spool, tokens, passwords.",
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
        "Up to this the job's memory is not reclaimed for others.",
        scale=MIB,
        least="0",
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


class BadValueError(ValueError):
    """A value that cannot be used: message name, what is wrong, what to write."""

    def __init__(self, name: str, what: str, remedy: str) -> None:
        super().__init__(what)
        self.name, self.what, self.remedy = name, what, remedy


def _show(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _list(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def _flag(_row: Setting, text: str) -> bool:
    words = {"true": True, "t": True, "yes": True, "1": True}
    words.update({"false": False, "f": False, "no": False, "0": False})
    if text.lower() not in words:
        raise BadValueError("BAD_VALUE", f"{_show(text)} is no truth value", "write True or False")
    return words[text.lower()]


def _word(row: Setting, text: str) -> str:
    if text.lower() in row.words:
        return text.lower()
    near = difflib.get_close_matches(text.lower(), row.words, 1, 0.5)
    hint = f"write {near[0]}" if near else f"write one of: {', '.join(row.words)}"
    raise BadValueError("BAD_VALUE", f"{_show(text)} is none of {', '.join(row.words)}", hint)


_SUFFIXED = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def number(row: Setting, text: str) -> int:
    """Return TEXT, a number in the unit of the knob, in units of its record."""
    suffixed = _SUFFIXED.fullmatch(text)
    if suffixed and row.scale == MIB:
        power = "KMGT".index(suffixed[2].upper()) - 1
        amount = Decimal(suffixed[1]) * Decimal(1024) ** power
        plain = f"{amount.normalize():f}"
        raise BadValueError("BAD_VALUE", f"{_show(text)} has a suffix", f"write {plain} (MiB)")
    try:
        value = Decimal(text)
    except InvalidOperation:
        unit = f" of {row.unit}" if row.unit else ""
        raise BadValueError(
            "BAD_VALUE", f"{_show(text)} is no number{unit}", "write a plain number"
        ) from None
    if not row.least <= value <= row.most:
        raise BadValueError(
            "OUT_OF_RANGE",
            f"{text} is out of range",
            f"write a number from {row.least} to {row.most}",
        )
    scaled = value * row.scale
    if scaled != int(scaled):
        raise BadValueError("BAD_VALUE", f"{text} is too fine", "write a whole number")
    return int(scaled)


def normal_path(text: str) -> str:
    """Return TEXT if it is an absolute path in normal form, raise BadValueError otherwise."""
    if not text.startswith("/"):
        raise BadValueError(
            "BAD_PATH", f"{_show(text)} is not an absolute path", "write the path from / on"
        )
    if not records.path_is_normal(text):
        normal = "/" + "/".join(part for part in text.split("/") if part not in ("", "."))
        hint = "write it without .." if "/../" in text + "/" else f"write {normal}"
        raise BadValueError("BAD_PATH", f"{_show(text)} is not in normal form", hint)
    return text


def _paths(_row: Setting, text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(normal_path(word) for word in _list(text)))


_STRING = r'"(?:[^"\\]|\\.)*"'


def string_literal(text: str) -> str | None:
    """Return the value of TEXT if it is one ClassAd string literal."""
    if re.fullmatch(_STRING, text, re.DOTALL) is None:
        return None
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _private(row: Setting, text: str) -> tuple[str, ...]:
    literal = string_literal(text)
    if literal is not None or text.startswith("/") or not text:
        return _paths(row, text if literal is None else literal)
    literals = [part[1:-1] for part in re.findall(_STRING, text, re.DOTALL)]
    paths = _paths(row, ",".join(part for part in literals if part.startswith("/")))
    if not paths:
        raise BadValueError(
            "BAD_VALUE",
            f"no path can be read from the expression {_show(text)}",
            'write each directory as a string literal, such as "/tmp,/var/tmp"',
        )
    return paths


def _binds(row: Setting, text: str) -> tuple[Bind, ...]:
    return tuple(dict.fromkeys(_bind(row.name, word) for word in _list(text)))


def _bind(knob: str, word: str) -> Bind:
    parts = word.split(":")
    access = parts.pop() if len(parts) > 1 and parts[-1] in records.ACCESS else "ro"
    if len(parts) > 2 or not parts[-1].startswith("/"):
        raise BadValueError(
            "BAD_BIND", f"{_show(word)} is no bind", "write source[:destination][:ro|rw]"
        )
    return Bind(normal_path(parts[0]), normal_path(parts[-1]), access, knob)


def _accounts(row: Setting, text: str) -> tuple[Account, ...]:
    return tuple(Account(name, row.name) for name in dict.fromkeys(_list(text)))


def _roots(row: Setting, text: str) -> tuple[Chroot, ...]:
    # "EL9 = /path" is the same as "EL9=/path".
    return tuple(_root(row.name, word) for word in _list(re.sub(r"\s*=\s*", "=", text)))


def _root(knob: str, word: str) -> Chroot:
    name, equals, path = word.partition("=")
    if not equals:
        raise BadValueError("BAD_CHROOT_NAME", f"{_show(word)} is no pair", "write NAME=/path")
    if not records.name_is_good(name):
        raise BadValueError(
            "BAD_CHROOT_NAME",
            f"{_show(name)} cannot be the name of a chroot",
            "use letters, digits, _, - and ., 64 at most",
        )
    if normal_path(path) == "/":
        raise BadValueError(
            "BAD_PATH", f"{name} is / itself", "leave it out: a job that asks for none has /"
        )
    return Chroot(name, path, knob)


def _text(_row: Setting, text: str) -> str:
    return text


PARSERS: Mapping[str, Callable[[Setting, str], Any]] = {
    "flag": _flag,
    "word": _word,
    "amount": number,
    "paths": _paths,
    "private": _private,
    "binds": _binds,
    "accounts": _accounts,
    "roots": _roots,
    "text": _text,
    "chroot": _text,
}


def is_expression(row: Setting, text: str) -> bool:
    """Tell whether TEXT, the value of a knob that may be an expression, is one."""
    if not row.expression:
        return False
    if row.kind == "private":
        return bool(text) and not text.startswith("/") and string_literal(text) is None
    if row.kind == "chroot":
        return string_literal(text) is None
    return not _NUMBER.fullmatch(text) and not _SUFFIXED.fullmatch(text)


def expand_default(text: str, knobs: Knobs) -> str:
    """Return TEXT with each $(KNOB) replaced by its effective value."""

    def value(match: re.Match[str]) -> str:
        knob = knobs.get(match[1].upper())
        return knob.value if knob else ""

    return re.sub(r"\$\(([A-Za-z_]+)\)", value, text)


def chroot_key(name: str) -> str:
    """Return how the name of a chroot stands in a knob's name: EL9.2 is EL9_2."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())


class Reader:
    """Reads the rows of the table from KNOBS and gathers every problem on the way."""

    def __init__(self, knobs: Knobs, native_chroot: bool = False) -> None:
        self.knobs = knobs
        self.root_knobs = CHROOT_KNOBS[1:] if native_chroot else CHROOT_KNOBS
        self.problems: list[Problem] = []

    def place(self, name: str) -> str:
        knob = self.knobs.get(name)
        return knob.place if knob else DEFAULT_PLACE

    def complain(self, severity: str, ident: str, knob: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(severity, ident, self.place(knob), knob, what, remedy))

    def text(self, row: Setting) -> str:
        """Return the value as it stands, or the default.

        HTCondor itself takes an empty value as unset, except where its own default is not
        empty: MOUNT_UNDER_SCRATCH = (nothing) is no private directory.
        """
        knob = self.knobs.get(row.name)
        if knob and (knob.value.strip() or row.name == "MOUNT_UNDER_SCRATCH"):
            return knob.value.strip()
        return expand_default(row.default, self.knobs)

    def value(self, row: Setting) -> Any:
        """Return the parsed value; the default's where it is wrong, with a problem noted."""
        text = self.text(row)
        if not text and row.kind in ("amount", "word"):
            return None
        try:
            return PARSERS[row.kind](row, text)
        except BadValueError as bad:
            self.complain(ERROR, bad.name, row.name, bad.what, bad.remedy)
        default = expand_default(row.default, self.knobs)
        return PARSERS[row.kind](row, default) if default or row.kind != "amount" else None

    def __call__(self, name: str) -> Any:
        return self.value(BY_NAME[name])

    def chroot(self, root: Chroot) -> Chroot:
        """Return ROOT with its fields read."""
        found: dict[str, Any] = {}
        for name in CHROOT_FIELDS:
            row = BY_NAME[f"NAMED_CHROOT_<NAME>_{name}"]
            own = row.name.replace("<NAME>", chroot_key(root.name))
            found[name] = self.value(replace(row, name=own))
        return replace(
            root,
            users=found["USERS"],
            groups=found["GROUPS"],
            binds=found["BIND"],
            read_only=found["READ_ONLY"],
            description=found["DESCRIPTION"],
        )

    def chroots(self) -> tuple[Chroot, ...]:
        """Return the chroots of the knobs that are ours, each name once."""
        found: dict[str, Chroot] = {}
        for root in (root for knob in self.root_knobs for root in self(knob)):
            other = found.setdefault(chroot_key(root.name), root)
            if (other.name, other.path) != (root.name, root.path):
                self.complain(
                    ERROR,
                    "DUPLICATE_CHROOT",
                    root.knob,
                    f"{root.name}={root.path} and {other.name}={other.path} have one name",
                    "rename one (case, - and . do not count in the names of their knobs)",
                )
        return tuple(self.chroot(root) for root in found.values())

    def amounts(self) -> tuple[dict[str, int], dict[str, str]]:
        """Return the limits that are numbers, and those that are expressions."""
        limits, expressions = {}, {}
        for row in SETTINGS:
            if row.record not in records.LIMIT_WORDS:
                continue
            text = self.text(row)
            if text and is_expression(row, text):
                expressions[row.record] = one_line(text)
                continue
            value = self.value(row)
            if value is not None:
                limits[row.record] = value
        return limits, expressions

    def job_chroot(self, chroots: tuple[Chroot, ...]) -> tuple[str, str]:
        """Return the forced chroot and the expression; at most one of them is not empty."""
        row = BY_NAME["ISOLATION_CHROOT"]
        text = one_line(self.text(row))
        literal = string_literal(text)
        names = [root.name for root in chroots]
        if literal is None:
            if text.lower() in [name.lower() for name in names]:
                what = f"{text} is an attribute of the job, not the chroot"
                self.complain(ERROR, "BAD_VALUE", row.name, what, f'write "{text}" with quotes')
            plain = text.lower() in ("requestedchroot", "target.requestedchroot")
            return "", "" if plain else text
        if literal and literal not in names:
            what = f"no chroot is named {_show(literal)}"
            self.complain(ERROR, "UNKNOWN_NAME", row.name, what, _choice(literal, names))
            return "", ""
        return literal, "" if literal else '""'

    def unknown(self, chroots: tuple[Chroot, ...]) -> None:
        """Complain about each knob that looks like one of ours and is none."""
        keys = [chroot_key(root.name) for root in chroots]
        for name in sorted(self.knobs):
            prefix, dot, base = name.rpartition(".")
            ours = base.startswith(("ISOLATION_", "NAMED_CHROOT_"))
            if dot and (ours or base in BY_NAME):
                self._prefixed(name, prefix)
            if ours and not is_known(base, keys):
                hint = nearest_knob(base, keys)
                self.complain(ERROR, "UNKNOWN_KNOB", name, "no such knob", hint)

    def _prefixed(self, name: str, prefix: str) -> None:
        if prefix == "STARTER":
            return
        what = f"the policy is one for the machine, {prefix}. is not looked at"
        self.complain(ERROR, "PREFIXED_KNOB", name, what, "set it without the prefix")


def _choice(word: str, names: Iterable[str]) -> str:
    names = list(names)
    near = difflib.get_close_matches(word, names, 1, 0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(names)}" if names else "none is configured"


def one_line(text: str) -> str:
    """Return TEXT, an expression, with each run of blanks outside of strings as one space."""
    parts = re.split(f"({_STRING})", text, flags=re.DOTALL)
    return "".join(
        part if index % 2 else re.sub(r"\s+", " ", part) for index, part in enumerate(parts)
    ).strip()


def shown(row: Setting, text: str) -> str:
    """Return TEXT, the value of a knob of this kind, as one line for people."""
    return ", ".join(_list(text)) if row.kind in ("paths", "binds", "accounts") else one_line(text)


def is_known(name: str, keys: Iterable[str]) -> bool:
    """Tell whether NAME, in capitals, is a knob of the table, given the KEYS of the chroots."""
    if name in BY_NAME or name.startswith("ISOLATION_HOOK_"):
        return True
    return any(name == f"NAMED_CHROOT_{key}_{last}" for key in keys for last in CHROOT_FIELDS)


def nearest_knob(name: str, keys: Iterable[str]) -> str:
    """Return a hint for the unknown knob NAME."""
    keys = list(keys)
    rest = name[len("NAMED_CHROOT_") :]
    for last in CHROOT_FIELDS:
        if name.startswith("NAMED_CHROOT_") and rest.endswith(f"_{last}"):
            wrong = rest[: -len(last) - 1]
            return f"no chroot {wrong}: {_choice(wrong, keys)}"
    known = [row.name for row in SETTINGS if row.scope != CHROOT]
    known += [f"NAMED_CHROOT_{key}_{last}" for key in keys for last in CHROOT_FIELDS]
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f"did you mean {near[0]}?" if near else "see docs/knobs.md, or remove it"


def effective(knobs: Iterable[Knob]) -> dict[str, Knob]:
    """Return KNOBS by name in capitals, as condor_starter sees them: STARTER.X goes before X."""
    by_name = {knob.name.upper(): knob for knob in knobs}
    for name, knob in list(by_name.items()):
        if name.startswith("STARTER."):
            by_name[name[len("STARTER.") :]] = knob
    return by_name


def read(knobs: Knobs, native_chroot: bool = False) -> tuple[Settings, tuple[Problem, ...]]:
    """Given the effective KNOBS, return the settings and every problem of the values.

    NATIVE_CHROOT tells that HTCondor itself still reads NAMED_CHROOT, so that it is not ours.
    """
    reader = Reader(knobs, native_chroot)
    chroots = reader.chroots()
    limits, expressions = reader.amounts()
    forced, expression = reader.job_chroot(chroots)
    if expression:
        expressions["chroot"] = expression
    private = reader("MOUNT_UNDER_SCRATCH")
    _private_notes(reader, private)
    found = Settings(
        enable=reader("ISOLATION_ENABLE"),
        private=private,
        chroots=chroots,
        forced=forced,
        binds=reader("ISOLATION_BIND"),
        read_only=reader("ISOLATION_READ_ONLY"),
        hide=reader("ISOLATION_HIDE"),
        network=reader("ISOLATION_NETWORK"),
        tmp_size=reader("ISOLATION_TMP_SIZE"),
        shm_size=reader("ISOLATION_SHM_SIZE"),
        min_uid=reader("ISOLATION_MIN_UID"),
        limits=limits,
        expressions=expressions,
        modes={row.record: reader.value(row) for row in mode_rows()},
    )
    reader.unknown(chroots)
    return found, tuple(reader.problems)


def mode_rows() -> Iterator[Setting]:
    """Yield the rows of the modes, in the order of records.CONTROLS."""
    return (row for row in SETTINGS if row.record in records.CONTROL_WORDS)


def _private_notes(reader: Reader, private: tuple[str, ...]) -> None:
    row = BY_NAME["MOUNT_UNDER_SCRATCH"]
    text = reader.text(row)
    if is_expression(row, text):
        what = f"is an expression: every job gets private {', '.join(private)}"
        reader.complain(WARNING, "PRIVATE", row.name, what, "write a plain list to silence this")
    missing = [path for path in ("/tmp", "/var/tmp") if path not in private]
    if missing:
        what = f"{' and '.join(missing)} shared by all jobs"
        reader.complain(WARNING, "PRIVATE", row.name, what, f"add {', '.join(missing)}")
