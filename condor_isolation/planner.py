"""The pure planner: compiled policy, job ad and machine ad in, the records of a plan out.

The plan may only tighten, and the helper checks it again; what the planner refuses is the job's
fault and comes with what was asked, what is offered and what to type.  This module is on the
per-job path: it imports no more than ``posix`` and our own modules.
"""

from __future__ import annotations

import posix

from . import ads, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TEXT_BYTES_MAX = 1000  # of a refusal
OFFERED_BYTES_MAX = 400
ASKED_CHARS_MAX = 80

# limit -> (policy units in one unit of knob and attribute, that unit, least value in policy
# units).  Less than the least would stop the job at once, or the kernel refuses it: cpu.max
# grants at least 1 ms of a period of 100 ms.
UNITS = {
    "memory-max": (1 << 20, "MiB", 1 << 20),
    "memory-high": (1 << 20, "MiB", 1 << 20),
    "memory-low": (1 << 20, "MiB", 0),
    "swap-max": (1 << 20, "MiB", 0),
    "pids-max": (1, "processes", 8),
    "cpu-max": (1000, "cores", 10),
    "cpu-weight": (1, "", 1),
}
CPU_WEIGHT_MAX = 10000


class Refusal(Exception):
    """The job must not start: C name of the message and the reason."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason


class Policy:
    """The compiled policy, as bytes: with a thousand chroots, taking it apart would cost more
    than all else, and a job needs a handful of records."""

    def __init__(self, data: bytes) -> None:
        """Raise RecordError if DATA has not the first and last line of a policy.

        The fields are not checked: the file is root's, and the helper has checked it.
        """
        first = f"{records.MAGIC} policy {records.FORMAT_VERSION}\n".encode()
        if not data.startswith(first):
            raise records.RecordError(f"first line is not {first.decode().strip()!r}")
        self._data = data
        self._end = data.rfind(b"\nend ", 0, len(data) - 1)
        if self._end < 0 or data.find(b"\n", self._end + 1) != len(data) - 1:
            raise records.RecordError("no end line: truncated")

    def rows(self, start: str) -> Iterator[list[str]]:
        """Yield the fields behind START of every record that starts with these words."""
        key = f"\n{start} ".encode()
        at = self._data.find(key, 0, self._end)
        while at >= 0:
            end = self._data.find(b"\n", at + len(key))
            line = self._data[at + len(key) : end].decode("ascii")
            yield [records.unquote(field) for field in line.split(" ")]
            at = self._data.find(key, end, self._end)

    def only(self, start: str) -> str:
        """Return the first field behind START, or '' if no record starts with it."""
        for row in self.rows(start):
            return row[0]
        return ""


def make_plan(
    policy: Policy, job_ads: ads.JobAds, uid: int, gids: Sequence[int]
) -> list[list[str]]:
    """Return the records of the plan for a job of this user.  Raise Refusal or ads.AdError."""
    plan = []
    root = choose_root(policy, job_ads, uid, gids)
    if root:
        plan.append(["root", root])
    for limit in records.LIMIT_WORDS:
        value = choose_limit(policy, job_ads, limit)
        if value is not None:
            plan.append(["limit", limit, str(value)])
    return plan


def refusal_record(refusal: Refusal) -> list[str]:
    """Return the plan's record that tells user and administrator of REFUSAL."""
    from .messages import BY_NAME, message  # a job that starts needs no messages

    ident, _name, fault, _meaning, remedy = BY_NAME[refusal.name]
    room = TEXT_BYTES_MAX - len(ident) - len(remedy) - 4
    reason = printable(refusal.reason, room)
    return ["refuse", "job" if fault == "job" else "machine", ident, message(refusal.name, reason)]


def printable(text: str, most: int) -> str:
    """Return TEXT as printable ASCII of at most MOST characters."""
    clean = "".join(c if " " <= c <= "~" else "?" for c in text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 3] + "..."


def quoted(text: str) -> str:
    """Return what a job asked for, fit for a message."""
    return f'"{printable(text, ASKED_CHARS_MAX)}"'


