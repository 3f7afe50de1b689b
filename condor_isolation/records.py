"""The one definition of the compiled policy and of the plan, and their codec.

Both are text: a first line ``condor-isolation policy 1`` (or ``plan``), then one record a line,
``key field field ...`` with single spaces, then ``end COUNT FNV`` where COUNT is the number of
records before it and FNV is the FNV-1a 64 hash (16 hex digits) of every byte before that line:
a truncated or hand-edited file never passes.  In a field, each byte that is not printable ASCII,
and space and ``%``, is written ``%XX``; an empty field is written ``%``.

``wrappers/helper/records.gen.h`` is generated from the tables here (``python3 -m
condor_isolation.c_header``), so that the C reader and this writer cannot disagree.

This module is on the per-job path: it imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAGIC = "condor-isolation"
FORMAT_VERSION = 1

POLICY_BYTES_MAX = 4 * 1024 * 1024
PLAN_BYTES_MAX = 64 * 1024
RECORDS_MAX = 32768
FIELDS_MAX = 4
FIELD_BYTES_MAX = 4095  # PATH_MAX less its NUL
NAME_BYTES_MAX = 64

# Field types, one letter each.
PATH = "P"  # absolute, normal form: no "//", no "." or ".." component, no "/" at the end
NAME = "N"  # [A-Za-z0-9_][A-Za-z0-9_.-]*
UINT = "U"  # decimal, no sign, no leading zero, at most 2**63 - 1
WORD = "W"  # [a-z][a-z0-9-]*, from the list beside it in the table
TEXT = "T"  # any printable ASCII once decoded

ACCESS = ("ro", "rw")
MODES = ("off", "prefer", "require")
NETWORKS = ("host",)

# name, default mode, what it means.  Ids, capabilities, the bounding set and the mount
# namespace are no control: no job ever starts without them.
CONTROLS = (
    ("pid", "require", "own PID namespace with a reaping init; other processes do not exist"),
    ("ipc", "require", "own IPC namespace: System V IPC and POSIX message queues"),
    ("uts", "require", "own UTS namespace: host name changes stay in the job"),
    ("cgroup-namespace", "prefer", "own cgroup namespace: the job sees its cgroup as the root"),
    ("no-new-privs", "require", "no_new_privs: setuid files and file capabilities give nothing"),
    ("nosuid", "require", "every mount of the job is nosuid, every one but /dev nodev"),
    ("proc", "require", "fresh /proc of the job's own PID namespace"),
    ("sys", "require", "/sys with everything below it read-only"),
    ("tmp", "require", "each directory of MOUNT_UNDER_SCRATCH is private, kept in the scratch"),
    ("shm", "require", "private /dev/shm with a size limit"),
    ("mqueue", "require", "private /dev/mqueue"),
    ("pts", "require", "private /dev/pts"),
    ("sandboxes", "require", "EXECUTE shows the job's own sandbox and no other"),
    ("hide", "require", "each path of ISOLATION_HIDE is empty"),
    ("read-only", "require", "each path of ISOLATION_READ_ONLY is read-only"),
    ("limits", "prefer", "cgroup limits that HTCondor does not set"),
)

# name, unit, help.  Values of the plan can only be lower than those of the policy.
LIMITS = (
    ("memory-max", "bytes", "hard memory limit"),
    ("memory-high", "bytes", "memory above this is reclaimed and the job slowed"),
    ("memory-low", "bytes", "memory below this is protected from reclaim"),
    ("swap-max", "bytes", "swap that the job may use"),
    ("pids-max", "processes and threads", "number of processes and threads"),
    ("cpu-max", "thousandths of a core", "hard limit on CPU time per second"),
    ("cpu-weight", "1 to 10000", "share of a busy machine's CPU time"),
)

CONTROL_WORDS = tuple(name for name, _mode, _help in CONTROLS)
LIMIT_WORDS = tuple(name for name, _unit, _help in LIMITS)
EXPRESSION_WORDS = ("chroot", *LIMIT_WORDS)
FAULT_WORDS = ("job", "machine")

# key -> (field types, words of each WORD field in order, least count, greatest count, help)
POLICY = {
    "enable": ("U", (), 1, 1, "1: isolate; 0: run jobs as without the package"),
    "source": ("UUP", (), 1, 1024, "mtime in ns, size, path of a file the policy was made from"),
    "starter": ("P", (), 1, 8, "condor_starter, the only program whose children may call"),
    "wrapper": ("P", (), 1, 1, "USER_JOB_WRAPPER: the script that names the helper"),
    "planner": ("PP", (), 1, 1, "interpreter and script that write the plan"),
    "sshd": ("P", (), 0, 1, "sshd of condor_ssh_to_job"),
    "min-uid": ("U", (), 1, 1, "lowest uid that a job may have"),
    "execute": ("P", (), 1, 8, "EXECUTE: parent of all sandboxes"),
    "private": ("P", (), 0, 64, "directory of MOUNT_UNDER_SCRATCH"),
    "hide": ("P", (), 0, 256, "path made empty"),
    "read-only": ("P", (), 0, 256, "path made read-only"),
    "bind": ("PPW", (ACCESS,), 0, 1024, "source, destination, access: for every job"),
    "root": ("NPW", (ACCESS,), 0, 4096, "named chroot: name, directory, access"),
    "root-user": ("NU", (), 0, 16384, "chroot, uid that may use it"),
    "root-group": ("NU", (), 0, 16384, "chroot, gid that may use it"),
    "root-bind": ("NPPW", (ACCESS,), 0, 8192, "chroot, source, destination, access"),
    "root-forced": ("N", (), 0, 1, "every job gets this chroot"),
    "tmp-size": ("U", (), 0, 1, "bytes; private directories on a tmpfs of this size"),
    "shm-size": ("U", (), 1, 1, "bytes; /dev/shm"),
    "network": ("W", (NETWORKS,), 1, 1, "network of the job"),
    "mode": ("WW", (CONTROL_WORDS, MODES), len(CONTROLS), len(CONTROLS), "control, mode"),
    "limit": ("WU", (LIMIT_WORDS,), 0, len(LIMITS), "limit and its ceiling"),
    "expr": ("WT", (EXPRESSION_WORDS,), 0, 64, "ClassAd expression for the planner"),
    "classad-path": ("P", (), 0, 1, "directory to import classad2 from, for the planner"),
}

PLAN = {
    "root": ("N", (), 0, 1, "the named chroot that the job gets"),
    "limit": ("WU", (LIMIT_WORDS,), 0, len(LIMITS), "a limit tighter than the policy's"),
    "refuse": ("WNT", (FAULT_WORDS,), 0, 1, "whose fault, message id, reason: do not start"),
}

KINDS = {"policy": POLICY, "plan": PLAN}


class RecordError(ValueError):
    """A record that does not fit the tables: what and where, in one line."""


class OtherVersionError(RecordError):
    """The file is of another version of the format."""


def fnv1a(data: bytes) -> int:
    """Return the FNV-1a 64 hash: it detects accidents, not enemies (the file is root's)."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def quote(field: str) -> str:
    """Return FIELD with every byte but printable ASCII other than space and % as %XX."""
    if not field:
        return "%"
    if field.isascii() and field.isprintable() and " " not in field and "%" not in field:
        return field
    return "".join(
        chr(b) if 0x20 < b < 0x7F and b != 0x25 else f"%{b:02X}"
        for b in field.encode("utf-8", "surrogateescape")
    )


def unquote(field: str) -> str:
    """Return what quote() was given.  Raise RecordError on what quote() does not write."""
    if not field or not field.isprintable() or " " in field:
        raise RecordError(f"{field!r} is empty or holds what must be escaped")
    if field == "%":
        return ""
    if "%" not in field:
        return field
    first, *rest = field.split("%")
    out = bytearray(first.encode())
    for part in rest:
        digits = part[:2]
        if len(digits) != 2 or not all(c in "0123456789ABCDEF" for c in digits):
            raise RecordError(f"bad escape in {field!r}")
        out.append(int(digits, 16))
        out += part[2:].encode()
    return out.decode("utf-8", "surrogateescape")


def path_is_normal(path: str) -> bool:
    """Tell whether PATH is absolute and in normal form ("/" itself included)."""
    if path == "/":
        return True
    return path.startswith("/") and all(part not in ("", ".", "..") for part in path[1:].split("/"))


def name_is_good(name: str) -> bool:
    """Tell whether NAME may name a chroot or a message."""
    return (
        0 < len(name) <= NAME_BYTES_MAX
        and name.isascii()
        and (name[0].isalnum() or name[0] == "_")
        and all(c.isalnum() or c in "_.-" for c in name)
    )


def _field_problem(kind: str, value: str, words: Sequence[str]) -> str:
    """Return what is wrong with VALUE as a field of type KIND, or ''."""
    if "\0" in value or len(value.encode("utf-8", "surrogateescape")) > FIELD_BYTES_MAX:
        return f"holds a NUL or is over {FIELD_BYTES_MAX} bytes"
    if kind == PATH:
        return "" if path_is_normal(value) else "is not an absolute path in normal form"
    if kind == NAME:
        return "" if name_is_good(value) else "is not a name ([A-Za-z0-9_.-], 64 at most)"
    if kind == UINT:
        good = value.isascii() and value.isdigit() and str(int(value)) == value
        return "" if good and int(value) < 2**63 else "is not a whole number below 2**63"
    if kind == WORD:
        return "" if value in words else f"is none of {', '.join(words)}"
    return "" if value.isascii() and value.isprintable() else "is not printable ASCII"


def check_record(kind: str, key: str, fields: Sequence[str]) -> None:
    """Raise RecordError unless KEY with FIELDS is a record of a KIND ("policy" or "plan")."""
    row = KINDS[kind].get(key)
    if row is None:
        raise RecordError(f"{key!r} is no record of a {kind}")
    types, words = row[0], list(row[1])
    if len(fields) != len(types):
        raise RecordError(f"{key}: {len(types)} fields expected, {len(fields)} given")
    for letter, value in zip(types, fields):
        problem = _field_problem(letter, value, words.pop(0) if letter == WORD else ())
        if problem:
            raise RecordError(f"{key}: {value[:80]!r} {problem}")


def check_counts(kind: str, records: Iterable[Sequence[str]]) -> None:
    """Raise RecordError unless each key stands as often as its table allows."""
    counts = dict.fromkeys(KINDS[kind], 0)
    for record in records:
        counts[record[0]] += 1
    for key, (_types, _words, least, most, _help) in KINDS[kind].items():
        if not least <= counts[key] <= most:
            raise RecordError(f"{key}: {counts[key]} records, {least} to {most} allowed")


def encode(kind: str, records: Sequence[Sequence[str]]) -> bytes:
    """Return the file of RECORDS, each (key, field, ...).  Raise RecordError on a bad one."""
    for record in records:
        check_record(kind, record[0], record[1:])
    check_counts(kind, records)
    lines = [f"{MAGIC} {kind} {FORMAT_VERSION}\n"]
    lines += [" ".join([r[0], *map(quote, r[1:])]) + "\n" for r in records]
    body = "".join(lines).encode("ascii")
    return body + f"end {len(records)} {fnv1a(body):016x}\n".encode("ascii")


def split_lines(kind: str, data: bytes) -> list[list[str]]:
    """Return the records of a file without checking their fields.

    Raise RecordError if the first or the last line is not there, or a field is badly quoted.
    """
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise RecordError("not ASCII") from None
    if lines[0].startswith(f"{MAGIC} {kind} ") and lines[0] != f"{MAGIC} {kind} {FORMAT_VERSION}":
        raise OtherVersionError(f"is of format version {lines[0].rpartition(' ')[2][:20]!r}")
    if lines[0] != f"{MAGIC} {kind} {FORMAT_VERSION}":
        raise RecordError(f"first line is not '{MAGIC} {kind} {FORMAT_VERSION}'")
    if len(lines) < 3 or lines[-1] or not lines[-2].startswith("end "):
        raise RecordError("no end line: truncated")
    return [[unquote(field) for field in line.split(" ")] for line in lines[1:-2]]


def decode(kind: str, data: bytes) -> list[list[str]]:
    """Return the records of a file, all checked.  Raise RecordError on any flaw."""
    records = split_lines(kind, data)
    body = data[: data.rstrip(b"\n").rfind(b"\n") + 1]
    end = f"end {len(records)} {fnv1a(body):016x}\n".encode()
    if data[len(body) :] != end:
        raise RecordError("the end line does not fit: truncated or edited by hand")
    for record in records:
        check_record(kind, record[0], record[1:])
    check_counts(kind, records)
    return records
