"""The compiled policy: no job starts on one that is not exactly what root has installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from condor_isolation import records

from . import policy as policies
from .conftest import assert_refused, ended_well
from .starter import ALICE

FILE = str(policies.FILE)


@pytest.fixture
def with_file(run_job):
    """Run a job after CHANGE was made to a good policy in place, which is then put right."""

    def run(change):
        assert ended_well(run_job(["/bin/true"]))
        return run_job(["/bin/true"], prepare=lambda _scratch: change(policies.FILE), seconds=3)

    yield run
    policies.FILE.unlink(missing_ok=True)


def signed(body: bytes, count: int | None = None) -> bytes:
    """Return BODY with an end line that fits."""
    count = body.count(b"\n") - 1 if count is None else count
    return body + f"end {count} {records.fnv1a(body):016x}\n".encode()


def body_of(policy: bytes) -> bytes:
    return policy[: policy.rindex(b"\nend ") + 1]


def test_without_a_policy_no_job_starts(with_file):
    assert_refused(with_file(lambda file: file.unlink()), "CI-004", FILE, "ENOENT")


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "socket"])
def test_a_policy_that_is_no_regular_file_is_refused(with_file, kind):
    def change(file):
        file.unlink()
        if kind == "directory":
            file.mkdir()
        elif kind == "fifo":
            os.mkfifo(file, 0o644)
        elif kind == "link":
            good = policies.encode()
            file.with_name("real").write_bytes(good)
            file.symlink_to("real")
        else:
            os.mknod(file, 0o140644)

    try:
        result = with_file(change)
        ident = result.error_file[:6]
        assert ident in ("CI-004", "CI-006")
        assert_refused(result, ident, FILE)
    finally:
        if policies.FILE.is_dir() and not policies.FILE.is_symlink():
            policies.FILE.rmdir()
        policies.FILE.with_name("real").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("uid", "mode"), [(ALICE, 0o644), (101, 0o644), (0, 0o664), (0, 0o646), (0, 0o666)]
)
def test_a_policy_that_others_can_write_is_refused(with_file, uid, mode):
    def change(file):
        os.chown(file, uid, -1)
        file.chmod(mode)

    result = with_file(change)
    assert_refused(result, "CI-005", f"{FILE} belongs to uid {uid} and has mode {mode:04o}")


@pytest.mark.parametrize(
    ("uid", "mode"), [(ALICE, 0o755), (0, 0o775), (0, 0o757), (0, 0o1777), (0, 0o2775)]
)
@pytest.mark.parametrize("directory", ["/etc/condor-isolation", "/etc"])
def test_a_policy_whose_directory_others_can_write_is_refused(with_file, directory, uid, mode):
    def change(_file):
        os.chown(directory, uid, -1)
        os.chmod(directory, mode)

    try:
        result = with_file(change)
    finally:
        os.chown(directory, 0, -1)
        os.chmod(directory, 0o755)
    assert_refused(result, "CI-005", f"{directory} belongs to uid {uid} and has mode {mode:04o}")


def test_a_policy_that_an_access_list_lets_others_write_is_refused(with_file):
    """The mask of an ACL shows as the group's permissions."""

    def change(file):
        def entry(tag, permissions, ident=0xFFFFFFFF):
            return b"".join(
                n.to_bytes(s, "little") for n, s in ((tag, 2), (permissions, 2), (ident, 4))
            )

        acl = (
            b"\x02\0\0\0"
            + entry(1, 6)
            + entry(2, 6, ALICE)
            + entry(4, 4)
            + entry(16, 6)
            + entry(32, 4)
        )
        os.setxattr(file, "system.posix_acl_access", acl)

    assert_refused(with_file(change), "CI-005", FILE)


def test_a_link_to_the_policys_directory_is_refused(with_file):
    moved = Path("/etc/moved")

    def change(_file):
        policies.PLACE.rename(moved)
        policies.PLACE.symlink_to(moved)

    try:
        result = with_file(change)
    finally:
        policies.PLACE.unlink()
        moved.rename(policies.PLACE)
    assert_refused(result, "CI-004", FILE)


def test_a_policy_truncated_anywhere_is_refused(run_job):
    """Around the ends, where a shorter file could still be one, byte by byte."""
    policy = policies.encode()
    lines = [i + 1 for i, byte in enumerate(policy) if byte == 10][:-1]
    sizes = {0, 1, 20, *lines[::4], *range(len(policy) - 30, len(policy))}
    for size in sorted(sizes):
        result = run_job(["/bin/true"], policy=policy[:size])
        assert_refused(result, "CI-006", FILE)
    assert ended_well(run_job(["/bin/true"], policy=policy))


