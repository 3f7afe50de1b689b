"""The command: one line for each thing, exit code 0, 1 or 2, never a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from condor_isolation import apply, cli, condor, machine
from condor_isolation.condor import CondorError, Config
from condor_isolation.machine import Machine
from condor_isolation.problems import ERROR, NOTE, WARNING, Problem
from condor_isolation.settings import Knob, Settings

REPO = Path(__file__).resolve().parents[2]


def problem(severity):
    return Problem(severity, "BAD_VALUE", "site.conf:3", "KNOB", f"an {severity}", "write it")


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs the command and returns exit code, output, errors."""

    def call(*arguments, problems=(), policy=b"", examine=None):
        found = apply.Result(Settings(), Machine(Config((25, 14, 1), {})), problems, policy)
        monkeypatch.setattr(apply, "examine", examine or (lambda: found))
        monkeypatch.setattr(sys, "argv", ["condor_isolation", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.run()
        return (end.value.code, *capsys.readouterr())

    return call


def test_check_of_a_good_machine_exits_with_0(run):
    assert run("check") == (0, "", "nothing is wrong\n")


def test_warnings_are_said_and_exit_with_0(run):
    code, _out, err = run("check", problems=(problem(WARNING), problem(NOTE)))
    assert code == 0
    assert err.splitlines()[0] == "site.conf:3: warning: KNOB: an warning; write it [CI-103]"
    assert err.splitlines()[-1] == "1 warning, 1 note"


def test_an_error_is_said_first_and_exits_with_1(run):
    code, _out, err = run("check", problems=(problem(WARNING), problem(ERROR)))
    assert code == 1
    assert err.startswith("site.conf:3: KNOB: an error; write it [CI-103]\n")


def test_check_gives_json_to_programs(run):
    code, out, _err = run("check", "--json", problems=(problem(ERROR),))
    assert code == 1
    (found,) = json.loads(out)
    assert (found["id"], found["severity"], found["place"]) == ("CI-103", "error", "site.conf:3")


def test_apply_with_an_error_changes_nothing(run, monkeypatch):
    monkeypatch.setattr(cli.os, "geteuid", lambda: 0)
    monkeypatch.setattr(apply, "apply", lambda *_a, **_k: pytest.fail("must not be called"))
    code, _out, err = run("apply", problems=(problem(ERROR),))
    assert code == 1 and "nothing was changed" in err


def test_apply_by_who_is_not_root_reads_nothing(run, monkeypatch):
    monkeypatch.setattr(cli.os, "geteuid", lambda: 1000)
    code, _out, err = run("apply", examine=lambda: pytest.fail("must not be called"))
    assert (code, err) == (1, "condor_isolation: only root can install the policy\n")


def test_a_dry_run_needs_no_root_and_changes_nothing(run, monkeypatch):
    monkeypatch.setattr(cli.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(apply, "installed", lambda: b"")
    monkeypatch.setattr(apply, "apply", lambda *_a, **_k: pytest.fail("must not be called"))
    policy = b"condor-isolation policy 1\nenable 1\nend 1 0\n"
    assert run("apply", "--dry-run", policy=policy) == (0, "+ enable 1\n", "")


def test_an_apply_that_fails_is_one_line(run, monkeypatch):
    def fail(*_arguments, **_more):
        raise apply.ApplyError("/etc/condor-isolation: Read-only file system")

    monkeypatch.setattr(cli.os, "geteuid", lambda: 0)
    monkeypatch.setattr(apply, "installed", lambda: b"")
    monkeypatch.setattr(apply, "apply", fail)
    code, _out, err = run("apply")
    assert code == 1
    assert err == "condor_isolation: /etc/condor-isolation: Read-only file system [CI-125]\n"


@pytest.mark.parametrize("command", ["check", "apply", "show"])
def test_without_htcondor_each_command_is_one_line(run, monkeypatch, command):
    def fail():
        raise CondorError("condor_config_val not found:\n is HTCondor installed?")

    monkeypatch.setattr(cli.os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "read_config", fail)
    code, out, err = run(command, examine=fail)
    assert (code, out) == (1, "")
    assert err == "condor_isolation: condor_config_val not found: is HTCondor installed? [CI-101]\n"


def test_show_prints_value_and_place_of_every_knob(run, monkeypatch):
    knobs = {
        "NAMED_CHROOT": Knob("NAMED_CHROOT", "EL9=/el9", "site.conf:1"),
        "LOG": Knob("LOG", "/var/log/condor"),
        "ISOLATION_CPU_MAX": Knob("ISOLATION_CPU_MAX", "TARGET.A +\n  1", "site.conf:2"),
    }
    read = (Config((25, 14, 1), knobs), (), ())
    monkeypatch.setattr(machine, "read_config", lambda: read)
    code, out, _err = run("show")
    assert code == 0
    lines = out.splitlines()
    assert "NAMED_CHROOT = EL9=/el9  # site.conf:1" in lines
    assert "NAMED_CHROOT_EL9_READ_ONLY = True  # default" in lines
    assert any(line.startswith("ISOLATION_HIDE = /var/log/condor") for line in lines)
    assert "ISOLATION_CPU_MAX = TARGET.A + 1  # site.conf:2" in lines


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("check", "--nonsense"), ("check", "x")])
def test_a_wrong_call_is_one_line_and_exits_with_2(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_bug_is_one_line_that_says_where(run):
    def bug():
        raise ValueError("what now")

    code, _out, err = run("check", examine=bug)
    assert code == 1 and err.count("\n") == 1
    assert "ValueError: what now (cli.py:" in err


def launch(*command):
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd="/", check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_launcher_runs_from_a_checkout():
    code, text = launch(str(REPO / "wrappers" / "condor_isolation"), "--version")
    assert (code, text.split(",")[0]) == (0, "condor_isolation")


def test_without_click_the_launcher_says_what_to_install():
    code, text = launch("-S", str(REPO / "wrappers" / "condor_isolation"), "check")
    assert (code, text.count("\n")) == (1, 1)
    assert "install python3-click" in text


def test_check_imports_no_other_heavy_module():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import condor_isolation.cli; "
        "print(sorted({'classad2', 'htcondor2', 'yaml', 'jinja2', 'rich'} & set(sys.modules)))"
    )
    assert launch("-c", code, str(REPO)) == (0, "[]\n")


def test_no_master_is_found_where_none_runs():
    assert (
        condor.master_pid(Config((25, 14, 1), {"MASTER": Knob("MASTER", "/nonexistent")})) is None
    )
