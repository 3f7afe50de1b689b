"""Inside a node: installs the package and runs jobs, for the demo and for the tests.

Everything goes through the commands that an administrator or a submitter would type.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
SITE = Path("/etc/condor/config.d/51-isolation-site.conf")
# What a job without these would be given is more than a node has for four jobs at once.
REQUESTS = {"request_memory": "128MB", "request_disk": "10MB"}


class JobError(RuntimeError):
    """A job did not get where it was expected in time: what happened to it instead."""


def run(*command: str, check: bool = True, **options: object) -> str:
    """Return the output of COMMAND.  Raise JobError with all it said if it fails."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if check and done.returncode != 0:
        raise JobError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}")
    return str(done.stdout)


def as_user(user: str, *command: str, cwd: Path, check: bool = True) -> str:
    """Return the output of COMMAND as USER in directory CWD."""
    line = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"]
    env = {"HOME": f"/home/{user}", "USER": user, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    return run(*line, *command, cwd=cwd, env=env, check=check)


def install() -> None:
    """Install the package from the checkout into this node, as an administrator would."""
    run("make", "-C", str(SOURCE), "install")


def configure(text: str, path: Path = SITE) -> str:
    """Write TEXT as the site's fragment, compile the policy, return what apply said."""
    path.write_text(text)
    return run("condor_isolation", "apply")


@dataclass(frozen=True)
class Job:
    """A submitted job and the directory it was submitted from."""

    cluster: int
    user: str
    directory: Path

    @property
    def log(self) -> str:
        """The text of its event log."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def output(self) -> str:
        """What it wrote to its standard output."""
        return (self.directory / "out").read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What it wrote to its standard error."""
        return (self.directory / "err").read_text(errors="replace")

    def ad(self) -> Mapping[str, object]:
        """Return its job ad, from the queue or from the history."""
        for command in ("condor_q", "condor_history"):
            text = run(command, str(self.cluster), "-json", check=False).strip()
            if text.startswith("["):
                ads = json.loads(text)
                if ads:
                    return dict(ads[0])
        return {}

    def wait(self, event: str, seconds: float = 60) -> str:
        """Return the log once it holds EVENT ("005", an event number).  Raise JobError."""
        wanted = f"\n{event} ("
        return self.until(lambda: wanted in "\n" + self.log, f"event {event}", seconds)

    def until(self, done: Callable[[], bool], what: str, seconds: float = 60) -> str:
        """Return the log once DONE() holds.  Raise JobError after SECONDS."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if done():
                return self.log
            time.sleep(0.1)
        analysis = run("condor_q", "-better-analyze", str(self.cluster), check=False)
        raise JobError(f"job {self.cluster}: no {what} in {seconds} s\n{self.log}\n{analysis}")

    def remove(self) -> None:
        """Take it out of the queue."""
        run("condor_rm", str(self.cluster), check=False)


@dataclass
class Submitter:
    """Submits jobs of one user, each from a fresh directory."""

    user: str = "alice"
    base: Path = Path("/home")
    count: int = field(default=0, init=False)

    def submit(
        self, script: str, commands: Sequence[str] = (), files: Mapping[str, str] | None = None
    ) -> Job:
        """Submit SCRIPT with more submit COMMANDS ("name = value"); FILES lie beside it."""
        self.count += 1
        directory = self.base / self.user / f"job-{os.getpid()}-{self.count}"
        directory.mkdir()
        (directory / "job.sh").write_text(script)
        (directory / "job.sh").chmod(0o755)
        for name, content in (files or {}).items():
            (directory / name).write_text(content)
        settings = {
            "executable": "job.sh",
            "output": "out",
            "error": "err",
            "log": "log",
            "should_transfer_files": "YES",
            **REQUESTS,
        }
        lines = [f"{key} = {value}" for key, value in settings.items()]
        (directory / "job.sub").write_text("\n".join([*lines, *commands, "queue", ""]))
        for path in (directory, *directory.iterdir()):
            shutil.chown(path, self.user, self.user)
        said = as_user(self.user, "condor_submit", "-terse", "job.sub", cwd=directory)
        return Job(int(said.split(".")[0]), self.user, directory)

    def run(
        self, script: str, commands: Sequence[str] = (), files: Mapping[str, str] | None = None
    ) -> Job:
        """Submit as submit() does and wait until the job has ended."""
        job = self.submit(script, commands, files)
        job.wait("005")
        return job
