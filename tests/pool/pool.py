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


def chroots(*names: str) -> str:
    """Return the lines that offer the chroots.  Before 25.5.1 HTCondor reads NAMED_CHROOT too."""
    paths = ", ".join(f"{name}={CHROOT_PATH}" for name in names)
    if version() >= (25, 5, 1):
        return f"NAMED_CHROOT = {paths}\n"
    nowhere = ", ".join(f"{name}=//" for name in names)
    return f"NAMED_CHROOT = {nowhere}\nISOLATION_NAMED_CHROOT = {paths}\n"


SITE = "ISOLATION_COOL_DOWN = 2\n" + chroots("EL9", "SL7") + "NAMED_CHROOT_SL7_USERS = bob\n"

# Lets jobs reach a machine that has said that it is broken, so that the helper itself answers.
# The chroot is asked for by an attribute that no requirement looks at.
EXPOSED = "ISOLATION_START = True\nISOLATION_CHROOT = TARGET.WantOS\n"
if version() >= (24, 8):
    EXPOSED += "STARTER_JOB_HOOK_KEYWORD = NONE\n"


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
