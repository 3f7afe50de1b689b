"""What the tests on a real pool share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import jobs
import pytest

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


# Lets jobs reach a machine that has said that it is broken, so that the helper itself answers.
EXPOSED = "ISOLATION_START = True\nSTARTER_JOB_HOOK_KEYWORD = NONE\n"
SITE = "ISOLATION_COOL_DOWN = 2\n"
SITE += f"{chroot_knob()} = EL9={CHROOT_PATH}, SL7={CHROOT_PATH}\nNAMED_CHROOT_SL7_USERS = bob\n"


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
