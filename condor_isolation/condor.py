"""The only module that calls HTCondor's tools, always with an empty environment.

CONDOR_CONFIG and _CONDOR_<KNOB> would change what the tools say, and whoever runs us may have
them set: the daemons do not see them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from condor_isolation.settings import Knob

TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
TOOL_SECONDS = 60
Version = tuple[int, int, int]
NAMED_CHROOT_GONE: Version = (25, 5, 1)
HOOKS_KEEP_CGROUP: Version = (24, 8, 0)


class CondorError(Exception):
    """HTCondor's tools are missing or its configuration is broken: one line."""


@dataclass(frozen=True)
class Config:
    """The effective configuration and what it was read from.

    FILES are all files that were read or would be; COMMANDS are the sources that are no file.
    """

    version: Version
    knobs: dict[str, Knob]
    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def native_chroot(self) -> bool:
        """Tell whether this HTCondor reads NAMED_CHROOT itself."""
        return self.version < NAMED_CHROOT_GONE

    def value(self, name: str) -> str:
        """Return the value of the knob NAME with macros expanded, '' if it is unset."""
        knob = self.knobs.get(name)
        return knob.value.strip() if knob else ""

    def flag(self, name: str) -> bool | None:
        """Return a boolean knob, None if it is unset or an expression."""
        return {"true": True, "false": False}.get(self.value(name).lower())

    def words(self, name: str) -> tuple[str, ...]:
        """Return the entries of a knob that is a list."""
        return tuple(word for word in re.split(r"[,\s]+", self.value(name)) if word)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of HTCondor's tools.  Raise CondorError if there is none of this name."""
    path = shutil.which(command[0], path=TOOL_PATH)
    if path is None:
        raise CondorError(f"{command[0]} not found in {TOOL_PATH}: is HTCondor installed?")
    try:
        return subprocess.run(
            [path, *command[1:]],
            env={"PATH": TOOL_PATH, "LC_ALL": "C"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=TOOL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CondorError(f"{command[0]}: {error}") from None


def output(*command: str) -> str:
    """Return what a tool prints.  Raise CondorError, with its own words, if it fails."""
    done = run(*command)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise CondorError(f"{command[0]} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout


def parse_version(text: str) -> Version:
    """Return the version in ``$CondorVersion: 25.14.1 ...``.  Raise CondorError if none is."""
    found = re.search(r"CondorVersion: (\d+)\.(\d+)\.(\d+)", text)
    if found is None:
        raise CondorError(f"no version in {text.strip()[:80]!r}")
    return int(found[1]), int(found[2]), int(found[3])


def _place(text: str) -> str:
    """Return ``file:line`` for ``file, line 12``; ``default`` for ``<Default>``."""
    found = re.fullmatch(r"(.*), line (\d+)", text)
    if found:
        return f"{found[1]}:{found[2]}"
    return "default" if text == "<Default>" else text


def parse_dump(text: str) -> Iterator[Knob]:
    """Yield the knobs of ``condor_config_val -dump -verbose``.

    Each is ``NAME = raw`` (or ``NAME @=tag``, lines, ``@tag``), then lines that begin with
    `` # at: ``, `` # expanded: `` and perhaps `` # default: ``.
    """
    lines = iter(text.split("\n"))
    name, place, value = "", "", []  # type: str, str, list[str]
    inside = ""
    expanding = False
    for line in lines:
        if inside:
            inside = "" if line == inside else inside
        elif line.startswith(" # at: "):
            place = _place(line[7:])
        elif line.startswith(" # expanded:"):
            expanding, value = True, [line[12:].strip()]
        elif line.startswith(" # default:"):
            expanding = False
        elif line.startswith(" #"):
            if expanding:
                value.append(line[2:].strip())
        else:
            if name:
                yield Knob(name, "\n".join(value).strip(), place)
            found = re.match(r"([^\s#=]+) (?:= |=$|@=(\S+)$)", line)
            name, place, value, expanding = (found[1] if found else ""), "", [], False
            inside = f"@{found[2]}" if found and found[2] else ""
    if name:
        yield Knob(name, "\n".join(value).strip(), place)


def effective(knobs: Iterable[Knob]) -> dict[str, Knob]:
    """Return KNOBS by name in capitals, as condor_starter sees them: STARTER.X goes before X."""
    by_name = {knob.name.upper(): knob for knob in knobs}
    for name, knob in list(by_name.items()):
        if name.startswith("STARTER."):
            by_name[name[len("STARTER.") :]] = knob
    return by_name


def parse_sources(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files and the commands that ``condor_config_val -config`` lists."""
    sources = [line.strip() for line in text.split("\n") if line.startswith("\t")]
    files = tuple(dict.fromkeys(s for s in sources if s.startswith("/") and not s.endswith("|")))
    return files, tuple(dict.fromkeys(s for s in sources if s not in files))


def read_config() -> Config:
    """Return the effective configuration of this machine.  Raise CondorError if it is broken."""
    version = parse_version(output("condor_config_val", "-version"))
    files, commands = parse_sources(output("condor_config_val", "-config"))
    dump = output("condor_config_val", "-subsystem", "STARTER", "-dump", "-verbose")
    config = Config(version, effective(parse_dump(dump)), files, (), commands)
    return Config(version, config.knobs, files, config.words("LOCAL_CONFIG_DIR"), commands)


def master_pid(config: Config) -> int | None:
    """Return the process id of the running condor_master, None if there is none."""
    master = os.path.realpath(config.value("MASTER") or "/usr/sbin/condor_master")
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/exe") == master:
                    return int(entry)
            except OSError:
                continue
    return None


def reconfig() -> None:
    """Tell the running HTCondor to read its configuration again."""
    output("condor_reconfig")


def expression_problem(text: str) -> str:
    """Return what is wrong with the ClassAd expression TEXT, '' if nothing is known to be."""
    if shutil.which("classad_eval", path=TOOL_PATH) is None:
        return ""
    done = run("classad_eval", f"({text})")
    return "" if done.returncode == 0 else "is no ClassAd expression"