# Chroot


def choose_root(policy: Policy, job_ads: ads.JobAds, uid: int, gids: Sequence[int]) -> str:
    """Return the name of the job's chroot, '' for none.  Raise Refusal."""
    asked = asked_root(policy, job_ads)
    forced = policy.only("root-forced")
    if forced and asked not in ("", forced):
        raise Refusal("UNKNOWN_CHROOT", _unknown_root(asked, [forced]))
    root = asked or forced
    if not root:
        return ""
    if not records.name_is_good(root) or not policy.only(f"root {root}"):
        raise Refusal("UNKNOWN_CHROOT", _unknown_root(asked, _offered(policy, uid, gids)))
    if not may_use(policy, root, uid, gids):
        others = _offered(policy, uid, gids)
        offer = f"; offered to this user: {_listed(others)}" if others else ""
        raise Refusal("CHROOT_DENIED", f"uid {uid} may not use chroot {quoted(root)}{offer}")
    return root


def asked_root(policy: Policy, job_ads: ads.JobAds) -> str:
    """Return the chroot name that policy and job ad ask for, '' for none.  Raise Refusal."""
    text = policy.only("expr chroot")
    try:
        value = job_ads.expression_value(text) if text else job_ads.job_value("RequestedChroot")
    except ads.ExpressionError as error:
        raise _bad_value("RequestedChroot", "chroot" if text else "", str(error)) from None
    if value is None or value is ads.UNDEFINED:
        return ""
    if not isinstance(value, str):
        reason = f"is {_shown(value)}, not a string"
        raise _bad_value("RequestedChroot", "chroot" if text else "", reason)
    return value


def may_use(policy: Policy, root: str, uid: int, gids: Sequence[int]) -> bool:
    """Tell whether the access list of ROOT admits this user; no list admits everyone."""
    users = [row[0] for row in policy.rows(f"root-user {root}")]
    groups = [row[0] for row in policy.rows(f"root-group {root}")]
    if not users and not groups:
        return True
    return str(uid) in users or any(str(gid) in groups for gid in gids)


def _offered(policy: Policy, uid: int, gids: Sequence[int]) -> list[str]:
    """Return the chroots that this user may use; one pass, for there may be thousands."""
    listed, admitted = set(), set()
    for key, own in (("root-user", [str(uid)]), ("root-group", [str(gid) for gid in gids])):
        for root, ident in policy.rows(key):
            listed.add(root)
            if ident in own:
                admitted.add(root)
    roots = [row[0] for row in policy.rows("root")]
    return [root for root in roots if root in admitted or root not in listed]


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= OFFERED_BYTES_MAX else text[:OFFERED_BYTES_MAX] + "..."


def _unknown_root(asked: str, names: Sequence[str]) -> str:
    reason = f"the job asks for chroot {quoted(asked)}, "
    if not names:
        return reason + "this machine offers none to this user: leave RequestedChroot out"
    return reason + f'this machine offers {_listed(names)}: type +RequestedChroot = "{names[0]}"'


# Limits


def attribute_of(limit: str) -> str:
    """Return the job attribute of LIMIT: IsolationMemoryHigh for memory-high."""
    return "Isolation" + "".join(part.capitalize() for part in limit.split("-"))


def knob_of(word: str) -> str:
    """Return the knob of an expression record: ISOLATION_MEMORY_HIGH for memory-high."""
    return "ISOLATION_" + word.upper().replace("-", "_")


def choose_limit(policy: Policy, job_ads: ads.JobAds, limit: str) -> int | None:
    """Return the job's LIMIT in policy units, None to leave it to the policy.  Raise Refusal."""
    asked = asked_limit(job_ads, limit)
    computed = computed_limit(policy, job_ads, limit)
    values = [value for value in (asked, computed) if value is not None]
    if not values:
        return None
    text = policy.only(f"limit {limit}")
    ceiling = int(text) if text else ads.INTEGER_MAX
    if limit == "memory-low" and not text and computed is None:
        ceiling = 0  # protection is given, never taken
    if asked is not None and asked > ceiling:
        raise Refusal(
            "LIMIT",
            f"the job asks for {attribute_of(limit)} = {_amount(limit, asked)}, "
            f"the ceiling here is {_amount(limit, ceiling)}",
        )
    return min(values) if min(values) < ceiling else None