EDITS = {
    "a digit changed": lambda p: p.replace(b"min-uid 500", b"min-uid 100"),
    "a record doubled": lambda p: p.replace(b"min-uid 500\n", b"min-uid 500\nmin-uid 500\n"),
    "a record removed": lambda p: p.replace(b"private /tmp\n", b""),
    "something behind the end": lambda p: p + b"private /srv\n",
    "an empty line behind the end": lambda p: p + b"\n",
    "no newline at the end": lambda p: p[:-1],
    "carriage returns": lambda p: p.replace(b"\n", b"\r\n").replace(b"\r", b"", 1),
    "a byte order mark": lambda p: b"\xef\xbb\xbf" + p,
    "two policies": lambda p: p + p,
    "a NUL at the end": lambda p: p + b"\0",
    "a digit of the hash": lambda p: p[:-2] + (b"0\n" if p[-2:] != b"0\n" else b"1\n"),
}
WRONG = {
    "an unknown record": lambda b: b + b"surprise 1\n",
    "a record too often": lambda b: b + b"min-uid 500\n",
    "a record missing": lambda b: b.replace(b"min-uid 500\n", b""),
    "a field too many": lambda b: b.replace(b"min-uid 500\n", b"min-uid 500 500\n"),
    "a field too few": lambda b: b.replace(b"min-uid 500\n", b"min-uid\n"),
    "an empty field": lambda b: b.replace(b"min-uid 500\n", b"min-uid \n"),
    "two spaces": lambda b: b.replace(b"min-uid 500\n", b"min-uid  500\n"),
    "a space behind": lambda b: b.replace(b"min-uid 500\n", b"min-uid 500 \n"),
    "a sign": lambda b: b.replace(b"min-uid 500\n", b"min-uid +500\n"),
    "a negative number": lambda b: b.replace(b"min-uid 500\n", b"min-uid -1\n"),
    "a leading zero": lambda b: b.replace(b"min-uid 500\n", b"min-uid 0500\n"),
    "a hexadecimal number": lambda b: b.replace(b"min-uid 500\n", b"min-uid 0x500\n"),
    "a number too large": lambda b: b.replace(b"min-uid 500", b"min-uid 9223372036854775808"),
    "a number far too large": lambda b: b.replace(b"min-uid 500", b"min-uid " + b"9" * 50),
    "a relative path": lambda b: b.replace(b"private /tmp\n", b"private tmp\n"),
    "a path with ..": lambda b: b.replace(b"private /tmp\n", b"private /tmp/..\n"),
    "a path with //": lambda b: b.replace(b"private /tmp\n", b"private //tmp\n"),
    "a path with an end /": lambda b: b.replace(b"private /tmp\n", b"private /tmp/\n"),
    "a path with a NUL": lambda b: b.replace(b"private /tmp\n", b"private /tmp%00\n"),
    "a bad escape": lambda b: b.replace(b"private /tmp\n", b"private /tm%7\n"),
    "a lower case escape": lambda b: b.replace(b"private /tmp\n", b"private /tm%7a\n"),
    "a path too long": lambda b: b.replace(b"private /tmp\n", b"private /" + b"x" * 4095 + b"\n"),
    "a mode that is none": lambda b: b.replace(b"mode pid require", b"mode pid maybe"),
    "a mode in capitals": lambda b: b.replace(b"mode pid require", b"mode pid REQUIRE"),
    "a control that is none": lambda b: b.replace(b"mode pid require", b"mode lid require"),
    "a control twice, one not": lambda b: b.replace(b"mode pid require", b"mode ipc require"),
    "a comment": lambda b: b.replace(b"min-uid", b"# comment\nmin-uid"),
    "an empty line": lambda b: b.replace(b"min-uid", b"\nmin-uid"),
    "an end line inside": lambda b: signed(b) + b"",
    "a plan": lambda b: b.replace(b"condor-isolation policy", b"condor-isolation plan"),
    "another magic": lambda b: b.replace(b"condor-isolation policy", b"condor_isolation policy"),
    "no header": lambda b: b.partition(b"\n")[2],
    "no records": lambda b: b.partition(b"\n")[0] + b"\n",
}


@pytest.mark.parametrize("name", EDITS)
def test_a_policy_edited_by_hand_is_refused(run_job, name):
    policy = policies.encode()
    assert ended_well(run_job(["/bin/true"], policy=policy))
    edited = EDITS[name](policy)
    assert edited != policy
    assert_refused(run_job(["/bin/true"], policy=edited), "CI-006", FILE)


@pytest.mark.parametrize("name", WRONG)
def test_a_policy_that_is_not_of_the_format_is_refused(run_job, name):
    body = body_of(policies.encode())
    assert ended_well(run_job(["/bin/true"], policy=signed(body)))
    wrong = WRONG[name](body)
    assert wrong != body
    assert_refused(run_job(["/bin/true"], policy=signed(wrong)), "CI-006", FILE)


