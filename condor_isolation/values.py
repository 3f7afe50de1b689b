"""Parsers of single values of knobs: text in, value or BadValueError out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Callable

from condor_isolation import records
from condor_isolation.settings import MIB, Account, Bind, Chroot, Setting


class BadValueError(ValueError):
    """A value that cannot be used: message name, what is wrong, what to write."""

    def __init__(self, name: str, what: str, remedy: str) -> None:
        super().__init__(what)
        self.name, self.what, self.remedy = name, what, remedy


def excerpt(text: str) -> str:
    """Return TEXT as it may stand in a message."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def split_list(text: str) -> list[str]:
    """Return the entries of a list, separated by commas or blanks as HTCondor has it."""
    return [word for word in re.split(r"[,\s]+", text) if word]


def _flag(_row: Setting, text: str) -> bool:
    words = {"true": True, "t": True, "yes": True, "1": True}
    words.update({"false": False, "f": False, "no": False, "0": False})
    if text.lower() not in words:
        raise BadValueError(
            "BAD_VALUE", f"{excerpt(text)} is no truth value", "write True or False"
        )
    return words[text.lower()]


def _word(row: Setting, text: str) -> str:
    if text.lower() in row.words:
        return text.lower()
    near = difflib.get_close_matches(text.lower(), row.words, 1, 0.5)
    hint = f"write {near[0]}" if near else f"write one of: {', '.join(row.words)}"
    raise BadValueError("BAD_VALUE", f"{excerpt(text)} is none of {', '.join(row.words)}", hint)


_SUFFIXED = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(?:i?B)?", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def number(row: Setting, text: str) -> int:
    """Return TEXT, a number in the unit of the knob, in units of its record."""
    suffixed = _SUFFIXED.fullmatch(text)
    if suffixed and row.scale == MIB:
        power = "KMGT".index(suffixed[2].upper()) - 1
        amount = Decimal(suffixed[1]) * Decimal(1024) ** power
        plain = f"{amount.normalize():f}"
        raise BadValueError("BAD_VALUE", f"{excerpt(text)} has a suffix", f"write {plain} (MiB)")
    if not _NUMBER.fullmatch(text):
        unit = f" of {row.unit}" if row.unit else ""
        raise BadValueError(
            "BAD_VALUE", f"{excerpt(text)} is no number{unit}", "write a plain number"
        )
    value = Decimal(text)
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
            "BAD_PATH", f"{excerpt(text)} is not an absolute path", "write the path from / on"
        )
    if not records.path_is_normal(text):
        normal = "/" + "/".join(part for part in text.split("/") if part not in ("", "."))
        hint = "write it without .." if "/../" in text + "/" else f"write {normal}"
        raise BadValueError("BAD_PATH", f"{excerpt(text)} is not in normal form", hint)
    return text


def _path(_row: Setting, word: str) -> str:
    return normal_path(word)


_STRING = r'"(?:[^"\\]|\\.)*"'


def string_literal(text: str) -> str | None:
    """Return the value of TEXT if it is one ClassAd string literal."""
    if re.fullmatch(_STRING, text, re.DOTALL) is None:
        return None
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def entries(row: Setting, text: str) -> list[str]:
    """Return the entries of a knob that is a list.  Raise BadValueError if there is no telling."""
    if row.kind == "roots":  # "EL9 = /path" is the same as "EL9=/path"
        return split_list(re.sub(r"\s*=\s*", "=", text))
    if row.kind != "private":
        return split_list(text)
    if not is_expression(row, text):
        literal = string_literal(text)
        return split_list(text if literal is None else literal)
    literals = [part[1:-1] for part in re.findall(_STRING, text, re.DOTALL)]
    found = [word for word in split_list(",".join(literals)) if word.startswith("/")]
    if not found:
        raise BadValueError(
            "BAD_VALUE",
            f"no path can be read from the expression {excerpt(text)}",
            'write each directory as a string literal, such as "/tmp,/var/tmp"',
        )
    return found


def _bind(row: Setting, word: str) -> Bind:
    parts = word.split(":")
    access = parts.pop() if len(parts) > 1 and parts[-1] in records.ACCESS else "ro"
    if len(parts) > 2 or not parts[-1].startswith("/"):
        raise BadValueError(
            "BAD_BIND", f"{excerpt(word)} is no bind", "write source[:destination][:ro|rw]"
        )
    return Bind(normal_path(parts[0]), normal_path(parts[-1]), access, row.name)


def _account(row: Setting, word: str) -> Account:
    return Account(word, row.name)


def _root(row: Setting, word: str) -> Chroot:
    name, equals, path = word.partition("=")
    if not equals:
        raise BadValueError("BAD_CHROOT_NAME", f"{excerpt(word)} is no pair", "write NAME=/path")
    if not records.name_is_good(name):
        raise BadValueError(
            "BAD_CHROOT_NAME",
            f"{excerpt(name)} cannot be the name of a chroot",
            "use letters, digits, _, - and ., 64 at most",
        )
    if normal_path(path) == "/":
        raise BadValueError(
            "BAD_PATH", f"{name} is / itself", "leave it out: a job that asks for none has /"
        )
    return Chroot(name, path, row.name)


def _text(_row: Setting, text: str) -> str:
    return text


PARSERS: Mapping[str, Callable[[Setting, str], Any]] = {
    "flag": _flag,
    "word": _word,
    "amount": number,
    "text": _text,
}
ENTRY_PARSERS: Mapping[str, Callable[[Setting, str], Any]] = {
    "paths": _path,
    "private": _path,
    "binds": _bind,
    "accounts": _account,
    "roots": _root,
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


def one_line(text: str) -> str:
    """Return TEXT, an expression, with each run of blanks outside of strings as one space."""
    parts = re.split(f"({_STRING})", text, flags=re.DOTALL)
    return "".join(
        part if index % 2 else re.sub(r"\s+", " ", part) for index, part in enumerate(parts)
    ).strip()


def shown(row: Setting, text: str) -> str:
    """Return TEXT, the value of a knob of this kind, as one line for people."""
    return (
        ", ".join(split_list(text))
        if row.kind in ("paths", "binds", "accounts")
        else one_line(text)
    )
