"""The cache of roots: what is good is kept, everything else is noticed, said and built again."""

import os
import sys
import threading
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docker"))

import roots

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="builds in namespaces: needs root")

# Called as mmdebstrap is: options, release, directory, mirror.
BUILDER = """#!/bin/sh
echo "I: building"
echo built >>"$(dirname "$0")/builds"
mkdir "$3"
sleep 0.2
echo complete >"$3/complete"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> roots.Recipe:
    builder = tmp_path / "builder"
    builder.write_text(BUILDER)
    builder.chmod(0o755)
    return roots.Recipe(tmp_path / "cache" / "forky", "forky", (str(builder),), (builder,))


def builds(recipe: roots.Recipe) -> int:
    return len((Path(recipe.command[0]).parent / "builds").read_text().splitlines())


def use(recipe: roots.Recipe) -> None:
    with roots.ready(recipe) as path:
        assert (path / "complete").exists()
        assert recipe.stale_because() == ""


def test_a_root_is_built_once(recipe: roots.Recipe) -> None:
    use(recipe)
    use(recipe)
    assert builds(recipe) == 1


def test_a_half_built_root_is_noticed_and_rebuilt(
    recipe: roots.Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.path.mkdir(parents=True)
    use(recipe)
    assert "is half-built" in capsys.readouterr().err


def test_a_missing_root_is_noticed_though_its_stamp_is_there(
    recipe: roots.Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    use(recipe)
    recipe.path.rename(recipe.path.with_name("elsewhere"))
    use(recipe)
    assert builds(recipe) == 2
    assert "is not built yet" in capsys.readouterr().err


def test_a_root_whose_script_has_changed_is_rebuilt(
    recipe: roots.Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    use(recipe)
    script = Path(recipe.command[0])
    script.write_text(script.read_text() + "# changed\n")
    use(recipe)
    assert builds(recipe) == 2
    assert "is out of date" in capsys.readouterr().err


def test_what_a_killed_builder_left_is_no_obstacle(recipe: roots.Recipe) -> None:
    left = recipe.path.with_name("forky.building")
    left.mkdir(parents=True)
    (left / "half").touch()
    use(recipe)
    assert not (recipe.path / "half").exists()
    assert not left.exists()


def test_builders_wait_for_each_other(recipe: roots.Recipe) -> None:
    threads = [threading.Thread(target=use, args=(recipe,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds(recipe) == 1


def test_a_failed_build_shows_the_end_of_its_log_and_leaves_no_root(
    recipe: roots.Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(recipe.command[0]).write_text("#!/bin/sh\nmkdir $3; echo out of luck; exit 3\n")
    with pytest.raises(roots.RootError, match="could not be built"), roots.ready(recipe):
        pass
    assert "out of luck" in capsys.readouterr().err
    assert "out of luck" in recipe.log.read_text()
    assert not recipe.path.exists()
    assert not recipe.stamp.exists()


def test_a_missing_builder_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    recipe = roots.Recipe(tmp_path / "forky", "forky", ("no-such-builder",))
    with (
        pytest.raises(roots.RootError, match="apt-get install no-such-builder"),
        roots.ready(recipe),
    ):
        pass


def test_everything_that_determines_a_root_is_in_its_digest() -> None:
    digests = {
        roots.node(release, variant).digest()
        for release in roots.NODE_RELEASES
        for variant in roots.VARIANTS
    }
    assert len(digests) == len(roots.NODE_RELEASES) * len(roots.VARIANTS)
    assert roots.PROVISION in roots.node("forky").inputs


def test_the_cache_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONDOR_ISOLATION_CACHE", str(tmp_path))
    assert roots.node("forky").path == tmp_path / "roots" / "forky"
    assert roots.chroot("EL9", "bookworm").path == tmp_path / "chroots" / "EL9"
