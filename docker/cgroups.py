"""A node's place in each cgroup hierarchy of the machine, version 1 or 2."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = "condor-isolation-node-"
CONTROLLERS_V2 = ("cpu", "io", "memory", "pids")
PATIENCE = 1.0


@dataclass(frozen=True)
class Hierarchy:
    """One cgroup file system: its controllers, its mount point, and where nodes go in it."""

    kind: str
    controllers: str
    top: Path
    parent: Path

    @property
    def name(self) -> str:
        return self.controllers.replace("name=", "")

    @property
    def options(self) -> str:
        named = self.controllers.startswith("name=")
        return f"none,{self.controllers}" if named else self.controllers


def hierarchies() -> list[Hierarchy]:
    """The version 1 hierarchies; the version 2 one only where there is none of those."""
    mounts = _mounts()
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        kind = "cgroup" if controllers else "cgroup2"
        wanted = set(filter(None, controllers.split(",")))
        for mounted, options, root, top in mounts:
            if mounted == kind and wanted <= options:
                # Version 2 hands controllers on only from the top of what is
                # visible, or from a cgroup that has no processes itself.
                parent = top / os.path.relpath(own, root) if controllers else top
                found.append(Hierarchy(kind, controllers, top, parent))
                break
    return [one for one in found if one.kind == "cgroup"] or found


def _mounts() -> list[tuple[str, set[str], str, Path]]:
    """Type, options, the cgroup that is mounted, and the mount point."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        root, top = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        mounts.append((kind, set(options.split(",")), root, Path(top)))
    return mounts


def create(hierarchy: Hierarchy, pid: int) -> Path:
    group = hierarchy.parent / f"{PREFIX}{pid}"
    if hierarchy.kind == "cgroup2":
        offered = (hierarchy.parent / "cgroup.controllers").read_text().split()
        wanted = " ".join(f"+{name}" for name in CONTROLLERS_V2 if name in offered)
        (hierarchy.parent / "cgroup.subtree_control").write_text(wanted)
    group.mkdir()
    # A version 1 cpuset takes no process before it has CPUs and memory nodes.
    if hierarchy.controllers == "cpuset":
        for name in ("cpuset.cpus", "cpuset.mems"):
            (group / name).write_text((hierarchy.parent / name).read_text())
    return group


def enter(group: Path) -> None:
    (group / "cgroup.procs").write_text("0")


def remove(group: Path, patience: float = PATIENCE) -> None:
    """Removes a cgroup and all below it, waiting a little for the last process to leave."""
    end = time.monotonic() + patience
    for directory, _, _ in os.walk(group, topdown=False):
        while True:
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > end:
                    break
                time.sleep(0.02)


def remove_stale() -> set[str]:
    """Removes the cgroups of runners that were killed; returns their names."""
    stale = [
        Path(directory, name)
        for hierarchy in hierarchies()
        for directory, names, _ in os.walk(hierarchy.top)
        for name in names
        if name.startswith(PREFIX) and not Path("/proc", name[len(PREFIX) :]).exists()
    ]
    for group in stale:
        remove(group, patience=0)
    return {group.name for group in stale if not group.exists()}
