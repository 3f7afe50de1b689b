"""Makes a node an execution point to measure on: package, chroot, sandbox, cgroups, policies.

Everything is written inside the node, which is thrown away.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from driver import ALICE, BenchError, Driver

SOURCE = Path(__file__).resolve().parents[2]
LIBEXEC = Path("/usr/libexec/condor-isolation")
PYTHONDIR = Path("/usr/share/condor-isolation")
WRAPPER = LIBEXEC / "job-wrapper"
POLICY = Path("/etc/condor-isolation/policy")
BASE_CHROOT = Path("/chroots/bookworm")
CHROOT = Path("/chroots/bench")
CHROOT_NAME = "BENCH"
EXECUTE = Path("/var/lib/condor/execute")
CONDOR_CONFIG = Path("/etc/condor")
DATA = Path("/srv/data")  # sources of the binds
BINDS_MAX = 256
MANY_MOUNTS = Path("/mnt/many")
EMPTY = Path("/srv/empty")
PRIVATE = ("/tmp", "/var/tmp")
HIDDEN = ("/var/log/condor", "/var/spool/condor", "/etc/condor/passwords.d", "/etc/condor/tokens.d")
READ_ONLY = ("/opt",)
HOST_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/passwd", "/etc/group")
SHM_BYTES = 64 << 20
LIMITS = {"memory-max": str(1 << 30), "cpu-max": "8000", "pids-max": "4096"}
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS_V1 = ("memory", "cpu", "freezer", "devices")  # what HTCondor uses
ASKED = ("RequestedChroot", "Isolation")
MS_BIND = 4096

libc = ctypes.CDLL(None, use_errno=True)


def run(*command: object) -> None:
    """Run COMMAND.  Raise BenchError with what it said if it fails."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BenchError(f"{command[0]}: {done.stdout}{done.stderr}")


def in_node() -> bool:
    """Tell whether this is a machine of docker/node, the only one to be changed like this."""
    first = Path("/proc/self/mountinfo").read_text().splitlines()[0]
    return first.split(" - ")[1].startswith("overlay node ")


def bind_source(number: int) -> str:
    """Return the host's directory of bind NUMBER."""
    return str(DATA / f"{number:04}")


def bind_target(number: int) -> str:
    """Return where bind NUMBER is seen by the job."""
    return f"/data/{number:04}"


def bind_access(number: int) -> str:
    """Every other bind is read-only."""
    return "ro" if number % 2 else "rw"


@dataclass(frozen=True)
class Shape:
    """What a policy asks for, as far as it differs between measurements."""

    planner: tuple[str, str]
    binds: int = 10
    roots: int = 1


