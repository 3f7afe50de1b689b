"""Measures what a job's start costs: our whole chain, parts of it, and the peers, in one run.

Runs as root inside a node of docker/node (`make bench` does all that is needed).  Every round
starts each case once, in random order, so that whatever else the machine does falls on all of
them; medians, quartiles and ratios round by round are told, never a single time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import peers
import place
import report
from driver import BenchError, Sample, Start
from peers import Case
from place import Place

PROGRAMS = place.SOURCE / "build/bench"
WARM_UP = 3
PAUSE = 0.003  # between two starts: the kernel takes namespaces down behind the last one's back
NAMESPACES = ("pid", "mnt", "ipc", "uts", "cgroup")


def measure_once(site: Place, case: Case) -> Sample:
    """Start CASE once."""
    site.reset(case.policy, case.asked, case.private)
    time.sleep(PAUSE)
    try:
        return site.driver.run(case.start)
    except BenchError as error:
        raise BenchError(f"{case.name}: {error} {site.refusal()}") from None


def measure(site: Place, cases: Sequence[Case], rounds: int) -> dict[str, list[Sample]]:
    """Return ROUNDS samples of each case."""
    samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
    order = list(cases)
    shuffle = random.Random(1).shuffle
    for number in range(-WARM_UP, rounds):
        shuffle(order)
        for case in order:
            sample = measure_once(site, case)
            if number >= 0:
                samples[case.name].append(sample)
    return samples


def look(site: Place, case: Case) -> str:
    """Return what a job of CASE sees: own namespaces, number of mounts, uid."""
    if not case.start.has_job or case.start.command == [str(site.job)]:
        return ""
    seen_file = site.scratch / "seen"
    command = [str(site.look) if w == str(site.job) else w for w in case.start.command]
    command.append(str(seen_file))
    measure_once(site, dataclasses.replace(case, start=Start(command, case.uid, has_job=False)))
    seen = place.look_at(seen_file)
    seen_file.unlink()
    own = [n for n in NAMESPACES if seen[n] != [str(Path(f"/proc/self/ns/{n}").stat().st_ino)]]
    return f"{' '.join(own)}, {len(seen['mount'])} mounts, uid {seen['uid'][0]}"


def startable(site: Place, cases: Sequence[Case]) -> tuple[list[Case], dict[str, str]]:
    """Return the cases that run here, and a note on each: what its job sees, or why it fails.

    Ours and what they are compared with must run.
    """
    good, notes = [], {}
    for case in cases:
        try:
            notes[case.name] = look(site, case)
            measure_once(site, case)
            good.append(case)
        except BenchError as error:
            if case.name != "apptainer":
                raise
            notes[case.name] = f"failed: {error}"
    return good, notes


# Growth

Series = dict[int, dict[str, list[Sample]]]  # count -> name of the case -> samples


def series(site: Place, points: dict[int, list[Case]], rounds: int) -> Series:
    """Measure all cases of all POINTS in turn."""
    named = {
        f"{count} {case.name}": dataclasses.replace(case, name=f"{count} {case.name}")
        for count, cases in points.items()
        for case in cases
    }
    samples = measure(site, list(named.values()), rounds)
    return {
        count: {case.name: samples[f"{count} {case.name}"] for case in cases}
        for count, cases in points.items()
    }


def series_binds(site: Place, rounds: int) -> Series:
    points = {
        count: [
            peers.helper(site, "helper", binds=count),
            peers.bubblewrap(site, "bubblewrap", binds=count),
        ]
        for count in (1, 16, 64, place.BINDS_MAX)
    }
    return series(site, points, rounds)


def series_roots(site: Place, rounds: int) -> Series:
    """The last of the chroots is the one that the job gets."""
    points = {
        count: [
            peers.helper(site, "helper", roots=count),
            peers.chain(site, "chain", roots=count),
        ]
        for count in (1, 100, 1000)
    }
    return series(site, points, rounds)


def series_mounts(site: Place, rounds: int) -> Series:
    """Further mounts on the machine, of which the job with a chroot sees none."""
    cases = [
        peers.helper(site, "helper"),
        peers.bubblewrap(site, "bubblewrap"),
        peers.helper(site, "helper, no chroot", chroot=False),
        peers.bubblewrap(site, "bubblewrap, no chroot", chroot=False),
        peers.unshare(site),
    ]
    found = {}
    for count in (0, 500, 2000):
        with place.many_mounts(count):
            found[count] = measure(site, cases, rounds)
    return found


def growth_table(title: str, found: Series) -> str:
    """Return the medians of a series, and what one more costs.

    The steps are those of the lower quartiles, which other work on the machine disturbs least.
    """
    names = list(next(iter(found.values())))
    ends = {
        count: {name: report.summary([s.end for s in samples[name]]) for name in names}
        for count, samples in found.items()
    }
    rows = [[f"{title}, ms", *names]]
    for count, by_name in ends.items():
        rows.append([str(count), *(by_name[name].shown() for name in names)])
    counts = sorted(found)
    for one, other in [*zip(counts, counts[1:]), (counts[0], counts[-1])]:
        steps = [(ends[other][n].lower - ends[one][n].lower) / (other - one) for n in names]
        rows.append([f"us each, {one} to {other}", *(f"{step / 1000:.2f}" for step in steps)])
    return report.table(rows)


def growth_json(found: Series) -> dict[str, object]:
    return {str(count): report.as_json(samples)["cases"] for count, samples in found.items()}


# Command line


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="start.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--growth-rounds", type=int, default=31)
    parser.add_argument("--no-growth", action="store_true")
    parser.add_argument("--only", help="comma separated names of cases")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> int:
    """Measure; return the exit status, which does not depend on what was found."""
    args = arguments()
    if not place.in_node():
        print("start.py: run `make bench`, this changes the machine it runs on", file=sys.stderr)
        return 2
    site = Place(PROGRAMS)
    facts = place.facts()
    print(json.dumps(facts, indent=2))
    cases, missing = peers.all_cases(site)
    if args.only:
        cases = [case for case in cases if case.name in args.only.split(",")]
    cases, notes = startable(site, cases)
    samples = measure(site, cases, args.rounds)
    print(f"\n{args.rounds} interleaved rounds\n")
    print(report.starts_table(samples, notes))
    for name in missing:
        print(f"{name}: not installed")
    for name, note in notes.items():
        if note.startswith("failed"):
            print(f"{name}: {note}")
    print("\n" + report.ratios_table(samples))
    result = {"facts": facts, "missing": missing, "notes": notes, **report.as_json(samples)}
    if not args.no_growth:
        growth = {
            "binds": series_binds(site, args.growth_rounds),
            "named chroots": series_roots(site, args.growth_rounds),
            "host mounts": series_mounts(site, args.growth_rounds),
        }
        for title, found in growth.items():
            print("\n" + growth_table(title, found))
        result["growth"] = {title: growth_json(found) for title, found in growth.items()}
    site.close()
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as bench_error:
        print(f"start.py: {bench_error}", file=sys.stderr)
        sys.exit(1)
