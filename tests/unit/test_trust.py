"""Who could change what a path leads to, and where it leads inside a chroot."""

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condor_isolation import ownership, trust

DIRECTORY = stat.S_IFDIR | 0o755


def tree(**odd):
    """Return an lstat() of a machine where all is root's but for ODD: path -> (mode, uid)."""
    odd = {path.replace("_", "/"): what for path, what in odd.items()}

    def lstat(path):
        mode, uid = odd.get(path, (DIRECTORY, 0))
        if mode is None:
            raise FileNotFoundError(path)
        return os.stat_result((mode, 0, 0, 1, uid, 0, 0, 0, 0, 0))

    return lstat


def test_a_path_that_is_roots_alone_is_trusted():
    assert ownership.untrusted("/srv/el9", tree()) == ""


@pytest.mark.parametrize("path", ["/", "/srv", "/srv/el9"])
def test_a_component_of_another_user_is_not_trusted(path):
    reason = ownership.untrusted("/srv/el9", tree(**{path.replace("/", "_"): (DIRECTORY, 1000)}))
    assert reason == f"{path} belongs to uid 1000"


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777, 0o020])
def test_a_component_that_others_may_write_is_not_trusted(mode):
    reason = ownership.untrusted("/srv/el9", tree(_srv=(stat.S_IFDIR | mode, 0)))
    assert reason.startswith("/srv may be written by others than root")


def test_what_is_not_there_is_trusted_as_far_as_its_parents():
    assert ownership.untrusted("/srv/new/dir", tree(_srv_new=(None, 0))) == ""
    assert ownership.untrusted("/srv/new/dir", tree(_srv=(DIRECTORY, 7), _srv_new=(None, 0)))


def test_a_directory_in_tmp_is_not_trusted(tmp_path):
    assert trust.look(str(tmp_path)).untrusted


def test_links_are_followed_to_what_is_looked_at(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    fact = trust.look(str(tmp_path / "link"))
    assert (fact.kind, fact.real) == (trust.DIRECTORY, str(tmp_path / "real"))
    assert trust.look(str(tmp_path / "none")).kind == trust.MISSING
    os.mkfifo(tmp_path / "fifo")
    assert trust.look(str(tmp_path / "fifo")).kind == trust.OTHER


@pytest.fixture
def root(tmp_path):
    """Return a chroot with links that lead out of it, if they were followed from outside."""
    for name in ("etc", "run", "usr/lib", "var"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "etc" / "resolv.conf").symlink_to("../run/systemd/resolve/stub.conf")
    (tmp_path / "var" / "run").symlink_to("/run")
    (tmp_path / "up").symlink_to("../../../..")
    (tmp_path / "loop").symlink_to("/loop")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/etc", "/etc"),
        ("/lib/x", "/usr/lib/x"),
        ("/etc/resolv.conf", "/run/systemd/resolve/stub.conf"),
        ("/var/run/x", "/run/x"),
        ("/up/etc", "/etc"),
        ("/no/such/dir", "/no/such/dir"),
    ],
)
def test_links_inside_a_chroot_never_lead_out_of_it(root, path, place):
    assert trust.resolve_in_root(root, path) == root + place


@given(st.text(alphabet="./aul", max_size=20))
def test_no_path_leads_out_of_a_chroot(path):
    assert trust.resolve_in_root("/nonexistent", path).startswith("/nonexistent")


def test_a_loop_of_links_is_an_obstacle(root):
    point = trust.look_mount_point(root, "/loop", trust.DIRECTORY)
    assert "too many links" in point.obstacle


def test_a_mount_point_that_is_there_is_good(root):
    point = trust.look_mount_point(root, "/lib", trust.DIRECTORY)
    assert (point.kind, point.obstacle, point.place) == (trust.DIRECTORY, "", root + "/usr/lib")


def test_a_missing_mount_point_can_be_made_where_only_root_may_write(root, monkeypatch):
    monkeypatch.setattr(trust, "untrusted", lambda _path: "")
    point = trust.look_mount_point(root, "/new/dir", trust.DIRECTORY)
    assert (point.kind, point.obstacle) == (trust.MISSING, "")


def test_a_missing_mount_point_cannot_be_made_where_others_may_write(root):
    assert trust.look_mount_point(root, "/new/dir", trust.DIRECTORY).obstacle


def test_a_directory_is_no_place_for_a_file_nor_the_other_way_round(root):
    assert "is a directory" in trust.look_mount_point(root, "/etc", trust.FILE).obstacle
    os.close(os.open(root + "/etc/hosts", os.O_CREAT))
    assert "is no directory" in trust.look_mount_point(root, "/etc/hosts", trust.DIRECTORY).obstacle
    below = trust.look_mount_point(root, "/etc/hosts/x", trust.DIRECTORY)
    assert below.obstacle
