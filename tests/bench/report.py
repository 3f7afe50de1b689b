"""Medians, quartiles, ratios, and the tables that show them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from driver import Sample

MS = 1_000_000


@dataclass(frozen=True)
class Summary:
    """The distribution of one quantity."""

    median: float
    lower: float  # first quartile
    upper: float  # third quartile
    least: float
    count: int

    def shown(self, unit: float = MS, digits: int = 2) -> str:
        """Return "median (lower-upper)"."""
        median, lower, upper = (
            f"{v / unit:.{digits}f}" for v in (self.median, self.lower, self.upper)
        )
        return f"{median} ({lower}-{upper})"


def summary(values: Sequence[float]) -> Summary:
    """Return the distribution of VALUES, two at least."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(median, lower, upper, min(values), len(values))


def started(sample: Sample) -> int:
    """Return when the job's first instruction ran; for what has no job, when it had ended."""
    return sample.first or sample.end


def ended(sample: Sample) -> int:
    return sample.end


def busy(sample: Sample) -> int:
    return sample.cpu


def ratio(
    one: Sequence[Sample], other: Sequence[Sample], quantity: Callable[[Sample], int]
) -> Summary:
    """Return the distribution of ONE to OTHER, round by round: drift of the machine cancels out."""
    return summary([quantity(a) / quantity(b) for a, b in zip(one, other)])


@dataclass(frozen=True)
class Target:
    """A bound of design.md, section 6: what is compared by what, and how it should come out."""

    what: str
    one: str
    other: str
    quantity: Callable[[Sample], int]
    bound: float
    aims: tuple[float, ...] = ()
    at_least: bool = False

    def verdict(self, value: float) -> str:
        """Say which of bound and aims VALUE meets."""
        word = "at least" if self.at_least else "at most"
        met = [
            limit
            for limit in (self.bound, *self.aims)
            if (value >= limit if self.at_least else value <= limit)
        ]
        if not met:
            return f"MISSED ({word} {self.bound:g})"
        missed = [f"{aim:g}" for aim in self.aims if aim not in met]
        return f"met ({word} {met[-1]:g})" + (f", aim {missed[0]}" if missed else "")


TARGETS = (
    Target("chain / bare Python", "chain", "python3 -I -S -c pass", started, 2.0, (1.5, 1.25)),
    Target(
        "helper / bubblewrap, job started", "helper", "bubblewrap, as root", started, 0.8, (0.6,)
    ),
    Target("helper / bubblewrap, all ended", "helper", "bubblewrap, as root", ended, 0.8, (0.6,)),
    Target("apptainer / chain", "apptainer", "chain", started, 5.0, (), True),
)
# Of interest, but bound by nothing.
COMPARISONS = (
    ("chain / bare Python, CPU time", "chain", "python3 -I -S -c pass", busy),
    ("chain, no chroot / bare Python", "chain, no chroot", "python3 -I -S -c pass", started),
    ("planner alone / bare Python", "planner alone", "python3 -I -S -c pass", started),
    ("chain with an expression / chain", "chain, expression in the ad", "chain", started),
    ("helper / bubblewrap, CPU time", "helper", "bubblewrap, as root", busy),
    ("helper / bubblewrap as user", "helper", "bubblewrap, as user", started),
    (
        "helper / bubblewrap, no chroot",
        "helper, no chroot",
        "bubblewrap, as root, no chroot",
        started,
    ),
)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return ROWS, the first of which is the heading, as columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def starts_table(samples: dict[str, list[Sample]], notes: dict[str, str]) -> str:
    """Return the table of all cases."""
    rows = [["ms: median (quartiles)", "job's first instruction", "all ended", "CPU", "job sees"]]
    for name, taken in samples.items():
        first = summary([s.first for s in taken])
        rows.append(
            [
                name,
                first.shown() if first.least else "-",
                summary([s.end for s in taken]).shown(),
                summary([s.cpu for s in taken]).shown(),
                notes.get(name, ""),
            ]
        )
    return table(rows)


def ratios_table(samples: dict[str, list[Sample]]) -> str:
    """Return the table of targets and comparisons; those that were not measured are left out."""
    rows = [["ratio: median (quartiles)", "measured", "target"]]
    for target in TARGETS:
        if {target.one, target.other} <= samples.keys():
            found = ratio(samples[target.one], samples[target.other], target.quantity)
            rows.append([target.what, found.shown(1), target.verdict(found.median)])
    for what, one, other, quantity in COMPARISONS:
        if {one, other} <= samples.keys():
            rows.append([what, ratio(samples[one], samples[other], quantity).shown(1), ""])
    return table(rows)


def as_json(samples: dict[str, list[Sample]]) -> dict[str, object]:
    """Return summaries and ratios, in nanoseconds."""
    cases = {
        name: {
            "first": asdict(summary([s.first for s in taken])),
            "end": asdict(summary([s.end for s in taken])),
            "cpu": asdict(summary([s.cpu for s in taken])),
        }
        for name, taken in samples.items()
    }
    ratios = {}
    for target in TARGETS:
        if {target.one, target.other} <= samples.keys():
            found = ratio(samples[target.one], samples[target.other], target.quantity)
            ratios[target.what] = {
                **asdict(found),
                "bound": target.bound,
                "aims": target.aims,
                "verdict": target.verdict(found.median),
            }
    return {"cases": cases, "ratios": ratios}
