"""What is gathered about the machine is what the rules need, and true of real files."""

import os

import pytest

from condor_isolation import condor, machine, trust
from condor_isolation.condor import CondorError, Config, effective
from condor_isolation.settings import Account, Bind, Chroot, Knob, Settings


def config(**knobs):
    table = effective(Knob(name, value) for name, value in knobs.items())
    return Config((25, 14, 1), table)


@pytest.mark.parametrize(
    ("path", "directory", "below"),
    [
        ("/a", "/a", True),
        ("/a/b", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/a", "/", True),
    ],
)
def test_below_is_by_component(path, directory, below):
    assert machine.is_below(path, directory) is below


def test_every_place_of_sandboxes_is_found_once():
    found = machine.execute_directories(
        config(
            EXECUTE="/e",
            SLOT1_EXECUTE="/s1",
            SLOT_TYPE_2_EXECUTE="/e",
            SLOT_TYPE_X_EXECUTE="/no",
            SLOTS_EXECUTE="/no",
            LOCAL_UNIV_EXECUTE="/l",
        )
    )
    assert found == ("/e", "/s1")


def test_the_local_universe_counts_where_a_schedd_runs():
    found = machine.execute_directories(
        config(EXECUTE="/e", LOCAL_UNIV_EXECUTE="/l", DAEMON_LIST="MASTER Schedd STARTD")
    )
    assert found == ("/e", "/l")


def test_sources_that_are_not_there_are_told_apart(tmp_path):
    file = tmp_path / "a.conf"
    file.write_text("X = 1\n")
    wanted = Config((25, 14, 1), {}, (str(file), str(tmp_path / "none")), (str(tmp_path),))
    found, absent = machine.look_sources(wanted)
    assert (found[0].path, found[0].size) == (str(file), 6)
    assert found[0].mtime_ns == os.stat(file).st_mtime_ns
    assert found[1].path == str(tmp_path)
    assert absent == (str(tmp_path / "none"),)


def test_a_configuration_that_never_stays_the_same_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "a.conf"
    file.write_text("")

    def change():
        file.write_text(file.read_text() + "x")
        return Config((25, 14, 1), {}, (str(file),))

    monkeypatch.setattr(condor, "read_config", change)
    with pytest.raises(CondorError, match="changes while it is read"):
        machine.read_config()


def test_a_configuration_that_changes_once_is_read_again(tmp_path, monkeypatch):
    file = tmp_path / "a.conf"
    file.write_text("")
    calls = []

    def change():
        calls.append(1)
        if len(calls) == 2:
            file.write_text("changed")
        return Config((25, 14, len(calls)), {}, (str(file),))

    monkeypatch.setattr(condor, "read_config", change)
    found, sources, _absent = machine.read_config()
    assert found.version[2] == len(calls) == 3
    assert sources[0].size == 7


def script(tmp_path, first_line):
    path = tmp_path / "job-wrapper"
    path.write_bytes(first_line)
    return str(path)


def test_the_helper_is_what_the_wrappers_first_line_names(tmp_path):
    helper = tmp_path / "isolate"
    helper.write_text("")
    helper.chmod(0o4711)
    found = machine.look_helper(script(tmp_path, f"#! {helper} -x\n".encode()))
    assert found is not None
    assert (found.path, found.uid, found.mode) == (str(helper), os.getuid(), 0o4711)
    assert found.untrusted  # it is below /tmp


@pytest.mark.parametrize("line", [b"", b"\x7fELF", b"#!\n", b"#!isolate\n", b"echo\n"])
def test_a_wrapper_that_names_no_program_has_no_helper(tmp_path, line):
    assert machine.look_helper(script(tmp_path, line)) is None


def test_a_helper_that_is_not_there_belongs_to_nobody(tmp_path):
    found = machine.look_helper(script(tmp_path, f"#!{tmp_path}/none\n".encode()))
    assert found == machine.Helper(f"{tmp_path}/none", uid=-1)


def test_accounts_are_looked_up_and_numbers_taken_as_they_are():
    assert machine._uid("root") == machine._gid("root") == 0
    assert machine._uid("4242") == machine._gid("4242") == 4242
    assert machine._uid("no such user") is machine._gid("no such group") is None


def test_a_chroot_needs_what_the_helper_mounts_in_it(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    binds = (
        Bind("/", "/a", "ro", "K"),
        Bind("/", "/a/b", "ro", "K"),
        Bind(str(file), "/f", "ro", "K"),
    )
    root = Chroot("EL9", "/el9", "K", binds=binds)
    needed = machine.needed_in(Settings(private=("/tmp",), chroots=(root,)), root, ["/e"])
    assert {path for path, kind in needed.items() if kind == trust.FILE} == {
        *machine.SYSTEM_FILES,
        "/f",
    }
    assert {"/dev", "/proc", "/sys", "/tmp", "/e", "/a"} <= set(needed)
    assert "/a/b" not in needed  # it is in the source of /a


def test_everything_that_settings_name_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "find_classad", lambda: "/dist-packages")
    monkeypatch.setattr(condor, "expression_problem", lambda text: "bad" if "(" in text else "")
    (tmp_path / "root").mkdir()
    root = Chroot(
        "EL9", str(tmp_path / "root"), "K", users=(Account("root", "K"), Account("ghost", "K"))
    )
    wanted = Settings(
        private=("/tmp",),
        chroots=(root,),
        expressions={"cpu-max": "(", "chroot": "TARGET.WantOS"},
    )
    found = machine.gather(wanted, config(EXECUTE="/e"), (), ())
    assert found.users == {"root": 0, "ghost": None}
    assert found.paths[root.path].kind == trust.DIRECTORY
    assert {point.path for point in found.mount_points} >= {"/dev", "/tmp", "/e"}
    assert found.bad_expressions == {"cpu-max": "bad"}
    assert found.classad_path == "/dist-packages"
    assert found.helper is None
