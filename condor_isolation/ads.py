"""Reads single attributes of long-form ClassAds (``.job.ad``, ``.machine.ad``).

Long form is one ``Name = expression`` a line, in the old ClassAd syntax: in a string only ``\\"``
is an escape, any other backslash is itself.  Names do not mind case, the last line of a name
counts.  The files belong to the job's user: nothing in them is believed, everything is bounded.

Plain literals are read here; a test proves that classad2 reads each of them the same.  All else
goes to classad2, which is imported at that moment, because its import costs more than the rest
of the planner.  This module is on the per-job path: it imports no more than ``posix`` and
``sys`` (``os`` alone would be a seventh of the start-up time).
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

AD_BYTES_MAX = 4 * 1024 * 1024
INTEGER_MAX = 2**63 - 1
_REAL_CHARS_MAX = 40
_BLANKS = b" \t\r\v\f"
_FILE_TYPE, _REGULAR = 0o170000, 0o100000  # S_IFMT, S_IFREG


class AdError(ValueError):
    """The ad itself cannot be used: missing, no regular file, too big, binary."""


class ExpressionError(ValueError):
    """An expression cannot be evaluated: bad syntax, or no classad2 to evaluate it with."""


class Special:
    """A ClassAd value that is no scalar: undefined, error, list, ..."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


if TYPE_CHECKING:
    Scalar = bool | int | float | str | Special

UNDEFINED = Special("undefined")
ERROR = Special("error")
_WORDS: dict[bytes, Scalar] = {
    b"true": True,
    b"false": False,
    b"undefined": UNDEFINED,
    b"error": ERROR,
}


def read_ad(path: str) -> bytes:
    """Return the content of the ad file PATH.  Raise AdError when it cannot be used.

    The name may have been replaced by anything: a FIFO must not block, a symlink not be followed.
    """
    flags = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        fd = posix.open(path, flags)
    except OSError as error:
        raise AdError(f"{path} cannot be opened: {error.strerror}") from None
    try:
        if posix.fstat(fd).st_mode & _FILE_TYPE != _REGULAR:
            raise AdError(f"{path} is not a regular file")
        return check_ad(path, read_all(fd, AD_BYTES_MAX + 1))
    except OSError as error:
        raise AdError(f"{path} cannot be read: {error.strerror}") from None
    finally:
        posix.close(fd)


def read_all(fd: int, most: int) -> bytes:
    """Return what FD holds, but no more than MOST bytes."""
    chunks = []
    while most > 0:
        chunk = posix.read(fd, min(most, 1 << 20))
        if not chunk:
            break
        chunks.append(chunk)
        most -= len(chunk)
    return b"".join(chunks)


def check_ad(name: str, data: bytes) -> bytes:
    """Return DATA if it may be an ad.  Raise AdError if it is too big or surely none."""
    if len(data) > AD_BYTES_MAX:
        raise AdError(f"{name} is over {AD_BYTES_MAX} bytes")
    if b"\0" in data:
        raise AdError(f"{name} is binary")
    if b"=" not in data:
        raise AdError(f"{name} holds no attribute")
    return data


def find(data: bytes, lowered: bytes, name: str) -> bytes | None:
    """Return the expression of attribute NAME, untrimmed, or None.  LOWERED is DATA.lower().

    Linear in the size of the ad, whatever it holds.  Blanks of every kind may stand before a
    name, only spaces between it and the ``=``: so does HTCondor's own reader.
    """
    key = name.lower().encode()
    at = lowered.rfind(key)
    while at >= 0:
        first = at
        while first and data[first - 1] in _BLANKS:
            first -= 1
        after = at + len(key)
        while data[after : after + 1] == b" ":
            after += 1
        if (not first or data[first - 1] == 0x0A) and data[after : after + 1] == b"=":
            end = data.find(b"\n", after)
            return data[after + 1 : end if end >= 0 else len(data)]
        at = lowered.rfind(key, 0, at + len(key) - 1)
    return None


def literal(raw: bytes) -> Scalar | None:
    """Return the value of the plain literal RAW, or None if classad2 must read it."""
    text = raw.strip(_BLANKS)
    if text[:1] == b'"':
        body = text[1:-1]
        if len(text) < 2 or text[-1:] != b'"' or b'"' in body or body[-1:] == b"\\":
            return None
        return body.decode("utf-8", "surrogateescape")
    word = text.lower()
    if word in _WORDS:
        return _WORDS[word]
    return _number(text)


