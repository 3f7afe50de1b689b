"""The linters, as ordinary tests, and what the helper may grow to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TYPED = ["condor_isolation", *map(str, ROOT.glob("docker/*.py")), "tests/pool/pool.py"]
COMMANDS = {
    "ruff": [sys.executable, "-m", "ruff", "check", "--no-cache", "."],
    "mypy": [sys.executable, "-m", "mypy", "--strict", "--cache-dir=/dev/null", *TYPED],
    "shellcheck": ["shellcheck", *map(str, ROOT.glob("docker/*.sh"))],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_linter_has_nothing_to_say(name: str) -> None:
    done = subprocess.run(
        COMMANDS[name],
        cwd=ROOT,
        env={"MYPYPATH": "docker", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_file_of_the_helper_stays_one_concern() -> None:
    sources = list(ROOT.glob("wrappers/helper/*.c"))
    assert sources
    long = {path.name: n for path in sources if (n := path.read_text().count("\n")) > 280}
    assert long == {}
