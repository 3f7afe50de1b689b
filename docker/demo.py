"""Inside a node: the main job, shown.  A same-uid neighbour runs, a job asks for a named chroot.

Prints what that job printed, then one row a control with its evidence.  The exit status is the
number of rows that failed.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jobs

CHROOT = "BOOKWORM"
CHROOT_PATH = Path("/chroots/bookworm")
SITE = f"NAMED_CHROOT = {CHROOT}={CHROOT_PATH}\nISOLATION_SHM_SIZE = 64\n"
NEIGHBOUR = """#!/bin/sh
echo secret > /tmp/neighbour-secret
echo secret > /dev/shm/neighbour-secret
ipcmk -M 4096
exec sleep 600
"""
Row = tuple[str, bool, str]


@dataclass(frozen=True)
class Machine:
    """What root sees from outside while both jobs run: the positive control of each row."""

    neighbour: int  # host pid of its sleep
    processes: int
    sandboxes: list[str]
    namespaces: dict[str, str]
    os_release: str


def find_neighbour(sandbox: str) -> int:
    """Return the host pid of the process "sleep 600" that works in SANDBOX."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            works_in = os.readlink(process / "cwd")
            if sandbox in works_in and b"sleep" in (process / "cmdline").read_bytes():
                return int(process.name)
        except OSError:
            continue
    raise jobs.JobError("the neighbour's process is not there")


def look(execute: Path) -> Machine:
    """Look at the machine from outside the jobs."""
    sandboxes = sorted(p.name for p in execute.glob("dir_*"))
    spaces = {n: os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "mnt", "ipc", "uts", "cgroup")}
    first = Path("/etc/os-release").read_text().splitlines()[0]
    pid = find_neighbour(sandboxes[0])
    return Machine(pid, len(list(Path("/proc").glob("[0-9]*"))), sandboxes, spaces, first)


def parts_of(output: str) -> dict[str, str]:
    """Split a job's output at its "### NAME" lines."""
    pieces = re.split(r"^### (\S+)\n", output, flags=re.MULTILINE)
    return {name: text.rstrip("\n") for name, text in zip(pieces[1::2], pieces[2::2])}


def mount_options(mounts: str, path: str) -> str:
    """Return the options of what is mounted last on PATH, from a mountinfo text."""
    found = [line.split()[5] for line in mounts.splitlines() if line.split()[4] == path]
    return found[-1] if found else "not mounted"


def identity_rows(part: dict[str, str]) -> Iterator[Row]:
    """Ids, capabilities and what setuid files give."""
    status = dict(re.findall(r"^(\w+):\s*(.*)$", part["identity"], re.MULTILINE))
    uids = set(status["Uid"].split())
    yield "ids", len(uids) == 1 and "0" not in uids, f"Uid {status['Uid']}"
    caps = {key: value for key, value in status.items() if key.startswith("Cap")}
    empty = len(caps) == 5 and all(int(value, 16) == 0 for value in caps.values())
    yield "capabilities", empty, " ".join(f"{k} {int(v, 16)}" for k, v in caps.items())
    yield "no-new-privs", status["NoNewPrivs"] == "1", f"NoNewPrivs {status['NoNewPrivs']}"
    root = "uid=0" in part["setuid"] or "euid=0" in part["setuid"]
    yield "nosuid", not root, part["setuid"].splitlines()[-1]


def process_rows(part: dict[str, str], machine: Machine) -> Iterator[Row]:
    """The PID namespace and what it hides."""
    lines = part["processes"].splitlines()[1:]
    own = bool(lines) and "isolate" in lines[0] and len(lines) <= 4
    yield "pid", own, f"the job sees {len(lines)} processes, the machine has {machine.processes}"
    yield (
        "signals",
        "No such process" in part["neighbour"],
        f"kill -0 {machine.neighbour}: {part['neighbour'].rsplit(': ', 1)[-1]}",
    )
    inside = part["namespaces"].splitlines()
    shared = [link for link in inside if link in machine.namespaces.values()]
    yield "namespaces", len(inside) == 5 and not shared, ", ".join(inside)
    groups = {line.split(":")[2] for line in part["cgroup"].splitlines()}
    yield "cgroup-namespace", groups == {"/"}, f"/proc/self/cgroup shows {', '.join(groups)}"


