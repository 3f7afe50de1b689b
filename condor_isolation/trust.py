"""Who could change what a path leads to: looks at the file system, changes nothing.

The helper asks the same of every path that it opens; here it is asked before a job has to fail.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from condor_isolation.ownership import untrusted

LINKS_MAX = 40
DIRECTORY, FILE, OTHER, MISSING = "directory", "file", "other", "missing"


@dataclass(frozen=True)
class PathFact:
    """What is at PATH.  UNTRUSTED says who but root could replace it, '' if nobody."""

    path: str
    kind: str
    real: str
    untrusted: str = ""


@dataclass(frozen=True)
class MountPoint:
    """A place inside ROOT that something is to be mounted on.

    PLACE is where PATH leads once its links are resolved inside ROOT, as the machine sees it.
    OBSTACLE says why apply cannot make it, '' if it can or if it is there.
    """

    root: str
    path: str
    wanted: str
    place: str
    kind: str
    obstacle: str = ""


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return DIRECTORY
    return FILE if stat.S_ISREG(mode) else OTHER


def look(path: str) -> PathFact:
    """Return what is at PATH, links followed."""
    real = os.path.realpath(path)
    try:
        kind = _kind(os.stat(real).st_mode)
    except OSError:
        kind = MISSING
    return PathFact(path, kind, real, untrusted(real))


def resolve_in_root(root: str, path: str) -> str:
    """Return where PATH leads if ROOT is /, as openat2() with RESOLVE_IN_ROOT finds it.

    The answer begins with ROOT and holds no link; it need not exist.  Raise OSError on a loop.
    """
    done: list[str] = []
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        here = "/".join([root, *done, part])
        if not os.path.islink(here):
            done.append(part)
            continue
        links += 1
        if links > LINKS_MAX:
            raise OSError(f"too many links in {path} of {root}")
        target = os.readlink(here)
        if target.startswith("/"):
            done = []
        todo += target.split("/")[::-1]
    return "/".join([root, *done])


def _obstacle(place: str) -> str:
    """Return why nothing can be made at PLACE, which is not there."""
    parent = os.path.dirname(place)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent):
        return f"{parent} is no directory"
    if os.statvfs(parent).f_flag & os.ST_RDONLY:
        return f"{parent} is on a read-only file system"
    return untrusted(parent)


def look_mount_point(root: str, path: str, wanted: str) -> MountPoint:
    """Return whether PATH inside ROOT (a real path) is there, or can be made."""
    try:
        place = resolve_in_root(root, path)
    except OSError as error:
        return MountPoint(root, path, wanted, root + path, OTHER, str(error))
    try:
        kind = _kind(os.lstat(place).st_mode)
    except FileNotFoundError:
        return MountPoint(root, path, wanted, place, MISSING, _obstacle(place))
    except OSError as error:
        return MountPoint(root, path, wanted, place, OTHER, str(error.strerror))
    if (kind == DIRECTORY) == (wanted == DIRECTORY):
        return MountPoint(root, path, wanted, place, kind)
    what = f"{place} is {'a' if kind == DIRECTORY else 'no'} directory"
    return MountPoint(root, path, wanted, place, kind, what)
