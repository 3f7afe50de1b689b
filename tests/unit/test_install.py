"""make install and make uninstall, into a directory."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = "etc/condor/config.d/51-isolation-site.conf"


def make(target: str, destination: Path, *settings: str) -> str:
    """Run make TARGET; return what it said."""
    command = ["make", "-C", str(ROOT), target, f"DESTDIR={destination}", *settings]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def files(top: Path) -> set[str]:
    """Return the files below TOP, compiled modules left out."""
    found = (path for path in top.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(top)) for path in found}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    make("install", tmp_path)
    return tmp_path


def test_the_helper_is_setuid_root_and_nothing_else_is(installed: Path) -> None:
    setuid = [path for path in installed.rglob("*") if path.stat().st_mode & 0o6000]
    assert [path.name for path in setuid] == ["isolate"]
    status = setuid[0].stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0o4755)


def test_only_root_can_change_what_is_installed(installed: Path) -> None:
    for path in installed.rglob("*"):
        assert path.stat().st_uid == 0 and not path.stat().st_mode & 0o022, path


def test_another_prefix_is_filled_in_everywhere(tmp_path: Path) -> None:
    make("install", tmp_path, "PREFIX=/opt/site")
    libexec = tmp_path / "opt/site/libexec/condor-isolation"
    first = (libexec / "job-wrapper").read_text().splitlines()[0]
    assert first == "#!/opt/site/libexec/condor-isolation/isolate"
    for name in files(tmp_path):
        if name.startswith("opt/site/libexec/condor-isolation/isolate"):
            continue
        text = (tmp_path / name).read_text()
        assert "/usr/libexec/condor-isolation" not in text, name
        assert not re.search("@[A-Z]+DIR@", text), name


def test_uninstall_takes_everything_away(installed: Path) -> None:
    make("uninstall", installed)
    assert files(installed) == set()


def test_an_edited_fragment_survives_install_and_uninstall(installed: Path) -> None:
    site = installed / SITE
    site.write_text("ISOLATION_PIDS_MAX = 5\n")
    assert "kept" in make("install", installed)
    assert site.read_text() == "ISOLATION_PIDS_MAX = 5\n"
    make("uninstall", installed)
    assert not site.exists()
    assert Path(f"{site}.rpmsave").read_text() == "ISOLATION_PIDS_MAX = 5\n"
