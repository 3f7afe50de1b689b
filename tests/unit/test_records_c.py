"""The helper's reader in C and the one in Python accept the same files, with the same content."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from condor_isolation import records

TOP = Path(__file__).resolve().parents[2]
HEADER = "condor_isolation.c_header"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on this machine")
needs_clang = pytest.mark.skipif(shutil.which("clang") is None, reason="no clang on this machine")


class Reader:
    """The C reader as a process that answers one file after the other."""

    def __init__(self, program: Path) -> None:
        environment = {"ASAN_OPTIONS": "detect_leaks=0"}
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    def read(self, kind: str, data: bytes) -> list[list[str]] | None:
        """Return the records that the C reader sees, None if it refuses the file."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        head = ("o" if kind == "policy" else "a") + f"{len(data):08x}"
        self._process.stdin.write(head.encode() + data)
        self._process.stdin.flush()
        first = self._process.stdout.readline().split()
        assert first, f"the reader died of {data!r}"
        if first[0] == b"-":
            return None
        return [self._record(kind, self._process.stdout.readline()) for _ in range(int(first[1]))]

    @staticmethod
    def _record(kind: str, line: bytes) -> list[str]:
        number, *fields = line.decode().split()
        key = list(records.KINDS[kind])[int(number)]
        types, words = records.KINDS[kind][key][0], list(records.KINDS[kind][key][1])
        out = [key]
        for letter, field in zip(types, fields):
            value, _, text = field.partition(":")
            out.append(bytes.fromhex(text).decode("utf-8", "surrogateescape"))
            if letter == "U":
                assert out[-1] == value
            if letter == "W":
                assert words.pop(0)[int(value)] == out[-1]
        return out

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    build = tmp_path_factory.mktemp("records")
    header = build / "records.gen.h"
    subprocess.run(["python3", "-B", "-m", HEADER, header], cwd=TOP, check=True)
    program = build / "read_records"
    source = TOP / "tests" / "helper" / "read_records.c"
    flags = ["-std=gnu11", "-g", "-O1", "-D_GNU_SOURCE", f"-I{build}", *SANITIZERS]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    process = Reader(program)
    yield process
    process.close()


def python_reads(kind: str, data: bytes) -> list[list[str]] | None:
    try:
        return records.decode(kind, data)
    except records.RecordError:
        return None


def signed(body: bytes, count: int | None = None) -> bytes:
    """Return BODY with the end line that belongs to it."""
    count = body.count(b"\n") - 1 if count is None else count
    return body + f"end {count} {records.fnv1a(body):016x}\n".encode()


# Files that are right, of any content the tables allow

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", fullmatch=True)
PARTS = st.binary(min_size=1, max_size=20).filter(
    lambda part: part not in (b".", b"..") and b"/" not in part and b"\0" not in part
)
PATHS = st.lists(PARTS, max_size=4).map(
    lambda parts: (b"/" + b"/".join(parts)).decode("utf-8", "surrogateescape")
)
FIELDS = {
    "P": PATHS,
    "N": NAMES,
    "U": st.integers(0, 2**63 - 1).map(str),
    "T": st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200),
}


@st.composite
def files(draw: st.DrawFn, kind: str) -> list[tuple[str, ...]]:
    """Return records as many as each key allows (and not many more than it needs)."""
    rows = []
    for key, (types, words, least, most, _help) in records.KINDS[kind].items():
        for _ in range(draw(st.integers(least, min(most, least + 2)))):
            lists = list(words)
            fields = [
                draw(st.sampled_from(lists.pop(0)) if letter == "W" else FIELDS[letter])
                for letter in types
            ]
            rows.append((key, *fields))
    return draw(st.permutations(rows))


@needs_gcc
@pytest.mark.parametrize("kind", ["policy", "plan"])
def test_whatever_the_writer_writes_both_read_alike(reader: Reader, kind: str) -> None:
    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(files(kind))
    def check(rows: list[tuple[str, ...]]) -> None:
        data = records.encode(kind, rows)
        expected = [list(row) for row in rows]
        assert records.decode(kind, data) == expected
        assert reader.read(kind, data) == expected

    check()


# Files that are not quite right