def _number(text: bytes) -> Scalar | None:
    """Return the integer or real TEXT, or None.

    Octal, hexadecimal, unit letters and what does not fit are left to classad2.
    """
    sign, digits = (-1, text[1:]) if text[:1] == b"-" else (1, text)
    if digits[:1] == b"0" and digits[1:2].isdigit() or len(digits) > _REAL_CHARS_MAX:
        return None
    if digits.isdigit():
        value = int(digits)
        return sign * value if value <= INTEGER_MAX else None
    mantissa, e, exponent = digits.lower().partition(b"e")
    whole, dot, fraction = mantissa.partition(b".")
    if exponent[:1] in (b"+", b"-"):
        exponent = exponent[1:]
    if whole.isdigit() and (fraction.isdigit() or not dot) and (exponent.isdigit() or not e):
        return sign * float(digits)
    return None


class Ad:
    """One ad, of which single attributes are looked up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._lowered = data.lower()
        self._tree: Any = None

    def raw(self, name: str) -> bytes | None:
        """Return the text of attribute NAME, or None if the ad has none."""
        return find(self._data, self._lowered, name)

    def tree(self, classad2: Any) -> Any:
        """Return the whole ad as classad2.ClassAd."""
        if self._tree is None:
            self._tree = _parse_ad(classad2, self._data.decode("utf-8", "replace"))
        return self._tree


def _parse_ad(classad2: Any, text: str) -> Any:
    """Return TEXT as a ClassAd, without the lines that are no attribute.

    classad2 ends an ad silently at the first blank or malformed line.  A string attribute with a
    newline in it makes such lines: the attributes behind it must not get lost.
    """
    lines = [line for line in text.split("\n") if "=" in line and line.strip()[0] != "#"]
    names = {line.partition("=")[0].strip().lower() for line in lines}
    ad = _parse(classad2, "\n".join(lines))
    if ad is None or len(ad) != len(names):
        good = [line for line in lines if _parse(classad2, line) is not None]
        ad = _parse(classad2, "\n".join(good))
    return classad2.ClassAd() if ad is None else ad


def _parse(classad2: Any, text: str) -> Any:
    return classad2.parseNext(text, classad2.ParserType.Old)


class JobAds:
    """Job ad and machine ad of one job, and classad2 to evaluate with; each got when needed."""

    def __init__(self, job: bytes, machine: Callable[[], bytes], classad_dir: str) -> None:
        """MACHINE returns the machine ad (or raises AdError); CLASSAD_DIR may be ''."""
        self._job = Ad(job)
        self._read_machine = machine
        self._machine_ad: Ad | None = None
        self._classad_dir = classad_dir

    def has(self, name: str) -> bool:
        """Tell whether the job ad holds an attribute NAME, whatever its value."""
        return self._job.raw(name) is not None

    def job_value(self, name: str) -> Scalar | None:
        """Return the value of the job's attribute NAME (MY: job, TARGET: machine).

        None if it is not there or plainly undefined, which is the same to whoever wrote it.
        Raise ExpressionError if it is an expression that cannot be evaluated, AdError if it is
        one and the machine ad cannot be used.
        """
        raw = self._job.raw(name)
        if raw is None:
            return None
        value = literal(raw)
        if value is not None:
            return None if value is UNDEFINED else value
        return self._evaluate(raw.decode("utf-8", "replace"), self._job, self._machine())

    def expression_value(self, text: str) -> Scalar:
        """Return the value of the policy's expression TEXT (MY: machine, TARGET: job).

        Raises as job_value().
        """
        value = literal(text.encode("utf-8", "surrogateescape"))
        if value is not None:
            return value
        return self._evaluate(text, self._machine(), self._job)

    def _machine(self) -> Ad:
        if self._machine_ad is None:
            self._machine_ad = Ad(self._read_machine())
        return self._machine_ad

    def _evaluate(self, text: str, my: Ad, target: Ad) -> Scalar:
        classad2 = _import_classad2(self._classad_dir)
        # The old parser ignores what stands behind an expression ("2G" is 2): the parentheses
        # make it an error.
        holder = _parse(classad2, f"Value = ({text.strip()})")
        if holder is None or len(holder) != 1:
            raise ExpressionError("is no ClassAd expression")
        try:
            value = holder.lookup("Value").eval(my.tree(classad2), target.tree(classad2))
        except Exception as error:  # of what type, each release of classad2 says otherwise
            raise ExpressionError(f"cannot be evaluated ({error})") from None
        return _scalar(classad2, value)


def _scalar(classad2: Any, value: Any) -> Scalar:
    if isinstance(value, classad2.Value):  # an IntEnum: undefined == 2
        return ERROR if value == classad2.Value.Error else UNDEFINED
    if isinstance(value, (bool, int, float, str)):
        return value
    return Special(f"a {type(value).__name__}")


def _import_classad2(directory: str) -> Any:
    """Import classad2, from DIRECTORY if it is not on the path.  Raise ExpressionError."""
    if directory and directory not in sys.path:
        sys.path.append(directory)
    try:
        return __import__("classad2")  # which has no type hints
    except ImportError as error:
        raise ExpressionError(f"needs classad2, which cannot be imported ({error})") from None
