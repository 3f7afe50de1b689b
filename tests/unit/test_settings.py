"""The table of knobs: one row says all, and the rows agree with records, planner and files."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from condor_isolation import planner, records, values
from condor_isolation.settings import BY_NAME, CHROOT, FRAGMENT, HIDDEN, SETTINGS, mode_rows

REPO = Path(__file__).resolve().parents[2]
FRAGMENTS = sorted((REPO / "config.d").glob("*.conf"))
LIMIT_ROWS = [row for row in SETTINGS if row.record in records.LIMIT_WORDS]


def test_no_knob_stands_twice():
    assert len(BY_NAME) == len(SETTINGS)


def test_every_limit_of_the_policy_has_a_knob_in_the_planners_units():
    assert [row.record for row in LIMIT_ROWS] == list(records.LIMIT_WORDS)
    for row in LIMIT_ROWS:
        scale, unit, _least = planner.UNITS[row.record]
        assert (row.scale, row.unit) == (scale, unit), row.name
        assert row.name == planner.knob_of(row.record)


@pytest.mark.parametrize("row", LIMIT_ROWS, ids=lambda row: row.name)
def test_the_least_of_a_limit_is_a_whole_number_of_the_policys_units(row):
    assert row.least * row.scale == int(row.least * row.scale)
    assert row.least * row.scale >= planner.UNITS[row.record][2]
    assert row.most * row.scale < Decimal(2**63)


def test_every_control_has_a_mode_knob_with_its_default():
    assert [(row.record, row.default) for row in mode_rows()] == [
        (name, mode) for name, mode, _help in records.CONTROLS
    ]


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_every_default_is_a_good_value(row):
    if not row.default or row.scope == FRAGMENT:
        return
    if row.kind in values.ENTRY_PARSERS:
        text = row.default.replace("$(", "/").replace(")", "")
        for word in values.entries(row, text):
            values.ENTRY_PARSERS[row.kind](row, word)
    elif row.kind != "chroot":
        values.PARSERS[row.kind](row, row.default)


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row.name)
def test_every_row_has_a_help_that_is_a_sentence(row):
    assert row.help and "\n" not in row.help


def assignments(text):
    """Return (name, value) of each assignment, commented out or not, continuations joined."""
    text = re.sub(r"\\\n", "", text)
    return re.findall(r"(?m)^(?:# )?([A-Z][A-Z0-9_]+) = (.*)$", text)


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_fragments_name_no_knob_of_ours_that_the_table_does_not_know(path):
    fields = [row.name.rpartition(">_")[2] for row in SETTINGS if row.scope == CHROOT]
    for name, _value in assignments(path.read_text()):
        if name.startswith("ISOLATION_") or name == "NAMED_CHROOT":
            assert name in BY_NAME, name
        elif name.startswith("NAMED_CHROOT_"):
            assert name.partition("EL")[2][2:] in fields, name


def test_what_the_fragment_sets_itself_is_the_default_of_the_table():
    found = dict(assignments((REPO / "config.d" / "50-isolation.conf").read_text()))
    for name in ("MOUNT_UNDER_SCRATCH", "ISOLATION_HIDE", "ISOLATION_LIBEXEC"):
        assert found[name] == BY_NAME[name].default


def test_what_the_site_file_shows_as_default_is_the_default_of_the_table():
    found = dict(assignments((REPO / "config.d" / "51-isolation-site.conf").read_text()))
    for name in (
        "ISOLATION_ENABLE",
        "ISOLATION_SHM_SIZE",
        "ISOLATION_PIDS_MAX",
        "ISOLATION_MIN_UID",
    ):
        assert found[name] == BY_NAME[name].default


def test_the_site_file_sets_nothing():
    lines = (REPO / "config.d" / "51-isolation-site.conf").read_text().splitlines()
    assert all(line.startswith("#") or not line for line in lines)


def test_the_fragment_keeps_the_sites_own_start():
    text = (REPO / "config.d" / "50-isolation.conf").read_text()
    assert "START = ($(START)) && $(ISOLATION_START)" in text


def test_tokens_and_passwords_are_hidden_by_default():
    assert {"LOG", "SPOOL", "SEC_TOKEN_SYSTEM_DIRECTORY", "SEC_PASSWORD_DIRECTORY"} <= set(HIDDEN)
