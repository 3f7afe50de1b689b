"""Talks to spawn.c, the stand-in for condor_starter, and turns its answers into samples."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ALICE = 1000
# What else HTCondor puts into a job's environment is in place.Place.environment.
BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


class BenchError(RuntimeError):
    """What was to be measured did not run: what it said."""


@dataclass(frozen=True)
class Sample:
    """One start, in nanoseconds from execve()."""

    first: int  # the job's first instruction; 0 if there is no job
    end: int  # waitpid() has returned
    cpu: int  # of all processes of it, user and system


@dataclass(frozen=True)
class Start:
    """What is started, and as whom."""

    command: Sequence[str]
    uid: int = ALICE
    input: str = "/dev/null"
    has_job: bool = True


class Driver:
    """One stand-in starter: everything that it starts has it as its parent."""

    def __init__(self, program: Path) -> None:
        self.program = program
        # A pipe: the helper does not pass on a file that the job cannot see.
        self._errors, errors = os.pipe()
        os.set_blocking(self._errors, False)
        self._process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=BASE_ENVIRONMENT,
            cwd="/",
            text=True,
        )
        os.close(errors)
        self.pid = self._process.pid

    def say(self, *fields: str) -> None:
        """Send one request that has no answer."""
        assert self._process.stdin is not None
        assert not any(set(field) & {"\t", "\n"} for field in fields)
        self._process.stdin.write("\t".join(fields) + "\n")

    def prepare(
        self, environment: Mapping[str, str], directory: Path, cgroups: Sequence[Path]
    ) -> None:
        """Say what is the same for all that is started."""
        for name, value in environment.items():
            self.say("set", f"{name}={value}")
        self.say("directory", str(directory))
        self.say("enter", *map(str, cgroups))

    def run(self, start: Start) -> Sample:
        """Start, wait for the end.  Raise BenchError if it failed or the job did not run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._said()
        self.say("user", str(start.uid), str(start.uid))
        self.say("groups", *([str(start.uid), "100"] if start.uid else ["0"]))
        self.say("input", start.input)
        self.say("run", *start.command)
        self._process.stdin.flush()
        words = self._process.stdout.readline().split()
        if len(words) != 4 or int(words[3]) != 0 or (start.has_job and words[0] == "0"):
            raise BenchError(f"{' '.join(start.command[:4])}: {words} {self._said()}")
        first = int(words[0]) if start.has_job else 0
        return Sample(first, int(words[1]), int(words[2]) * 1000)

    def _said(self) -> str:
        """Return what came on standard error since the last call."""
        try:
            return os.read(self._errors, 1 << 16).decode(errors="replace").strip()[-1000:]
        except BlockingIOError:
            return ""

    def close(self) -> None:
        """End the stand-in."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        os.close(self._errors)
