"""The commands that are measured: ours, and each peer's at its best for the same isolation."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import place
from driver import ALICE, Start
from place import Place, Shape

ROOT_UID = 0
ASKS_FOR_CHROOT = f'RequestedChroot = "{place.CHROOT_NAME}"\n'
ASKS_BY_EXPRESSION = "IsolationPidsMax = 64 * RequestCpus\n"


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    name: str
    start: Start
    policy: bytes = b""
    asked: str = ""  # lines of the job ad
    private: bool = False  # somebody must make the private directories

    @property
    def uid(self) -> int:
        return self.start.uid


def floor(site: Place) -> Case:
    """The job and nothing else."""
    return Case("job alone", Start([str(site.job)]))


def libc_alone(site: Place) -> Case:
    """The start of a C library, static as the helper's, by a program that does nothing.

    In a virtual machine it is most of the helper's own start (see bare.h).
    """
    return Case("static C program", Start([str(site.driver.program)], has_job=False))


def bare_python() -> Case:
    """What no wrapper in Python can be faster than."""
    return Case(
        "python3 -I -S -c pass",
        Start(["/usr/bin/python3", "-I", "-S", "-c", "pass"], has_job=False),
    )


def planner_alone(site: Place) -> Case:
    """What the helper runs as the planner, without the helper."""
    return Case(
        "planner alone",
        Start(
            ["/usr/bin/python3", "-I", "-S", str(place.WRAPPER), "plan"],
            input=str(place.POLICY),
            has_job=False,
        ),
        site.policy(Shape(("/usr/bin/python3", str(place.WRAPPER)))),
        ASKS_FOR_CHROOT,
    )


def chain(site: Place, name: str, asked: str = ASKS_FOR_CHROOT, roots: int = 1) -> Case:
    """Job wrapper, helper, real planner."""
    policy = site.policy(Shape(("/usr/bin/python3", str(place.WRAPPER)), roots=roots))
    return Case(name, Start([str(place.WRAPPER), str(site.job)]), policy, asked)


def helper(site: Place, name: str, chroot: bool = True, binds: int = 10, roots: int = 1) -> Case:
    """The same with a planner that costs nothing."""
    plan = site.finished_plan(place.CHROOT_NAME if chroot else "")
    policy = site.policy(Shape((str(site.plan), plan), binds, roots))
    return Case(name, Start([str(place.WRAPPER), str(site.job)]), policy)


def bubblewrap(
    site: Place, name: str, uid: int = ROOT_UID, chroot: bool = True, binds: int = 10
) -> Case:
    """The same namespaces and mounts by bubblewrap.

    Each is made in the way that costs it least: the host's /dev/pts stays (it has no option for
    a devpts alone), what is hidden is a bind of one empty directory, no capability is dropped.
    """
    words = ["/usr/bin/bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup", "--die-with-parent"]
    words += ["--ro-bind", str(place.CHROOT), "/"] if chroot else ["--bind", "/", "/"]
    words += ["--dev-bind", "/dev", "/dev"]
    for path in place.HOST_FILES if chroot else ():
        words += ["--ro-bind", path, path]
    for number in range(binds):
        how = "--ro-bind" if place.bind_access(number) == "ro" else "--bind"
        words += [how, place.bind_source(number), place.bind_target(number)]
    words += ["--proc", "/proc", "--ro-bind", "/sys", "/sys"]
    words += ["--perms", "1777", "--size", str(place.SHM_BYTES), "--tmpfs", "/dev/shm"]
    words += ["--mqueue", "/dev/mqueue"]
    for path in place.PRIVATE:
        words += ["--bind", f"{site.scratch}{path}", path]
    for path in place.HIDDEN:
        words += ["--ro-bind", str(place.EMPTY), path]
    execute, sandbox = str(place.EXECUTE), str(site.sandbox)
    words += ["--perms", "0755", "--size", "65536", "--tmpfs", execute]
    words += ["--dir", sandbox, "--bind", sandbox, sandbox, "--remount-ro", execute]
    for path in place.READ_ONLY:
        words += ["--ro-bind", f"{place.CHROOT}{path}" if chroot else path, path]
    words += ["--chdir", str(site.scratch), "--", str(site.job)]
    return Case(name, Start(words, uid), private=True)


def unshare(site: Place) -> Case:
    """Namespaces and /proc alone, nothing of the rest."""
    words = ["/usr/bin/unshare", "-mpiuC", "--fork", "--mount-proc", str(site.job)]
    return Case("unshare -mpiuC --mount-proc", Start(words, ROOT_UID))


def apptainer(site: Place) -> Case:
    """The container runtime that HTCondor starts for a job, as its user, on the same directory."""
    words = ["/usr/bin/apptainer", "-q", "exec", "--pid", "--ipc", "--uts"]
    words += ["--bind", str(site.sandbox), "--pwd", str(site.scratch)]
    return Case("apptainer", Start([*words, str(place.CHROOT), str(site.job)]))


def all_cases(site: Place) -> tuple[list[Case], list[str]]:
    """Return what is measured, and the names of what is not installed."""
    cases = [
        floor(site),
        libc_alone(site),
        bare_python(),
        planner_alone(site),
        chain(site, "chain"),
        chain(site, "chain, no chroot", asked=""),
        chain(site, "chain, expression in the ad", ASKS_FOR_CHROOT + ASKS_BY_EXPRESSION),
        helper(site, "helper"),
        helper(site, "helper, no chroot", chroot=False),
    ]
    optional: Sequence[tuple[str, list[Case]]] = (
        (
            "bwrap",
            [
                bubblewrap(site, "bubblewrap, as root"),
                bubblewrap(site, "bubblewrap, as root, no chroot", chroot=False),
                bubblewrap(site, "bubblewrap, as user", ALICE),
            ],
        ),
        ("unshare", [unshare(site)]),
        ("apptainer", [apptainer(site)]),
    )
    missing = []
    for program, more in optional:
        if shutil.which(program):
            cases += more
        else:
            missing.append(program)
    return cases, missing