def asked_limit(job_ads: ads.JobAds, limit: str) -> int | None:
    """Return what the job's own attribute asks for, in policy units.  Raise Refusal."""
    name = attribute_of(limit)
    try:
        value = job_ads.job_value(name)
        return None if value is None else _in_policy_units(limit, value)
    except ads.ExpressionError as error:
        raise _bad_value(name, "", str(error)) from None


def computed_limit(policy: Policy, job_ads: ads.JobAds, limit: str) -> int | None:
    """Return the least value of the policy's expressions for LIMIT.  Raise Refusal."""
    values = []
    for row in policy.rows(f"expr {limit}"):
        try:
            values.append(_in_policy_units(limit, job_ads.expression_value(row[0])))
        except ads.ExpressionError as error:
            raise _bad_value("", limit, str(error)) from None
    return min(values) if values else None


def _in_policy_units(limit: str, value: ads.Scalar) -> int:
    """Return VALUE, as knobs and attributes give it, as the kernel's.  Raise ExpressionError."""
    scale, unit, least = UNITS[limit]
    if isinstance(value, (bool, str, ads.Special)):
        raise ads.ExpressionError(f"is {_shown(value)}, not a number")
    most = CPU_WEIGHT_MAX if limit == "cpu-weight" else ads.INTEGER_MAX
    if not least <= value * scale <= most:  # also false for NaN
        low = f"{least / scale:g}"
        raise ads.ExpressionError(f"is {value}, not {low} {unit} to {most // scale} {unit}")
    return int(value * scale)


def _amount(limit: str, value: int) -> str:
    """Return VALUE, which is in policy units, as the user would write it."""
    scale, unit, _least = UNITS[limit]
    number = str(value // scale) if value % scale == 0 else f"{value / scale:.3f}"
    return f"{number} {unit}".strip()


def _shown(value: ads.Scalar) -> str:
    if isinstance(value, str):
        return f"the string {quoted(value)}"
    return repr(value).lower() if isinstance(value, bool) else printable(repr(value), 40)


def _bad_value(attribute: str, word: str, reason: str) -> Refusal:
    """Return the refusal for a value; WORD names the expression that gave it, if one did."""
    if word:
        return Refusal("EXPRESSION", f"{knob_of(word)} {reason}")
    return Refusal("ATTRIBUTE", f"{attribute} {reason}")


# Edge


def plan_or_refusal(
    policy: Policy, job_ads: ads.JobAds, uid: int, gids: Sequence[int]
) -> list[list[str]]:
    """Return the records of the plan; a plan that refuses is one refuse record."""
    try:
        return make_plan(policy, job_ads, uid, gids)
    except ads.AdError as error:
        return [refusal_record(Refusal("AD", str(error)))]
    except Refusal as refusal:
        return [refusal_record(refusal)]


def machine_ad() -> bytes:
    """Return the machine ad in the current directory.  Raise ads.AdError."""
    return ads.read_ad(".machine.ad")


def own_gids() -> list[int]:
    """Return every group of this process."""
    return [posix.getgid(), *posix.getgroups()]


def main() -> int:
    """Read the policy from standard input and the ads from here, write the plan; exit status 0.

    What goes wrong on the machine's side is an exception: the helper quotes its last line.
    """
    policy = Policy(ads.read_all(0, records.POLICY_BYTES_MAX + 1))
    try:
        job = ads.read_ad(".job.ad")
    except ads.AdError as error:
        plan = [refusal_record(Refusal("AD", str(error)))]
    else:
        job_ads = ads.JobAds(job, machine_ad, policy.only("classad-path"))
        plan = plan_or_refusal(policy, job_ads, posix.getuid(), own_gids())
    data = records.encode("plan", plan)
    while data:
        data = data[posix.write(1, data) :]
    return 0
