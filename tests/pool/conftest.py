"""Tests on a real pool.  They run as root inside a node: see `make test-pool`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "docker")]

import jobs
from pool import EXPOSED, SITE, until_isolating


@pytest.fixture(scope="session", autouse=True)
def installed() -> Iterator[None]:
    """The package is installed and the machine says that it isolates."""
    if os.geteuid() != 0 or not Path("/var/lib/condor").exists():
        pytest.fail("tests/pool runs as root in a node: make test-pool")
    jobs.install()
    jobs.configure(SITE)
    until_isolating()
    yield
    jobs.run("condor_rm", "-all", check=False)


@pytest.fixture
def site() -> Iterator[Callable[[str], str]]:
    """Add lines to the site's fragment and apply them; taken back after the test."""

    def add(lines: str) -> str:
        said = jobs.configure(SITE + lines)
        until_isolating()
        return said

    yield add
    jobs.configure(SITE)
    until_isolating()


@pytest.fixture
def mended() -> Iterator[None]:
    """Whatever the test breaks, the package is whole again after it."""
    yield
    jobs.run("condor_rm", "-all", check=False)
    jobs.install()
    jobs.configure(SITE)
    until_isolating()


@pytest.fixture
def exposed(mended: None) -> None:
    """Jobs reach the helper whatever hook and advertisement say; all is mended after the test."""
    jobs.configure(SITE + EXPOSED)


@pytest.fixture(scope="session")
def alice() -> jobs.Submitter:
    """A submitter."""
    return jobs.Submitter("alice")