class Place:
    """The execution point, and what changes on it between two starts."""

    def __init__(self, programs: Path) -> None:
        self.plan = programs / "plan"
        _install()
        _make_chroot()
        for number in range(BINDS_MAX):
            os.makedirs(bind_source(number))
            os.makedirs(bind_target(number))
            os.makedirs(f"{CHROOT}{bind_target(number)}")
        EMPTY.mkdir(parents=True)
        # As on a machine with scratch disks: a filesystem of its own.
        EXECUTE.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "execute", EXECUTE)
        for path in (*HIDDEN, *READ_ONLY):
            os.makedirs(path, exist_ok=True)
            os.makedirs(f"{CHROOT}{path}", exist_ok=True)
        # As on every machine with systemd.
        run("mount", "--make-rshared", "/")
        self.driver = Driver(programs / "spawn")
        self.sandbox = EXECUTE / f"dir_{self.driver.pid}"
        self.scratch = self.sandbox / "scratch"
        self.job = self.scratch / "condor_exec.exe"
        self.look = self.scratch / "look"
        self._make_sandbox(programs)
        self.driver.prepare(self._environment(), self.scratch, _make_cgroups())
        self._written: dict[Path, bytes] = {}

    def _make_sandbox(self, programs: Path) -> None:
        """Make the directories of HTCondor 25.4 and later."""
        for path in (self.sandbox, *(self.sandbox / n for n in ("htcondor", "user", "scratch"))):
            path.mkdir(0o755 if path == self.sandbox else 0o700)
        shutil.copy(programs / "job", self.job)
        shutil.copy(programs / "look", self.look)
        for name in ("job", "machine"):
            text = (SOURCE / f"tests/unit/ads/{name}-25.14.ad").read_text()
            # Nothing but plain literals is asked for: that is the quick path of the planner.
            lines = [line for line in text.splitlines() if not line.startswith(ASKED)]
            (self.scratch / f".{name}.ad").write_text("\n".join([*lines, ""]))
        self._ad = (self.scratch / ".job.ad").read_bytes()
        for path in (self.scratch, *self.scratch.iterdir()):
            os.chown(path, ALICE, ALICE)

    def _environment(self) -> dict[str, str]:
        """Return what HTCondor 25.14 gives a job of the vanilla universe."""
        scratch = str(self.scratch)
        return {
            "_CONDOR_ANCESTOR_1": "2:1763820000:1234567890",
            "_CONDOR_ANCESTOR_2": "3:1763820001:1234567891",
            "_CONDOR_BIN": "/usr/bin",
            "_CONDOR_CHIRP_CONFIG": f"{scratch}/.chirp.config",
            "_CONDOR_JOB_AD": f"{scratch}/.job.ad",
            "_CONDOR_JOB_IWD": scratch,
            "_CONDOR_JOB_PIDS": "",
            "_CONDOR_MACHINE_AD": f"{scratch}/.machine.ad",
            "_CONDOR_SCRATCH_DIR": scratch,
            "_CONDOR_SLOT": "slot1_1",
            "_CONDOR_WRAPPER_ERROR_FILE": f"{scratch}/.job_wrapper_failure",
            "BATCH_SYSTEM": "HTCondor",
            "TMPDIR": "/tmp",
            "TMP": "/tmp",
            "TEMP": "/tmp",
            "OMP_NUM_THREADS": "1",
            "CUBACORES": "1",
            "GOMAXPROCS": "1",
            "JULIA_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "NUMEXPR_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "HOME": "/home/alice",
            "USER": "alice",
        }

    def write_if_new(self, path: Path, data: bytes) -> None:
        """Replace PATH as an administrator's tool would, unless it holds DATA already."""
        if self._written.get(path) == data:
            return
        new = path.with_name(path.name + ".new")
        new.write_bytes(data)
        new.rename(path)
        if path.parent == self.scratch:
            os.chown(path, ALICE, ALICE)
        self._written[path] = data

    def reset(self, policy: bytes, asked: str, private: bool) -> None:
        """Make all ready for one start of a job whose ad has the lines ASKED as well.

        The private directories are made (PRIVATE) only for those that do not do it themselves.
        """
        for name in ("tmp", "var"):
            shutil.rmtree(self.scratch / name, ignore_errors=True)
        (self.scratch / ".job_wrapper_failure").unlink(missing_ok=True)
        for path in PRIVATE if private else ():
            os.makedirs(f"{self.scratch}{path}")
            os.chown(f"{self.scratch}{path}", ALICE, ALICE)
        self.write_if_new(self.scratch / ".job.ad", self._ad + asked.encode())
        if policy:
            self.write_if_new(POLICY, policy)

    def refusal(self) -> str:
        """Return why the helper did not start the last job."""
        told = self.scratch / ".job_wrapper_failure"
        return told.read_text() if told.exists() else ""

    def policy(self, shape: Shape) -> bytes:
        """Return the compiled policy of SHAPE: all core controls, limits, an access list."""
        from condor_isolation import records

        sources = [CONDOR_CONFIG / "condor_config", *sorted(CONDOR_CONFIG.glob("config.d/*"))]
        rows = [
            ("enable", "1"),
            *(("source", *_source(path)) for path in sources),
            ("starter", str(self.driver.program)),
            ("wrapper", str(WRAPPER)),
            ("planner", *shape.planner),
            ("min-uid", "500"),
            ("execute", str(EXECUTE)),
            *(("private", path) for path in PRIVATE),
            *(("hide", path) for path in HIDDEN),
            *(("read-only", path) for path in READ_ONLY),
            *(("bind", bind_source(n), bind_target(n), bind_access(n)) for n in range(shape.binds)),
            # The one that is asked for is the last.
            *(("root", f"R{n:04}", str(CHROOT), "ro") for n in range(shape.roots - 1)),
            ("root", CHROOT_NAME, str(CHROOT), "ro"),
            *(("root-group", f"R{n:04}", "4321") for n in range(shape.roots - 1)),
            ("root-group", CHROOT_NAME, "100"),
            ("shm-size", str(SHM_BYTES)),
            ("network", "host"),
            *(("mode", control, mode) for control, mode, _help in records.CONTROLS),
            *(("limit", limit, value) for limit, value in LIMITS.items()),
            ("classad-path", "/usr/lib/python3/dist-packages"),
        ]
        return records.encode("policy", rows)

    def finished_plan(self, root: str) -> str:
        """Return the path of a plan that names ROOT."""
        from condor_isolation import records

        path = LIBEXEC / f"plan-{root or 'none'}"
        path.write_bytes(records.encode("plan", [("root", root)] if root else []))
        return str(path)

    def close(self) -> None:
        """End the stand-in starter."""
        self.driver.close()


