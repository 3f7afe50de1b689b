"""The policies and plans of the tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Union

from condor_isolation import records

from .starter import EXECUTE, PROGRAM, WRAPPER

PLACE = Path("/etc/condor-isolation")
FILE = PLACE / "policy"
SOURCE = PLACE / "source"  # stands for HTCondor's configuration
PLANNER = Path("/usr/libexec/condor-isolation-tests/planner")

Rows = Sequence[Union[str, tuple[str, ...]]]


def source_of(path: Path) -> tuple[str, str, str]:
    status = path.stat()
    return (str(status.st_mtime_ns), str(status.st_size), str(path))


def encode(modes: dict[str, str] | None = None, **changes: str | Rows) -> bytes:
    """Return a policy: the defaults of the tests with CHANGES.

    A key is that of the record with _ for -, its value the list of its records (or the only
    field of its only record); MODES changes the modes of single controls.
    """
    table: dict[str, str | Rows] = {
        "enable": "1",
        "source": [source_of(SOURCE)],
        "starter": PROGRAM,
        "wrapper": WRAPPER,
        "planner": [("/usr/bin/python3", str(PLANNER))],
        "min_uid": "500",
        "execute": EXECUTE,
        "private": ["/tmp", "/var/tmp"],
        "shm_size": str(64 << 20),
        "network": "host",
        "mode": [
            (control, (modes or {}).get(control, default))
            for control, default, _help in records.CONTROLS
        ],
        **changes,
    }
    rows = []
    for key, value in table.items():
        for row in [value] if isinstance(value, str) else value:
            fields = (row,) if isinstance(row, str) else row
            rows.append((key.replace("_", "-"), *fields))
    return records.encode("policy", rows)


def install(data: bytes) -> None:
    """Put DATA in place as condor_isolation apply does."""
    _replace(FILE, data)


def install_planner(code: str) -> None:
    """Make CODE, Python source, what the default planner of the tests runs."""
    _replace(PLANNER, code.encode())


def _replace(path: Path, data: bytes) -> None:
    """Change PATH at once: jobs that were started before may be reading it."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    os.chmod(new, 0o644)
    new.rename(path)


def planner_that_writes(plan: bytes) -> str:
    return f"import posix\nposix.write(1, {plan!r})\nposix._exit(0)\n"
