"""Makes Settings of the effective configuration: pure, and no problem hides another."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from condor_isolation import records
from condor_isolation.problems import DEFAULT_PLACE, ERROR, WARNING, Problem
from condor_isolation.settings import (
    BY_NAME,
    CHROOT,
    CHROOT_FIELDS,
    CHROOT_KNOBS,
    SETTINGS,
    Chroot,
    Knobs,
    Setting,
    Settings,
    mode_rows,
)
from condor_isolation.values import (
    ENTRY_PARSERS,
    PARSERS,
    BadValueError,
    entries,
    excerpt,
    is_expression,
    one_line,
    string_literal,
)


def expand_default(text: str, knobs: Knobs) -> str:
    """Return TEXT with each $(KNOB) replaced by its effective value."""

    def value(match: re.Match[str]) -> str:
        knob = knobs.get(match[1].upper())
        return knob.value if knob else ""

    return re.sub(r"\$\(([A-Za-z_]+)\)", value, text)


def chroot_key(name: str) -> str:
    """Return how the name of a chroot stands in a knob's name: EL9.2 is EL9_2."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())


ALIKE = 0.8


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
        """Return the parsed value, or the default's if it is wrong; of a list what is right."""
        text = self.text(row)
        if row.kind in ENTRY_PARSERS:
            return self.entries(row, text)
        if not text and row.kind == "amount":
            return None
        try:
            return PARSERS[row.kind](row, text)
        except BadValueError as bad:
            self.wrong(row, bad)
        default = expand_default(row.default, self.knobs)
        return PARSERS[row.kind](row, default) if default else None

    def entries(self, row: Setting, text: str) -> tuple[Any, ...]:
        """Return the good entries of a list, each once."""
        found: dict[Any, None] = {}
        try:
            words = entries(row, text)
        except BadValueError as bad:
            self.wrong(row, bad)
            return ()
        for word in words:
            try:
                found[ENTRY_PARSERS[row.kind](row, word)] = None
            except BadValueError as bad:
                self.wrong(row, bad)
        return tuple(found)

    def wrong(self, row: Setting, bad: BadValueError) -> None:
        self.complain(ERROR, bad.name, row.name, bad.what, bad.remedy)

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
            what = f"no chroot is named {excerpt(literal)}"
            self.complain(ERROR, "UNKNOWN_NAME", row.name, what, _choice(literal, names))
            return "", ""
        return literal, "" if literal else '""'

    def unknown(self, chroots: tuple[Chroot, ...]) -> None:
        """Complain about each knob that looks like one of ours and is none."""
        keys = [chroot_key(root.name) for root in chroots]
        for name in sorted(self.knobs):
            prefix, dot, base = name.rpartition(".")
            ours = looks_like_ours(base)
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


def is_known(name: str, keys: Iterable[str]) -> bool:
    """Tell whether NAME, in capitals, is a knob of the table, given the KEYS of the chroots."""
    if name in BY_NAME or name.startswith("ISOLATION_HOOK_"):
        return True
    return any(name == f"NAMED_CHROOT_{key}_{last}" for key in keys for last in CHROOT_FIELDS)


def looks_like_ours(name: str) -> bool:
    """Tell whether NAME is meant for us: by its first word, also if that is misspelt."""
    first = name.partition("_")[0]
    alike = difflib.SequenceMatcher(None, first, "ISOLATION").ratio() > ALIKE
    return alike or name.startswith("NAMED_CHROOT_")


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
    near = difflib.get_close_matches(name, known, 1, 0.75)
    return f"did you mean {near[0]}?" if near else "see docs/knobs.md, or remove it"


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