def file_rows(part: dict[str, str], machine: Machine) -> Iterator[Row]:
    """The named chroot and what is mounted in it."""
    inside = part["os-release"]
    yield "chroot", inside != machine.os_release, f"{inside} inside, {machine.os_release} outside"
    yield "chroot-ro", "Read-only file system" in part["root"], part["root"]
    yield "host-files", socket.gethostname() in part["hosts"], "/etc/hosts is the machine's"
    tmp = part["tmp"].splitlines()
    private = tmp[0] == "mine" and tmp[1].startswith("700") and tmp[2].endswith("/tmp/mine")
    yield "tmp", private, f"/tmp holds {tmp[0]}, kept as {tmp[2].split('execute/')[-1]}"
    options = mount_options(part["mounts"], "/tmp")
    yield "tmp-options", "nosuid" in options and "nodev" in options, options
    shm = part["shm"].splitlines()
    yield "shm", len(shm) == 1 and shm[0].split()[1] == "65536", f"empty, {shm[-1].split()[1]} KiB"
    segments = len(part["sysvipc"].splitlines()) - 1
    yield "ipc", segments == 0, f"{segments} System V segments, the neighbour has one"
    yield "mqueue", part["mqueue"] == "", "/dev/mqueue is empty"
    yield "pts", part["pts"] == "ptmx", f"/dev/pts holds {part['pts']}"
    names = part["sandboxes"].splitlines()
    own = len(names) == 2 and names[0] in names[1] and len(machine.sandboxes) > 1
    yield "sandboxes", own, f"the job sees {names[0]}, the machine has {len(machine.sandboxes)}"
    yield "sys", "Read-only file system" in part["sys"], part["sys"]


def show(rows: list[Row]) -> int:
    """Print the table; return how many rows failed."""
    width = max(len(name) for name, _good, _evidence in rows)
    for name, good, evidence in rows:
        print(f"  {'ok    ' if good else 'FAILED'}  {name:{width}}  {evidence}")
    return sum(not good for _name, good, _evidence in rows)


def smoke_test() -> Row:
    """Run condor_run as a submitter would."""
    home = Path("/home/alice")
    command = "id -un; ls -A /var/log/condor | wc -l; ls -d /var/lib/condor/execute/dir_* | wc -l"
    said = jobs.as_user("alice", "condor_run", "-a", "request_disk=10MB", command, cwd=home)
    print(said.rstrip())
    seen = "alice; none of HTCondor's logs; one sandbox"
    return "condor_run", said.split() == ["alice", "0", "1"], seen


def main() -> int:
    """Run the demo; return the exit status."""
    jobs.install()
    print(jobs.configure(SITE))
    execute = Path(jobs.run("condor_config_val", "EXECUTE").strip())
    alice = jobs.Submitter()
    neighbour = alice.submit(NEIGHBOUR)
    neighbour.wait("001")
    neighbour.until(lambda: any(execute.glob("dir_*/scratch/tmp/neighbour-secret")), "neighbour")
    time.sleep(0.5)  # its exec of sleep
    machine = look(execute)
    script = Path(__file__).with_name("demo-job.sh").read_text()
    job = alice.submit(
        script, [f'+RequestedChroot = "{CHROOT}"', f"arguments = {machine.neighbour}"]
    )
    job.wait("001")
    machine = look(execute)
    job.wait("005")
    part = parts_of(job.output)
    for name, text in part.items():
        if name != "mounts":
            print(f"--- {name}\n{text}")
    rows = [*process_rows(part, machine), *file_rows(part, machine), *identity_rows(part)]
    print("\n--- condor_run")
    rows.append(smoke_test())
    print("\nControls, and the evidence for each:")
    neighbour.remove()
    return show(rows)


if __name__ == "__main__":
    sys.exit(main())
