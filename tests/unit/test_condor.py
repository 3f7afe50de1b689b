"""What HTCondor's tools print is taken apart as they mean it; nothing of our environment counts."""

import os

import pytest

from condor_isolation import condor
from condor_isolation.condor import CondorError, Config
from condor_isolation.settings import Knob

DUMP = """\
# Configuration from machine: node

# Parameters with names that match ^(A|B):
ABORT_ON_EXCEPTION = false
 # at: <Default>
 # expanded: false
 # default: false
EMPTY = 
 # at: /etc/condor/config.d/50-t.conf, line 10
 # expanded: 
ISOLATION_HIDE @=end
   /a,
   B = /b
@end
 # at: /etc/condor/config.d/50-t.conf, line 9
 # expanded: 
 #     /a,
 #     B = /b
isolation_lower = $(LOG)/x
 # at: /etc/condor/config.d/50-t.conf, line 15
 # expanded: /var/log/condor/x
STARTER.ISOLATION_MIN_UID = 7
 # at: include command, line 1
 # expanded: 7
ISOLATION_MIN_UID = 8
 # at: <Environment>
 # expanded: 8
# Contributing configuration file(s):
#\t/etc/condor/condor_config
"""  # noqa: W291 - the tool leaves the blank


def test_each_knob_of_a_dump_has_its_expanded_value_and_its_place():
    assert list(condor.parse_dump(DUMP)) == [
        Knob("ABORT_ON_EXCEPTION", "false", "default"),
        Knob("EMPTY", "", "/etc/condor/config.d/50-t.conf:10"),
        Knob("ISOLATION_HIDE", "/a,\nB = /b", "/etc/condor/config.d/50-t.conf:9"),
        Knob("isolation_lower", "/var/log/condor/x", "/etc/condor/config.d/50-t.conf:15"),
        Knob("STARTER.ISOLATION_MIN_UID", "7", "include command:1"),
        Knob("ISOLATION_MIN_UID", "8", "<Environment>"),
    ]


def test_knobs_are_found_whatever_their_case_and_the_starters_goes_first():
    knobs = condor.effective(condor.parse_dump(DUMP))
    assert knobs["ISOLATION_LOWER"].value == "/var/log/condor/x"
    assert knobs["ISOLATION_MIN_UID"].value == "7"


def test_files_are_told_from_commands():
    text = (
        "Configuration source:\n\t/etc/condor/condor_config\nLocal configuration sources:\n"
        "\t/etc/condor/config.d/00\n\t/bin/echo X=1 |\n\t/etc/condor/config.d/00\n"
    )
    files, commands = condor.parse_sources(text)
    assert files == ("/etc/condor/condor_config", "/etc/condor/config.d/00")
    assert commands == ("/bin/echo X=1 |",)


def test_the_version_is_three_numbers():
    assert condor.parse_version("$CondorVersion: 25.14.1 2026-10-16 PackageID: x $") == (25, 14, 1)


@pytest.mark.parametrize("text", ["", "25.14.1", "$CondorVersion: unknown $"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(CondorError):
        condor.parse_version(text)


@pytest.mark.parametrize(
    ("version", "native"),
    [((23, 9, 6), True), ((25, 0, 13), True), ((25, 5, 0), True), ((25, 5, 1), False)],
)
def test_htcondor_reads_named_chroot_itself_before_25_5_1(version, native):
    assert Config(version, {}).native_chroot is native


def tool(directory, name, script):
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    monkeypatch.setattr(condor, "TOOL_PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def test_tools_see_nothing_of_our_environment(tools, monkeypatch):
    monkeypatch.setenv("CONDOR_CONFIG", "/tmp/evil")
    monkeypatch.setenv("_CONDOR_ISOLATION_ENABLE", "False")
    monkeypatch.setenv("LD_PRELOAD", "")
    tool(tools, "condor_config_val", "env")
    names = {line.partition("=")[0] for line in condor.output("condor_config_val").splitlines()}
    assert names <= {"PATH", "LC_ALL", "PWD", "_", "SHLVL", "OLDPWD"}


def test_the_path_of_the_caller_finds_no_tool(tools, monkeypatch):
    evil = tools / "evil"
    evil.mkdir()
    tool(evil, "condor_config_val_x", "echo evil")
    monkeypatch.setenv("PATH", f"{evil}:{os.environ['PATH']}")
    with pytest.raises(CondorError, match="is HTCondor installed"):
        condor.output("condor_config_val_x")


def test_a_tool_that_fails_is_quoted_in_one_line(tools):
    tool(tools, "condor_config_val", "echo 'Error Line 1'; printf 'bad\\nif\\n' >&2; exit 1")
    with pytest.raises(CondorError, match=r"^condor_config_val failed: bad if$"):
        condor.output("condor_config_val")


def test_a_tool_that_hangs_is_ended(tools, monkeypatch):
    monkeypatch.setattr(condor, "TOOL_SECONDS", 0.2)
    tool(tools, "condor_config_val", "exec sleep 30")
    with pytest.raises(CondorError, match="timed out"):
        condor.output("condor_config_val")


def test_an_expression_cannot_become_an_option_of_the_tool(tools):
    tool(tools, "classad_eval", 'case "$1" in -*) exit 0;; "(-file"*) exit 1;; *) exit 2;; esac')
    assert condor.expression_problem("-file /etc/shadow") == "is no ClassAd expression"


def test_without_a_master_none_is_found(tmp_path):
    config = Config((25, 14, 1), {"MASTER": Knob("MASTER", str(tmp_path / "condor_master"))})
    assert condor.master_pid(config) is None
