"""On a machine that is no node: runs all of this directory inside one."""

import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="a node needs root; run as root")
def test_the_helper_keeps_all_its_promises_in_a_node() -> None:
    inner = "cd /src && exec python3 -B -m pytest -p no:cacheprovider -q tests/helper"
    node = [TOP / "docker" / "node", "run", "--no-pool", "--bind", f"{TOP}:/src:ro"]
    done = subprocess.run(
        [*node, "--", "sh", "-c", inner], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
