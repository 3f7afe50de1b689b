"""Writes docs/knobs.md and docs/messages.md from the tables: ``python3 -m condor_isolation.docs``.

A unit test fails when the files in the repository are not what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from condor_isolation import messages, records
from condor_isolation.settings import CHROOT, FRAGMENT, GLOBAL, SETTINGS, Setting

FAULTS = (
    ("job", "The job's fault", "The job is held where the hook runs, or goes back to Idle."),
    (
        "machine",
        "The machine's fault",
        "The job goes back to Idle, the reason is in its log and in the machine's "
        "`IsolationComment`, and the machine stops matching.",
    ),
    ("caller", "Called by hand", "The helper was not started by HTCondor; nothing is run."),
    (
        "config",
        "Configuration",
        "`condor_isolation check` and `apply` say it; on an error the old policy stays.",
    ),
)
_CONTROLS = records.CONTROL_WORDS
SCOPES = (
    (GLOBAL, "Knobs of the machine", ""),
    (
        CHROOT,
        "Knobs of one chroot",
        "`<NAME>` is the name of the chroot; case does not count here, and `.` and `-` are "
        "written `_`.",
    ),
    (FRAGMENT, "Macros of the fragments", "The files in config.d set them for each other."),
)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _kind(row: Setting) -> str:
    kinds = {
        "flag": "True or False",
        "amount": "number",
        "paths": "list of paths",
        "private": "list of directories",
        "binds": "list of binds",
        "roots": "list of NAME=/path",
        "accounts": "list",
        "word": " or ".join(row.words),
        "text": "text",
        "chroot": "ClassAd",
        "macro": "macro",
    }
    unit = f", {row.unit}" if row.unit else ""
    either = " or expression" if row.expression and row.kind != "chroot" else ""
    return kinds[row.kind] + unit + either


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    for line in (head, ("---",) * len(head), *rows):
        yield "| " + " | ".join(line) + " |"
    yield ""


def knobs() -> Iterator[str]:
    """Yield the lines of docs/knobs.md."""
    yield "# Knobs"
    yield ""
    yield "<!-- written by condor_isolation/docs.py: edit condor_isolation/settings.py -->"
    yield ""
    yield "Set them in HTCondor's configuration, with its macros and conditionals, and run"
    yield "`condor_isolation apply`. Lists are separated by commas. An expression is a ClassAd"
    yield "expression over the job (`TARGET`) and the machine (`MY`), evaluated for each job; a job"
    yield "can ask for less with the attribute of that name (`IsolationPidsMax`), never for more."
    yield "`condor_isolation show` prints what is in force and where it was set."
    yield ""
    for scope, title, text in SCOPES:
        yield f"## {title}"
        yield ""
        if text:
            yield text
            yield ""
        rows = [row for row in SETTINGS if row.scope == scope and row.record not in _CONTROLS]
        yield from _table(
            ("knob", "value", "default", "meaning"),
            (
                (_code(row.name), _cell(_kind(row)), _code(row.default), _cell(row.help))
                for row in rows
            ),
        )
    yield from _controls()


def _controls() -> Iterator[str]:
    yield "## Controls"
    yield ""
    yield "Each has a mode: `require` (no job starts where it cannot be put in force), `prefer`"
    yield "(then without it) or `off`."
    yield ""
    yield from _table(
        ("knob", "default", "control"),
        (
            (_code(row.name), _code(row.default), _cell(row.help))
            for row in SETTINGS
            if row.record in _CONTROLS
        ),
    )


def message_tables() -> Iterator[str]:
    """Yield the lines of docs/messages.md."""
    yield "# Messages"
    yield ""
    yield "<!-- written by condor_isolation/docs.py: edit condor_isolation/messages.py -->"
    yield ""
    yield "An id never changes its meaning. Holds have code 19 and the number of the id as subcode."
    yield ""
    for fault, title, text in FAULTS:
        yield f"## {title}"
        yield ""
        yield text
        yield ""
        rows = [row for row in messages.MESSAGES if row[2] == fault]
        yield from _table(
            ("id", "meaning", "what to do"),
            ((row[0], _cell(row[3]), _cell(row[4])) for row in rows),
        )


PAGES = {"knobs.md": knobs, "messages.md": message_tables}


def page(name: str) -> str:
    """Return the text of the page NAME."""
    return "\n".join(PAGES[name]()).rstrip() + "\n"


def main(directory: str) -> None:
    for name in PAGES:
        Path(directory, name).write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs")