SEPARATORS = [b" ", b"  ", b"\n", b"\n\n", b"\0", b"\t", b"\r", b"/", b"//", b"/.", b"/..", b".."]
ESCAPES = [b"%", b"%%", b"%00", b"%0", b"%2F", b"%2f", b"%41"]
BYTES = [b"\x7f", b"\x80", b"\xff", b"\xc3\xa4"]
NUMBERS = [b"-1", b"+1", b"0", b"00", b"9223372036854775808", b"18446744073709551616"]
RECORDS = [b"end 1 0\n", b"min-uid 1\n", b"root a\n", b"x" * 65, b"x" * 5000]
TOKENS = st.sampled_from(SEPARATORS + ESCAPES + BYTES + NUMBERS + RECORDS)
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.one_of(TOKENS, st.binary(max_size=4))),
    min_size=1,
    max_size=3,
)


def edit(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Replace SIZE bytes at WHERE by other ones, for each edit."""
    for where, size, put in edits:
        at = int(where * len(data))
        data = data[:at] + put + data[at + size :]
    return data


@needs_gcc
@pytest.mark.parametrize("sign_again", [True, False])
@pytest.mark.parametrize("kind", ["policy", "plan"])
def test_of_whatever_is_edited_both_think_alike(
    reader: Reader, kind: str, sign_again: bool
) -> None:
    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(files(kind), EDITS)
    def check(rows: list[tuple[str, ...]], edits: list[tuple[float, int, bytes]]) -> None:
        data = records.encode(kind, rows)
        if sign_again:
            data = signed(edit(data[: data.rindex(b"\nend ") + 1], edits))
        else:
            data = edit(data, edits)
        assert reader.read(kind, data) == python_reads(kind, data)

    check()


@needs_gcc
@pytest.mark.parametrize("kind", ["policy", "plan"])
def test_of_any_bytes_both_think_alike(reader: Reader, kind: str) -> None:
    @settings(max_examples=200, deadline=None)
    @example(b"")
    @example(b"\n")
    @example(b"\0")
    @example(b"end 0 cbf29ce484222325\n")
    @given(st.binary(max_size=300))
    def check(data: bytes) -> None:
        for text in (data, signed(data), signed(f"condor-isolation {kind} 1\n".encode() + data)):
            assert reader.read(kind, text) == python_reads(kind, text)

    check()


# What hypothesis found or could have found, by name

PLANS = {
    "an empty text": b"refuse job CI-1 \n",
    "an encoded empty text": b"refuse job CI-1 %\n",
    "a tab in a text": b"refuse job CI-1 a\tb\n",
    "an encoded tab in a text": b"refuse job CI-1 a%09b\n",
    "an encoded printable": b"root %41\n",
    "a sign of percent in a name": b"root %25\n",
    "an encoded NUL": b"root a%00\n",
    "an empty name": b"root \n",
    "a name of 64": b"root " + b"x" * 64 + b"\n",
    "a name of 65": b"root " + b"x" * 65 + b"\n",
    "a text of 4095": b"refuse job CI-1 " + b"x" * 4095 + b"\n",
    "a text of 4096": b"refuse job CI-1 " + b"x" * 4096 + b"\n",
    "the largest number": b"limit pids-max 9223372036854775807\n",
    "one more": b"limit pids-max 9223372036854775808\n",
    "an overflow": b"limit pids-max 92233720368547758070\n",
    "an encoded number": b"limit pids-max %31\n",
    "a number in Arabic": "limit pids-max ٣\n".encode(),
    "a superscript": b"limit pids-max %C2%B2\n",
    "an empty line": b"\n",
    "a form feed": b"\froot a\n",
    "a key alone": b"root\n",
    "a key with a space": b"root \n",
    "a delete": b"root a\x7f\n",
}


@needs_gcc
@pytest.mark.parametrize("name", PLANS)
def test_of_this_plan_both_think_alike(reader: Reader, name: str) -> None:
    data = signed(b"condor-isolation plan 1\n" + PLANS[name])
    assert reader.read("plan", data) == python_reads("plan", data)


@needs_gcc
@pytest.mark.parametrize("path", [b"/a\tb", b"/a\x01b", b"/a\x7fb", b"/a%09b", b"/%20", b"/a%2Fb"])
def test_of_this_path_both_think_alike(reader: Reader, path: bytes) -> None:
    good = records.encode("policy", _least_policy())
    body = good[: good.rindex(b"\nend ") + 1] + b"hide " + path + b"\n"
    data = signed(body)
    assert reader.read("policy", data) == python_reads("policy", data)


def _least_policy() -> list[list[str]]:
    from tests.fuzz.seeds import smallest

    return smallest("policy")


@needs_clang
def test_the_fuzzer_finds_nothing_within_ten_seconds() -> None:
    done = subprocess.run(
        ["make", "-C", TOP / "tests" / "fuzz", "SECONDS=10"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
