"""Tests on a real pool.  They run as root inside a node: see `make test-pool`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docker"))

import jobs

CHROOT_PATH = "/chroots/bookworm"
POLICY = Path("/etc/condor-isolation/policy")
HELPER = Path("/usr/libexec/condor-isolation/isolate")
MARK = Path("/run/condor-isolation/fault")
ACCESS_POINT = Path("/etc/condor/config.d/60-isolation-access-point.conf")


def version() -> tuple[int, ...]:
    """Return the version of the HTCondor of this node."""
    return tuple(int(part) for part in jobs.run("condor_version").split()[1].split("."))


def chroot_knob() -> str:
    """Return the name of the knob that names chroots: before 25.5.1 HTCondor reads NAMED_CHROOT."""
    return "NAMED_CHROOT" if version() >= (25, 5, 1) else "ISOLATION_NAMED_CHROOT"


SITE = f"{chroot_knob()} = EL9={CHROOT_PATH}, SL7={CHROOT_PATH}\nNAMED_CHROOT_SL7_USERS = bob\n"


def slot(attribute: str) -> str:
    """Return an attribute of the machine's slot as the collector has it."""
    said = jobs.run("condor_status", "-af", attribute, "-constraint", "DynamicSlot =!= True")
    return said.strip()


def until(done: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait for DONE()."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            pytest.fail(f"no {what} in {seconds} s; {slot('IsolationComment')}")
        time.sleep(0.2)


def until_isolating() -> None:
    """Wait until the machine says that it isolates."""
    until(lambda: slot("HasIsolation") == "true", "HasIsolation")


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


@pytest.fixture(scope="session")
def alice() -> jobs.Submitter:
    """A submitter."""
    return jobs.Submitter("alice")
