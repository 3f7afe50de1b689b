"""Debian roots, built once and kept: the nodes themselves and roots for named chroots.

A cached root is a directory with a stamp beside it. The stamp holds a digest of
everything that determines the root and is written last, so that whatever was
interrupted or has changed since is built again.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

HERE = Path(__file__).resolve().parent
PROVISION = HERE / "provision.sh"
NODE_RELEASES = ("forky", "trixie")
CHROOT_RELEASES = ("bookworm", "trixie", "forky")
# Packages of a variant beyond the node's own, and the suite that has them.
VARIANTS = {"": ("", ""), "bench": ("apptainer", "sid"), "uml": ("user-mode-linux kmod", "")}
LOG_TAIL = 25
NEEDED_SPACE = 1 << 30
NO_DOCUMENTATION = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "info", "locale")
)


class RootError(Exception):
    """One line for the user: why there is no root."""


@dataclass(frozen=True)
class Recipe:
    """What is built and where; `command` lacks only the target directory and the mirror."""

    path: Path
    release: str
    command: tuple[str, ...]
    inputs: tuple[Path, ...] = ()
    device_nodes: bool = True

    @property
    def stamp(self) -> Path:
        return self.path.with_name(self.path.name + ".stamp")

    @property
    def log(self) -> Path:
        return self.path.with_name(self.path.name + ".log")

    def digest(self) -> str:
        total = hashlib.sha256(repr((self.release, self.command, self.device_nodes)).encode())
        for source in self.inputs:
            total.update(hashlib.sha256(source.read_bytes()).digest())
        return total.hexdigest()

    def stale_because(self) -> str:
        """Empty when the cached root is good."""
        if not self.path.is_dir():
            return "is not built yet"
        if not self.stamp.exists():
            return "is half-built"
        if self.stamp.read_text().strip() != self.digest():
            return "is out of date"
        return ""


def cache() -> Path:
    named = os.environ.get("CONDOR_ISOLATION_CACHE")
    return Path(named).resolve() if named else HERE.parent / ".cache"


def node(release: str, variant: str = "") -> Recipe:
    packages, suite = VARIANTS[variant]
    environment = f"EXTRA_PACKAGES='{packages}' EXTRA_SUITE='{suite}'"
    command = (
        "mmdebstrap",
        "--variant=minbase",
        *NO_DOCUMENTATION,
        "--customize-hook=copy-in provision.sh /tmp",
        f'--customize-hook={environment} chroot "$1" /bin/sh /tmp/provision.sh',
    )
    name = f"{release}-{variant}" if variant else release
    return Recipe(cache() / "roots" / name, release, command, (PROVISION,))


def chroot(name: str, release: Optional[str] = None) -> Recipe:
    release = release or name
    if release not in CHROOT_RELEASES:
        raise RootError(f"unknown release {release}: --release {' or '.join(CHROOT_RELEASES)}")
    if Path(name).name != name:
        raise RootError(f"{name!r} is not a name")
    command = (
        "mmdebstrap",
        "--variant=essential",
        "--include=procps",
        *NO_DOCUMENTATION,
    )
    return Recipe(cache() / "chroots" / name, release, command, device_nodes=False)


def staging() -> Path:
    """An empty directory, for nodes to mount on in their own namespaces."""
    path = cache() / "staging"
    path.mkdir(parents=True, exist_ok=True)
    return path


def say(text: str) -> None:
    print(f"node: {text}", file=sys.stderr, flush=True)


@contextmanager
def ready(recipe: Recipe) -> Iterator[Path]:
    """The root, built first where needed; nobody rebuilds it while it is in use."""
    recipe.path.parent.mkdir(parents=True, exist_ok=True)
    with open(recipe.path.with_name(recipe.path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while recipe.stale_because():
            _lock_to_build(lock.fileno(), recipe)
            reason = recipe.stale_because()
            if reason:
                say(f"{recipe.path} {reason}: building it")
                build(recipe)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield recipe.path


def _lock_to_build(lock: int, recipe: Recipe) -> None:
    fcntl.flock(lock, fcntl.LOCK_UN)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for another process that builds or uses {recipe.path}")
        fcntl.flock(lock, fcntl.LOCK_EX)


def build(recipe: Recipe) -> None:
    if not shutil.which(recipe.command[0]):
        raise RootError(f"no {recipe.command[0]}: apt-get install {recipe.command[0]}")
    if shutil.disk_usage(recipe.path.parent).free < NEEDED_SPACE:
        raise RootError(f"less than {NEEDED_SPACE >> 20} MiB free in {recipe.path.parent}")
    started = time.monotonic()
    building = recipe.path.with_name(recipe.path.name + ".building")
    recipe.stamp.unlink(missing_ok=True)
    _remove_tree(building)
    if _run(recipe, building, started) != 0:
        tail = recipe.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        print("\n".join(tail), file=sys.stderr)
        _remove_tree(building)
        raise RootError(f"{recipe.path} could not be built: the end of {recipe.log} is above")
    if not recipe.device_nodes:
        _remove_tree(building / "dev")
        (building / "dev").mkdir()
    _remove_tree(recipe.path)
    building.rename(recipe.path)
    unfinished = recipe.stamp.with_name(recipe.stamp.name + ".new")
    unfinished.write_text(recipe.digest() + "\n")
    unfinished.rename(recipe.stamp)
    say(f"{recipe.path} built in {time.monotonic() - started:.0f} s")


def _run(recipe: Recipe, target: Path, started: float) -> int:
    # Namespaces of its own, so that a killed build leaves neither processes nor
    # mounts through which removing the directory would reach the machine's /dev.
    command = (
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"),
        *recipe.command,
        "--aptopt=Acquire::Check-Valid-Until false",
        recipe.release,
        str(target),
        _mirror(),
    )
    with open(recipe.log, "w") as log:
        process = subprocess.Popen(
            command,
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                log.write(line)
                if line.startswith(("I: ", "E: ", "provision: ")):
                    step = line.split(": ", 1)[1].rstrip()
                    say(f"{time.monotonic() - started:4.0f} s  {step}")
            return process.wait()
        finally:
            process.kill()
            process.wait()


def _mirror() -> str:
    """Where this machine's own apt gets its packages."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout.split()
    if not listing:
        raise RootError("apt has no package lists: apt-get update")
    return listing[0]


def _remove_tree(path: Path) -> None:
    if path.exists():
        subprocess.run(["rm", "-rf", "--one-file-system", str(path)], check=True)
