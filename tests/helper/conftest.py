"""The fixtures of the helper's tests: they run the real, setuid binary inside a node.

Run them as root with
``docker/node run --no-pool --bind "$PWD:/src:ro" -- sh -c 'cd /src && python3 -B -m pytest ...'``;
outside a node nothing of this directory is collected but the test that does just that.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Union

import pytest

from condor_isolation import messages

from . import policy as policies
from . import starter
from .starter import ALICE, CONDOR, EXECUTE, HELPER, LIBEXEC, MARK, Result, Running, Start

SOURCES = Path(__file__).resolve().parents[2]
PYTHONDIR = Path("/usr/share/condor-isolation")
TINY = Path("/chroots/tiny")

Policy = Union[bytes, dict[str, Any]]
Plan = Union[bytes, Sequence[Sequence[str]]]
RunJob = Callable[..., Result]


CALL = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]
def tried(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 'done'
"""


def in_node() -> bool:
    """Tell whether this is a node of docker/node, the only place that these tests may change."""
    first = Path("/proc/self/mountinfo").read_text().splitlines()[0]
    return first.split(" - ")[1].startswith("overlay node ")


HOST_TEST = "test_in_node.py"
collect_ignore = (
    [HOST_TEST]
    if in_node()
    else [p.name for p in Path(__file__).parent.glob("test_*.py") if p.name != HOST_TEST]
)


def mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def processes_of_jobs() -> dict[int, str]:
    """Return every process of an ordinary user: pid and command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            uid = int((entry / "status").read_text().split("\nUid:\t")[1].split("\t")[0])
            if uid >= 500:
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.fixture(scope="session")
def _installed() -> None:
    """Install what make install does, of which a node has not the tools."""
    if not in_node():
        pytest.exit("these tests install a setuid program: they run in a node only", 2)
    os.umask(0o022)
    for directory in (LIBEXEC, policies.PLANNER.parent, policies.PLACE, EXECUTE):
        os.makedirs(directory, exist_ok=True)
    # As on a machine with scratch disks: EXECUTE is no overlay.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "scratch", EXECUTE], check=True)
    os.chown(EXECUTE, CONDOR, CONDOR)
    shutil.copy(SOURCES / "build" / "isolate", HELPER)
    os.chmod(HELPER, 0o4755)
    wrapper = (SOURCES / "wrappers" / "job-wrapper").read_text()
    wrapper = wrapper.replace("@LIBEXECDIR@", LIBEXEC).replace("@PYTHONDIR@", str(PYTHONDIR))
    Path(starter.WRAPPER).write_text(wrapper)
    os.chmod(starter.WRAPPER, 0o755)
    shutil.copytree(SOURCES / "condor_isolation", PYTHONDIR / "condor_isolation")
    policies.SOURCE.write_text("# stands for HTCondor's configuration\n")
    _make_tiny_chroot()


def _make_tiny_chroot() -> None:
    """Make a chroot that has this node's programs, but is another system."""
    for name in ("dev", "proc", "sys", "tmp", "var/tmp", "etc", "usr", EXECUTE[1:], "srv/data"):
        (TINY / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (TINY / name).symlink_to(f"usr/{name}")
    (TINY / "etc/os-release").write_text("NAME=Tiny\n")
    for name in ("resolv.conf", "hosts", "passwd", "group"):
        (TINY / "etc" / name).write_text("of the chroot\n")
    subprocess.run(["mount", "--bind", "/usr", TINY / "usr"], check=True)


@pytest.fixture
def _leaves_nothing(_installed: None) -> Iterator[None]:
    """Whatever a test does, no process and no mount may be left, and it begins without a mark."""
    MARK.unlink(missing_ok=True)
    before = mounts()
    yield
    wait_until(lambda: processes_of_jobs() == {}, explain=processes_of_jobs)
    assert mounts() == before


def wait_until(
    condition: Callable[[], bool],
    seconds: float = 20,
    explain: Callable[[], object] = lambda: "",
) -> None:
    """Wait for what the kernel does soon, but not at once."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds} s: {explain()}"
        time.sleep(0.005)


@pytest.fixture
def start_job(_leaves_nothing: None) -> Iterator[Callable[..., Running]]:
    """Start a job with the helper, or plainly with ``wrapper=None``.

    POLICY is the file, or changes for policy.encode(); PLAN the plan's records or bytes; PLANNER
    Python source instead of one that writes PLAN; all else are fields of starter.Start.
    """
    started: list[Running] = []

    def start(
        command: Sequence[str],
        *,
        policy: Policy | None = None,
        plan: Plan = (),
        planner: str | None = None,
        **how: Any,
    ) -> Running:
        if not isinstance(policy, bytes):
            policy = policies.encode(**(policy or {}))
        policies.install(policy)
        if not isinstance(plan, bytes):
            plan = policies.records.encode("plan", plan)
        policies.install_planner(planner or policies.planner_that_writes(plan))
        started.append(starter.start_job(command, Start(**how)))
        return started[-1]

    yield start
    for job in started:
        job.kill()
        job.clean()


@pytest.fixture
def run_job(start_job: Callable[..., Running]) -> RunJob:
    """Start a job and return its Result."""

    def run(command: Sequence[str], *, seconds: float = starter.SECONDS_MAX, **how: Any) -> Result:
        MARK.unlink(missing_ok=True)
        return start_job(command, **how).wait(seconds)

    return run


@pytest.fixture
def run_python(run_job: RunJob) -> RunJob:
    """Run CODE, Python source with ARGUMENTS, as the job."""

    def run(code: str, *arguments: str, **how: Any) -> Result:
        return run_job(["/usr/bin/python3", "-I", "-c", code, *arguments], **how)

    return run


@pytest.fixture
def chroot(_leaves_nothing: None) -> Iterator[Path]:
    """A second chroot, for tests that spoil it."""
    path = TINY.with_name("spoilt")
    shutil.copytree(TINY, path, symlinks=True, ignore=shutil.ignore_patterns("usr"))
    (path / "usr").mkdir()
    subprocess.run(["mount", "--bind", "/usr", path / "usr"], check=True)
    yield path
    subprocess.run(["umount", path / "usr"], check=True)
    shutil.rmtree(path)


def line_of(result: Result) -> str:
    """Return the one line with which the helper refused, as user condor reads it."""
    assert result.stdout == b""
    assert result.signal is None
    assert result.exit_status not in (0, starter.NOT_STARTED), result.stderr.decode()
    if result.error_file is None:
        assert result.exit_status == 126
        text = result.stderr.decode()
    else:
        assert result.exit_status == 1
        assert result.stderr == b""
        text = read_as_condor(result.scratch / ".job_wrapper_failure")
        assert text == result.error_file
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    return text[:-1]


def read_as_condor(path: Path) -> str:
    os.seteuid(CONDOR)
    try:
        return path.read_text()
    finally:
        os.seteuid(0)


def assert_refused(result: Result, ident: str, *words: str) -> str:
    """Check that the job did not start, who was told, and what; return the line."""
    line = line_of(result)
    _ident, _name, fault, _meaning, remedy = messages.BY_ID[ident]
    assert line.startswith(f"{ident}: "), line
    assert line.endswith(f"; {remedy}"), line
    for word in words:
        assert word in line, f"no {word!r} in {line!r}"
    # A mark takes the machine out of the pool: never because of what a job or a caller did.
    assert result.mark == (f"{line}\n" if fault == "machine" else None), line
    return line


def ended_well(result: Result) -> bool:
    return (result.exit_status, result.error_file, result.mark) == (0, None, None)


@pytest.fixture
def place(_installed: None) -> Iterator[Path]:
    """A directory of the machine outside of all private ones; it belongs to the job's user."""
    directory = Path("/srv/place")
    directory.mkdir()
    os.chown(directory, ALICE, ALICE)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def mounted(place: Path, _leaves_nothing: None) -> Iterator[Callable[..., None]]:
    """Mount TYPE on a path until the test ends; without TYPE, change what is mounted there."""
    done: list[Path] = []

    def mount(kind: str, path: Path, options: str, *arguments: str) -> None:
        what = ["-t", kind, "-o", options, kind] if kind else []
        subprocess.run(["mount", *arguments, *what, str(path)], check=True)
        if kind:
            done.append(path)

    yield mount
    for path in reversed(done):
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def neighbour(start_job: Callable[..., Running]) -> Callable[..., Running]:
    """A job of the same user without isolation: it runs CODE and stays."""

    def start(code: str = "") -> Running:
        stay = "\nprint('ready', flush=True)\nimport signal; signal.pause()"
        job = start_job(["/usr/bin/python3", "-I", "-c", CALL + code + stay], wrapper=None)
        job.wait_for(b"ready")
        return job

    return start


def assert_unprivileged(result: Result, *words: str) -> None:
    """Check the refusal of a helper that is not root's: it can mark nothing."""
    line = line_of(result)
    assert line.startswith("CI-001: "), line
    for word in words:
        assert word in line, line
    assert result.error_file is not None, "the job completes"
