"""Tells the startd, for as long as it lives, whether this machine can isolate a job.

Runs as condor and reads only: the policy that is installed, the sources it was made from, the
helper's mode, the chroots, and the mark that the helper leaves when a job could not be isolated.
Imports little, because it stays in memory.
"""

from __future__ import annotations

import os
import sys
import time

from . import VERSION, messages, ownership, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODE = "setuid"
# condor_submit takes each job attribute that begins with Request for a request of a resource,
# named by the rest: RequestedChroot gives the requirement regexp(RequestedChroot,
# TARGET.edChroot), requested_chroot the same with TARGET.ed_chroot.  So that is what they find.
NAME_LISTS = ("NamedChroot", "edChroot", "ed_chroot")
LOOK_SECONDS = 0.5
CHECK_SECONDS = 10.0
REPEAT_SECONDS = 60.0
FAULT_SECONDS = 300.0
LINE_MAX = 1000
HELPER_MODE = 0o4755
ROOT = 0


class UnfitError(Exception):
    """This machine cannot isolate: one line, with a message id."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(messages.message(name, reason))


class Policy:
    """The installed policy; read again only when the file has changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.records: Sequence[Sequence[str]] = ()
        self._data: bytes | None = None

    def load(self) -> None:
        """Raise UnfitError if the policy is not what apply wrote, or is stale."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(records.POLICY_BYTES_MAX + 1)
        except OSError as error:
            raise UnfitError("NO_POLICY", f"{self.path}: {error.strerror}") from None
        writable = ownership.untrusted(self.path)
        if writable:
            raise UnfitError("UNTRUSTED_PATH", writable)
        if data != self._data:
            self.records = self._decode(data)
            self._data = data
        for record in self.all("source"):
            check_source(*record)

    def _decode(self, data: bytes) -> Sequence[Sequence[str]]:
        try:
            return records.decode("policy", data)
        except records.OtherVersionError as error:
            raise UnfitError("OTHER_VERSION", f"{self.path} {error}") from None
        except records.RecordError as error:
            raise UnfitError("BAD_POLICY", f"{self.path}: {error}") from None

    def all(self, key: str) -> Iterator[Sequence[str]]:
        """Yield the fields of each record of this key."""
        return (record[1:] for record in self.records if record[0] == key)

    def only(self, key: str) -> str:
        """Return the first field of the record of this key, '' if there is none."""
        return next((fields[0] for fields in self.all(key)), "")


def check_source(mtime_ns: str, size: str, path: str) -> None:
    """Raise UnfitError if the file is not what it was when the policy was compiled."""
    try:
        status = os.stat(path)
    except PermissionError:
        return  # the helper, which is root, looks again
    except OSError as error:
        raise UnfitError("STALE_POLICY", f"{path}: {error.strerror}") from None
    if (status.st_mtime_ns, status.st_size) != (int(mtime_ns), int(size)):
        raise UnfitError("STALE_POLICY", f"{path} has changed")


def check_helper(wrapper: str) -> None:
    """Raise UnfitError if the helper that WRAPPER names would not run as root."""
    try:
        with open(wrapper, "rb") as file:
            path = os.fsdecode(file.readline(4096)[2:].strip())
        status = os.stat(path)
        nosuid = os.statvfs(path).f_flag & os.ST_NOSUID
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        raise UnfitError("NOT_PRIVILEGED", reason) from None
    if status.st_uid != ROOT or status.st_mode & 0o7777 != HELPER_MODE:
        mode = f"mode {status.st_mode & 0o7777:04o}"
        raise UnfitError("NOT_PRIVILEGED", f"{path} belongs to uid {status.st_uid}, {mode}")
    if nosuid:
        raise UnfitError("NOT_PRIVILEGED", f"{path} is on a file system mounted nosuid")


def chroot_problem(path: str) -> str:
    """Return why the directory of a chroot cannot be used, '' if nothing is known."""
    try:
        status = os.lstat(path)
    except PermissionError:
        return ""
    except OSError as error:
        return f"{path}: {error.strerror}"
    if status.st_mode & 0o170000 != 0o040000:
        return f"{path} is no directory"
    return ownership.untrusted(path)


def usable_chroots(policy: Policy) -> tuple[list[str], str]:
    """Return the names of the chroots that jobs can get, and why not all, if so.

    Raise UnfitError if the one that every job gets is not among them.
    """
    names, comment = [], ""
    for name, path, _access in policy.all("root"):
        problem = chroot_problem(path)
        if not problem:
            names.append(name)
        elif policy.only("root-forced") == name:
            raise UnfitError("CHROOT", f"{name}: {problem}")
        else:
            comment = comment or messages.message("CHROOT", f"{name}: {problem}")
    return names, comment


def fault(mark: str, now: float) -> str:
    """Return what a job could not be isolated for, '' if nothing or long ago.

    While the mark is young no job comes; then one may try again, and leaves it if it fails.
    """
    try:
        if abs(now - os.stat(mark).st_mtime) >= FAULT_SECONDS:
            return ""
        with open(mark, encoding="ascii", errors="replace") as file:
            return file.readline(LINE_MAX).strip() or "a job could not be isolated"
    except OSError:
        return ""


def quoted(text: str) -> str:
    """Return TEXT as a string of an ad: in the old syntax only quotes are escaped."""
    clean = "".join(c if " " <= c <= "~" else "?" for c in text[:LINE_MAX])
    # A backslash at the end would escape the quote that ends the string.
    return '"' + clean.replace("\\", "/").replace('"', '\\"') + '"'


def make_ad(names: Sequence[str], able: bool, comment: str) -> str:
    """Return the attributes to publish."""
    lines = [
        f"HasIsolation = {'true' if able else 'false'}",
        f"IsolationVersion = {quoted(VERSION)}",
        f"IsolationMode = {quoted(MODE)}",
        f"IsolationRoots = {quoted(','.join(names))}",
    ]
    if able and names:
        lines += [f"{attribute} = {quoted(','.join(names))}" for attribute in NAME_LISTS]
    if comment:
        lines.append(f"IsolationComment = {quoted(comment)}")
    return "".join(f"{line}\n" for line in lines)


def examine(policy: Policy) -> str:
    """Return the ad of a machine on which no job has failed."""
    try:
        policy.load()
        check_helper(policy.only("wrapper"))
        if policy.only("enable") == "0":
            return make_ad([], False, "ISOLATION_ENABLE is False: jobs are not isolated")
        names, comment = usable_chroots(policy)
    except UnfitError as unfit:
        return make_ad([], False, str(unfit))
    return make_ad(names, True, comment)


def signature(path: str) -> str:
    """Return what changes whenever the file at PATH does."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_ino} {status.st_ctime_ns}"


def publish(ad: str) -> None:
    """Hand AD to the startd; the line at its end makes it take effect now."""
    sys.stdout.write(ad + "- update:true\n")
    sys.stdout.flush()


def main(policy_path: str, mark: str) -> None:
    """Publish an ad whenever the machine changes, until the startd is gone."""
    policy = Policy(policy_path)
    startd = os.getppid()
    checked = published = -REPEAT_SECONDS
    healthy = last = seen = ""
    while os.getppid() == startd:
        now = time.monotonic()
        if now - checked >= CHECK_SECONDS or seen != signature(policy_path):
            seen = signature(policy_path)
            healthy, checked = examine(policy), now
        reason = fault(mark, time.time())
        ad = make_ad([], False, reason) if reason else healthy
        if ad != last or now - published >= REPEAT_SECONDS:
            publish(ad)
            last, published = ad, now
        time.sleep(LOOK_SECONDS)
