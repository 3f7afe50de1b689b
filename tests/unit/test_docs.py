"""The reference pages are what the tables say."""

from pathlib import Path

import pytest

from condor_isolation import docs, messages
from condor_isolation.settings import SETTINGS

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", docs.PAGES)
def test_a_page_in_the_repository_is_fresh(name):
    written = (DOCS / name).read_text()
    assert written == docs.page(name), "run: python3 -m condor_isolation.docs"


def test_every_knob_stands_in_the_page():
    page = docs.page("knobs.md")
    assert [row.name for row in SETTINGS if f"| `{row.name}` |" not in page] == []


def test_every_message_stands_in_the_page_once():
    page = docs.page("messages.md")
    assert [row[0] for row in messages.MESSAGES if page.count(f"| {row[0]} |") != 1] == []


def test_every_message_of_the_configuration_is_used():
    package = Path(docs.__file__).parent
    names = ("settings", "values", "reader", "check", "apply", "cli", "compile", "machine")
    source = "".join((package / f"{name}.py").read_text() for name in names)
    config = [row for row in messages.MESSAGES if row[2] == "config"]
    assert [row for row in config if f'"{row[1]}"' not in source and row[0] not in source] == []
