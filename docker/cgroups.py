"""A node's place in each cgroup hierarchy of the machine, version 1 or 2."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = "condor-isolation-node-"
CONTROLLERS_V2 = ("cpu", "io", "memory", "pids")


@dataclass(frozen=True)
class Hierarchy:
    """One cgroup file system: what mounts it, and the caller's own directory in it."""

    kind: str
    options: str
    own: Path

    @property
    def name(self) -> str:
        return self.options.replace("none,name=", "")


def hierarchies() -> list[Hierarchy]:
    """The version 1 hierarchies; the version 2 one only where there is none of those."""
    mounts = _mount_points()
    found: list[Hierarchy] = []
    unified: list[Hierarchy] = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in mounts:
            continue
        point, root = mounts[controllers]
        if not controllers:
            # Only the top of what is visible is free of the rule that a cgroup
            # with processes of its own hands no controllers on.
            unified.append(Hierarchy("cgroup2", "", point))
            continue
        own = point / os.path.relpath(path, root)
        options = f"none,{controllers}" if controllers.startswith("name=") else controllers
        found.append(Hierarchy("cgroup", options, own))
    return found or unified


def _mount_points() -> dict[str, tuple[Path, str]]:
    """Controllers as /proc/self/cgroup has them, to mount point and the cgroup mounted there."""
    points: dict[str, tuple[Path, str]] = {}
    known = [line.split(":", 2)[1] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        kind, _, options = after.split(" ", 2)
        root, point = before.split()[3:5]
        if kind == "cgroup2":
            points[""] = (Path(point), root)
        elif kind == "cgroup":
            words = set(options.split(","))
            for controllers in known:
                if controllers and set(controllers.split(",")) <= words:
                    points[controllers] = (Path(point), root)
    return points


def create(hierarchy: Hierarchy, pid: int) -> Path:
    group = hierarchy.own / f"{PREFIX}{pid}"
    if hierarchy.kind == "cgroup2":
        _hand_on_controllers(hierarchy.own)
    group.mkdir()
    # A version 1 cpuset takes no process before it has CPUs and memory nodes.
    for name in ("cpuset.cpus", "cpuset.mems"):
        if hierarchy.kind == "cgroup" and (group / name).exists():
            (group / name).write_text((hierarchy.own / name).read_text())
    return group


def enter(group: Path) -> None:
    (group / "cgroup.procs").write_text("0")


def _hand_on_controllers(group: Path) -> None:
    offered = (group / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in CONTROLLERS_V2 if name in offered)
    (group / "cgroup.subtree_control").write_text(wanted)


def remove(group: Path) -> None:
    """Removes a cgroup and all below it, waiting a little for the last process to leave."""
    for directory, _, _ in os.walk(group, topdown=False):
        for _ in range(50):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)
            else:
                break


def remove_stale() -> list[Path]:
    """Removes what runners that were killed have left, and says what that was."""
    stale = [
        group
        for hierarchy in hierarchies()
        for group in hierarchy.own.glob(f"{PREFIX}*")
        if not Path("/proc", group.name[len(PREFIX) :]).exists()
    ]
    for group in stale:
        remove(group)
    return stale