def _install() -> None:
    """Install the package as an administrator would, and let this process import it."""
    run("make", "-C", SOURCE, "install")
    sys.path.insert(0, str(PYTHONDIR))


def _make_chroot() -> None:
    """Lay a writable layer over the cached chroot, which others use as well."""
    if not BASE_CHROOT.is_dir():
        raise BenchError(f"there is no {BASE_CHROOT}: run this with `make bench`")
    layers = Path("/run/bench")
    for path in (layers, CHROOT):
        path.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "bench", layers)
    for name in ("upper", "work"):
        (layers / name).mkdir()
    options = f"lowerdir={BASE_CHROOT},upperdir={layers}/upper,workdir={layers}/work"
    run("mount", "-t", "overlay", "-o", options, "bench", CHROOT)
    for name in ("dev", "proc", "sys", *(p[1:] for p in PRIVATE), str(EXECUTE)[1:]):
        (CHROOT / name).mkdir(parents=True, exist_ok=True)
    for name in HOST_FILES:
        (CHROOT / name[1:]).touch()


def _make_cgroups() -> list[Path]:
    """Make the groups of the one slot; return the files through which a process enters."""
    if (CGROUPS / "cgroup.controllers").exists():
        scope = CGROUPS / "htcondor" / "slot1_1.slice" / "slot1_1.scope"
        scope.mkdir(parents=True)
        return [scope / "cgroup.procs"]
    groups = [CGROUPS / name / "htcondor" / "slot1_1" for name in CONTROLLERS_V1]
    groups = [group for group in groups if group.parents[1].is_dir()]
    for group in groups:
        group.mkdir(parents=True)
    return [group / "cgroup.procs" for group in groups]


def _source(path: Path) -> tuple[str, str, str]:
    status = path.stat()
    return str(status.st_mtime_ns), str(status.st_size), str(path)


@contextmanager
def many_mounts(count: int) -> Iterator[None]:
    """Have COUNT more mounts on the machine."""
    if count == 0:
        yield
        return
    MANY_MOUNTS.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "many", MANY_MOUNTS)
    try:
        for number in range(count - 1):
            path = MANY_MOUNTS / str(number)
            path.mkdir()
            name = str(path).encode()
            if libc.mount(name, name, None, MS_BIND, None) != 0:
                raise BenchError(f"mount {path}: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        run("umount", "--lazy", "--recursive", MANY_MOUNTS)


def facts() -> dict[str, object]:
    """Return what one must know of the machine to read the numbers."""
    model = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    unified = (CGROUPS / "cgroup.controllers").exists()
    return {
        "kernel": os.uname().release,
        "machine": os.uname().machine,
        "cpu": model[0] if model else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "python": sys.version.split()[0],
        "cgroups": 2 if unified else 1,
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
        "load": os.getloadavg()[0],
        "versions": {name: _version(name) for name in ("bwrap", "apptainer", "unshare")},
    }


def _version(program: str) -> str:
    if not shutil.which(program):
        return "not installed"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def look_at(path: Path) -> dict[str, Sequence[str]]:
    """Read what look.c wrote: each word with what followed it."""
    seen: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        word, _, rest = line.partition(" ")
        seen.setdefault(word, []).append(rest)
    return dict(seen)
