"""The command condor_isolation: prints what the other modules find, decides nothing."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

import click

from condor_isolation import VERSION, apply, check, machine, reader, settings, values
from condor_isolation.condor import CondorError, Config
from condor_isolation.problems import DEFAULT_PLACE, SEVERITIES, Problem, errors

PROBLEMS_FOUND = 1
USAGE = 2
NAME = "condor_isolation"


def _fail(text: str) -> NoReturn:
    click.echo(f"{NAME}: {' '.join(text.split())}", err=True)
    sys.exit(PROBLEMS_FOUND)


def _examine() -> apply.Result:
    try:
        return apply.examine()
    except CondorError as error:
        _fail(f"{error} [CI-101]")


def _counts(problems: tuple[Problem, ...]) -> str:
    counts = ((sum(p.severity == severity for p in problems), severity) for severity in SEVERITIES)
    texts = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    return ", ".join(texts) or "nothing is wrong"


def _report(problems: tuple[Problem, ...]) -> None:
    for problem in check.worst_first(problems):
        click.echo(problem.line(), err=True)
    click.echo(_counts(problems), err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name=NAME)
def main() -> None:
    """Isolation of HTCondor jobs: check and apply what config.d says."""


@main.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
def check_command(as_json: bool) -> None:
    """Say all that is wrong with the configuration; change nothing."""
    problems = _examine().problems
    if as_json:
        click.echo(json.dumps([p.as_dict() for p in check.worst_first(problems)], indent=2))
    else:
        _report(problems)
    sys.exit(PROBLEMS_FOUND if errors(problems) else 0)


@main.command("apply")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--no-reconfig", is_flag=True, help="Leave a running HTCondor alone.")
def apply_command(dry_run: bool, no_reconfig: bool) -> None:
    """Check the configuration, compile it and install the policy."""
    if os.geteuid() != 0 and not dry_run:
        _fail("only root can install the policy")
    result = _examine()
    if result.problems:
        _report(result.problems)
    if errors(result.problems):
        _fail("nothing was changed")
    try:
        for line in apply.difference(apply.installed(), result.policy):
            click.echo(line)
        if dry_run:
            return
        for line in apply.apply(result, reconfig=not no_reconfig):
            click.echo(line)
    except apply.ApplyError as error:
        _fail(f"{error} [CI-125]")


def _shown(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and place of each knob of the table and of each chroot's."""
    roots = reader.Reader(config.knobs, config.native_chroot).chroots()
    for row in settings.SETTINGS:
        names = [row.name]
        if row.scope == settings.CHROOT:
            keys = [reader.chroot_key(root.name) for root in roots]
            names = [row.name.replace("<NAME>", key) for key in keys]
        for name in names:
            knob = config.knobs.get(name)
            value = knob.value if knob else reader.expand_default(row.default, config.knobs)
            yield name, values.shown(row, value), knob.place if knob else DEFAULT_PLACE


@main.command("show")
def show_command() -> None:
    """Print every knob with its effective value and where it was set."""
    try:
        config, _sources, _absent = machine.read_config()
    except CondorError as error:
        _fail(f"{error} [CI-101]")
    for name, value, place in _shown(config):
        click.echo(f"{name} = {value}".rstrip() + f"  # {place}")


def _origin(error: BaseException) -> str:
    """Return the file and line of our own code that ERROR came from."""
    steps = traceback.extract_tb(error.__traceback__)
    ours = [step for step in steps if f"{os.sep}condor_isolation{os.sep}" in step.filename]
    return f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}" if ours else "click"


def run() -> NoReturn:
    """Run the command; whatever happens, one line and an exit code."""
    if len(sys.argv) < 2:
        click.echo(f"{NAME}: say what to do: {', '.join(main.commands)} (try --help)", err=True)
        sys.exit(USAGE)
    try:
        status = main(prog_name=NAME, standalone_mode=False)
    except click.UsageError as error:
        click.echo(f"{NAME}: {error.format_message()} (try {NAME} --help)", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted")
    except OSError as error:
        _fail(str(error))
    except Exception as error:
        _fail(f"{type(error).__name__}: {error} ({_origin(error)}); please report it as a bug")
    sys.exit(status if isinstance(status, int) else 0)