@pytest.mark.parametrize("count", [0, 1, 30, 10**18])
def test_a_wrong_count_of_records_is_refused(run_job, count):
    body = body_of(policies.encode())
    assert_refused(run_job(["/bin/true"], policy=signed(body, count)), "CI-006", FILE)


@pytest.mark.parametrize(
    "garbage", [b"\n", b"\0", b"\xff" * 4096, os.urandom(65536), b"end 0 cbf29ce484222325\n"]
)
def test_garbage_is_refused(run_job, garbage):
    assert_refused(run_job(["/bin/true"], policy=garbage), "CI-006", FILE)


def test_a_policy_that_is_too_large_is_refused(run_job):
    body = body_of(policies.encode()) + b"#" * records.POLICY_BYTES_MAX
    assert_refused(run_job(["/bin/true"], policy=signed(body + b"\n")), "CI-006", FILE)


def test_the_largest_policy_is_good(run_job):
    """As many chroots with as many users as the format allows."""
    root = [(f"chroot-{i}", f"/chroots/{i}", "ro") for i in range(4096)]
    user = [(f"chroot-{i % 4096}", str(ALICE + i)) for i in range(16384)]
    policy = policies.encode(root=root, root_user=user)
    assert ended_well(run_job(["/bin/true"], policy=policy))
    with pytest.raises(records.RecordError):
        policies.encode(root=[*root, ("more", "/more", "ro")])


@pytest.mark.parametrize("version", [b"2", b"0", b"10", b"1.0", b"", b"one"])
def test_a_policy_of_another_version_is_refused_as_that(run_job, version):
    body = body_of(policies.encode()).replace(b"policy 1\n", b"policy " + version + b"\n")
    assert_refused(run_job(["/bin/true"], policy=signed(body)), "CI-007", FILE)


def test_a_policy_that_is_older_than_its_sources_is_refused(run_job):
    policy = policies.encode()
    assert ended_well(run_job(["/bin/true"], policy=policy))
    source = policies.SOURCE
    kept = source.stat()
    text = source.read_text()
    changes = {
        "touched": lambda: os.utime(source, ns=(kept.st_atime_ns, kept.st_mtime_ns + 1)),
        "set back": lambda: os.utime(source, ns=(kept.st_atime_ns, kept.st_mtime_ns - 1)),
        "longer": lambda: source.write_text(text + "#"),
        "gone": source.unlink,
    }
    for name, change in changes.items():
        change()
        if name == "longer":
            os.utime(source, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        try:
            result = run_job(["/bin/true"], policy=policy)
        finally:
            source.write_text(text)
            os.utime(source, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        word = "ENOENT" if name == "gone" else "has changed"
        assert_refused(result, "CI-008", str(source), word)
    assert ended_well(run_job(["/bin/true"], policy=policy))


def test_with_isolation_disabled_the_job_runs_as_without_the_package(run_python):
    code = """
import os
print(os.readlink('/proc/self/ns/mnt'), os.readlink('/proc/self/ns/pid'), os.listdir('/srv'),
      os.getresuid(), os.getresgid(), os.getgroups(),
      os.getcwd() == os.environ['_CONDOR_SCRATCH_DIR'])
for line in open('/proc/self/status'):
    if line.startswith(('Cap', 'NoNewPrivs', 'Sig')):
        print(line)"""
    plain = run_python(code, wrapper=None)
    assert ended_well(plain)
    disabled = run_python(code, policy={"enable": "0"})
    assert ended_well(disabled)
    assert disabled.stdout == plain.stdout
    assert run_python(code).stdout != plain.stdout


def test_with_isolation_disabled_the_caller_is_still_checked(run_job):
    policy = {"enable": "0", "min_uid": "2000"}
    assert_refused(run_job(["/bin/true"], policy=policy), "CI-003")
    policy = {"enable": "0", "starter": ["/usr/bin/env"]}
    assert_refused(run_job(["/bin/true"], policy=policy), "CI-002")


def test_with_isolation_disabled_a_command_that_is_missing_is_told(run_job):
    assert_refused(run_job(["/absent"], policy={"enable": "0"}), "CI-020", "/absent", "ENOENT")


def test_with_isolation_disabled_a_session_starts_too(run_job):
    os.makedirs("/srv/bin", exist_ok=True)
    os.symlink("/bin/echo", "/srv/bin/sshd")
    try:
        policy = {"sshd": "/srv/bin/sshd"}
        command = ["/srv/bin/sshd", "-i", "session"]
        assert b"CI-028" in run_job(command, policy=policy).stderr
        disabled = run_job(command, policy={**policy, "enable": "0"})
        assert disabled.stdout == b"-i session\n"
    finally:
        os.unlink("/srv/bin/sshd")
