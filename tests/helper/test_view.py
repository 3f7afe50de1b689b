"""What a job sees of the machine.  Each test looks at the same thing from outside, too."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from .conftest import CALL, ended_well, mounts
from .starter import ALICE, EXECUTE


def test_output_and_status_of_the_job_arrive(run_job):
    result = run_job(["/bin/sh", "-c", "echo out; echo err >&2; cat; exit 3"], stdin=b"in\n")
    assert (result.exit_status, result.stdout, result.stderr) == (3, b"out\nin\n", b"err\n")
    assert (result.error_file, result.mark) == (None, None)


@pytest.mark.parametrize("layout", ["flat", "nested"])
def test_the_job_starts_in_its_scratch_directory_and_keeps_what_it_writes(run_job, layout):
    result = run_job(["/bin/sh", "-c", "/bin/pwd; echo kept > output"], layout=layout)
    assert ended_well(result)
    assert result.text == str(result.scratch)
    assert (result.scratch / "output").read_text() == "kept\n"
    assert (result.scratch / "output").stat().st_uid == ALICE


def test_pid_1_is_the_init_and_other_processes_do_not_exist(run_python, neighbour):
    other = neighbour()
    code = (
        "import os; print(os.getppid(), sorted(int(p) for p in os.listdir('/proc')"
        f" if p.isdigit()), os.path.exists('/proc/{other.pid}'))"
    )
    inside = run_python(code).text
    assert inside == "1 [1, 2] False"
    assert run_python(code, wrapper=None).text.endswith("True")


def test_ps_shows_the_job_alone(run_job):
    lines = run_job(["/bin/ps", "axo", "pid,user,comm"]).text.splitlines()
    seen = [line.split() for line in lines[1:]]
    assert seen == [["1", "alice", "job-wrapper"], ["2", "alice", "ps"]]


def test_signals_cannot_reach_other_processes_of_the_same_user(run_python, neighbour):
    other = neighbour()
    code = f"{CALL}print(tried(os.kill, {other.pid}, 0))"
    assert run_python(code).text == "ESRCH"
    assert run_python(code, wrapper=None).text == "done"


def test_kill_of_everything_hits_nobody_else(run_job, neighbour):
    other = neighbour()
    result = run_job(["/bin/sh", "-c", "kill -9 -1; echo alive"])
    assert result.text == "alive"
    assert not other.has_ended()
    # Without isolation the neighbour dies.
    run_job(["/bin/sh", "-c", "kill -9 -1"], wrapper=None)
    assert other.wait().signal == 9


@pytest.mark.parametrize("name", ["pid", "mnt", "ipc", "uts", "cgroup"])
def test_the_job_has_a_namespace_of_its_own(run_python, name):
    code = f"import os; print(os.readlink('/proc/self/ns/{name}'))"
    outside = os.readlink(f"/proc/self/ns/{name}")
    assert run_python(code, wrapper=None).text == outside
    assert run_python(code).text != outside


@pytest.mark.parametrize("name", ["user", "net", "time"])
def test_the_job_shares_the_namespace_that_no_control_names(run_python, name):
    code = f"import os; print(os.readlink('/proc/self/ns/{name}'))"
    assert run_python(code).text == os.readlink(f"/proc/self/ns/{name}")


def test_system_v_shared_memory_of_others_is_out_of_reach(run_python, neighbour):
    neighbour("key = call('shmget', 4711, 4096, 0o1600)\nassert isinstance(key, int), key")
    code = f"{CALL}print(call('shmget', 4711, 0, 0))"
    try:
        assert run_python(code).text == "ENOENT"
        found = int(run_python(code, wrapper=None).text)
    finally:
        os.system("ipcrm -M 4711")
    assert found >= 0


def test_posix_message_queues_of_others_are_out_of_reach(run_python, neighbour):
    neighbour("assert call('mq_open', b'/theirs', 0o100 | 2, 0o600, None) >= 0")
    code = (
        f"{CALL}print(call('mq_open', b'/theirs', 2), os.path.exists('/dev/mqueue/theirs'),"
        "call('mq_open', b'/own', 0o100 | 2, 0o600, None) >= 0, os.listdir('/dev/mqueue'))"
    )
    try:
        assert run_python(code).text == "ENOENT False True ['own']"
        outside = run_python(code, wrapper=None).text.split()
    finally:
        for name in ("theirs", "own"):
            Path("/dev/mqueue", name).unlink(missing_ok=True)
    assert outside[1:3] == ["True", "True"]


def test_a_change_of_the_machines_name_does_not_reach_the_job(start_job):
    name = socket.gethostname()
    code = (
        "import os, time; print('ready', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "print(os.uname().nodename)"
    )
    try:
        seen = []
        for wrapper in ({}, {"wrapper": None}):
            socket.sethostname(name)
            job = start_job(["/usr/bin/python3", "-I", "-c", code], **wrapper)
            job.wait_for(b"ready")
            socket.sethostname("renamed")
            (job.scratch / "go").touch()
            seen.append(job.wait().text.split()[1])
    finally:
        socket.sethostname(name)
    assert seen == [name, "renamed"]


def test_proc_is_fresh(run_python):
    code = "import os; print(os.readlink('/proc/self'), os.stat('/proc').st_dev)"
    number, device = run_python(code).text.split()
    assert number == "2"
    assert int(device) != os.stat("/proc").st_dev
    outside = run_python(code, wrapper=None).text.split()
    assert outside[0] != "2"
    assert int(outside[1]) == os.stat("/proc").st_dev


@pytest.fixture
def own_group():
    """A directory in /sys that belongs to the job's user, as HTCondor makes them."""
    group = Path("/sys/fs/cgroup/pids/of-the-job")
    group.mkdir()
    os.chown(group, ALICE, ALICE)
    yield group
    for directory in (group / "inner", group):
        if directory.exists():
            directory.rmdir()


def test_sys_and_everything_below_it_is_read_only(run_python, own_group):
    code = (
        f"{CALL}print(tried(os.mkdir, '{own_group}/inner'), tried(os.chmod, '{own_group}', 0o700))"
    )
    assert run_python(code).text == "EROFS EROFS"
    assert run_python(code, wrapper=None).text == "done done"


@pytest.mark.parametrize("path", ["/tmp", "/var/tmp"])
def test_a_temporary_directory_is_private_and_kept_in_the_scratch(run_python, path):
    theirs = Path(path, "theirs")
    theirs.touch()
    code = (
        f"import os; print(os.listdir('{path}')); open('{path}/own', 'w').write('text');"
        f"print(oct(os.stat('{path}').st_mode), os.stat('{path}').st_uid)"
    )
    try:
        result = run_python(code)
        outside = run_python(code, wrapper=None)
    finally:
        theirs.unlink()
        Path(path, "own").unlink(missing_ok=True)
    assert result.text == f"[]\n0o40700 {ALICE}"
    assert "theirs" in outside.text
    backing = result.scratch / path[1:] / "own"
    assert backing.read_text() == "text"
    assert backing.stat().st_uid == ALICE
    assert not Path(path, "own").exists()


def test_a_temporary_directory_of_an_earlier_start_is_used_again(run_python):
    def earlier(scratch):
        (scratch / "tmp").mkdir()
        os.chown(scratch / "tmp", ALICE, ALICE)
        (scratch / "tmp" / "checkpoint").touch()

    result = run_python("import os; print(os.listdir('/tmp'))", prepare=earlier)
    assert result.text == "['checkpoint']"


def test_temporary_directories_have_the_size_of_the_policy(run_python):
    code = f"""{CALL}
from pathlib import Path
print(tried(Path('/tmp/small').write_bytes, bytes(1 << 20)),
      tried(Path('/tmp/large').write_bytes, bytes(9 << 20)))"""
    sized = run_python(code, policy={"tmp_size": str(8 << 20)})
    assert sized.text == "done ENOSPC"
    assert not (sized.scratch / "tmp").exists()
    assert run_python(code).text == "done done"


def test_shared_memory_is_private_and_has_the_size_of_the_policy(run_python):
    code = f"""{CALL}
from pathlib import Path
size = os.statvfs('/dev/shm')
print(os.listdir('/dev/shm'), size.f_blocks * size.f_frsize, oct(os.stat('/dev/shm').st_mode),
      tried(Path('/dev/shm/own').write_bytes, bytes(9 << 20)))"""
    Path("/dev/shm/theirs").touch()
    try:
        inside = run_python(code, policy={"shm_size": str(8 << 20)}).text
        outside = run_python(code, wrapper=None).text
    finally:
        Path("/dev/shm/theirs").unlink()
        Path("/dev/shm/own").unlink(missing_ok=True)
    assert inside == f"[] {8 << 20} 0o41777 ENOSPC"
    assert "theirs" in outside
    assert outside.endswith("done")


def test_a_job_has_terminals_of_its_own(run_python):
    code = """
import os
master, slave = os.openpty()
os.write(master, b'line\\n')
print(os.ttyname(slave), os.read(slave, 9), sorted(os.listdir('/dev/pts')))"""
    master, slave = os.openpty()
    try:
        theirs = os.path.basename(os.ttyname(slave))
        assert run_python(code).text == "/dev/pts/0 b'line\\n' ['0', 'ptmx']"
        assert f"'{theirs}'" in run_python(code, wrapper=None).text
    finally:
        os.close(master)
        os.close(slave)


def test_other_sandboxes_do_not_exist_and_the_own_one_is_at_its_usual_path(run_python, neighbour):
    other = neighbour("open('secret', 'w').write('secret')")
    code = f"""{CALL}
print(os.listdir('{EXECUTE}'), tried(open, '{other.scratch}/secret'),
      tried(os.mkdir, '{EXECUTE}/new'), tried(open, '{other.scratch}/secret', 'w'))
print(os.environ['_CONDOR_SCRATCH_DIR'] == os.getcwd(), os.stat('.').st_ino)"""
    result = run_python(code)
    first, second = result.text.splitlines()
    assert first == f"['dir_{result.sandbox.name[4:]}'] ENOENT EROFS ENOENT"
    assert second == f"True {result.scratch.stat().st_ino}"
    outside = run_python(code, wrapper=None).text
    assert f"'{other.sandbox.name}'" in outside
    assert "] done EACCES done" in outside


def test_every_other_execute_directory_is_empty(run_python, place):
    (place / "dir_1").mkdir()
    policy = {"execute": [EXECUTE, str(place), "/nowhere"]}
    code = f"{CALL}print(os.listdir('{place}'), tried(os.mkdir, '{place}/new'))"
    assert run_python(code, policy=policy).text == "[] EROFS"
    assert run_python(code).text == "['dir_1'] done"


def test_a_hidden_directory_is_empty_and_a_hidden_file_has_no_content(run_python, place):
    (place / "directory").mkdir()
    (place / "directory" / "inner").touch()
    (place / "file").write_text("secret")
    for path in place.rglob("*"):
        os.chown(path, ALICE, ALICE)
    hidden = [f"{place}/directory", f"{place}/file", f"{place}/absent"]
    code = f"""{CALL}
os.chdir('{place}')
print(sorted(os.listdir()), os.listdir('directory'), os.path.getsize('file'),
      tried(open, 'directory/new', 'w'), tried(os.chmod, 'file', 0o600))"""
    inside = run_python(code, policy={"hide": hidden}).text
    assert inside == "['directory', 'file'] [] 0 EROFS EROFS"
    assert run_python(code).text == "['directory', 'file'] ['inner'] 6 done done"


def test_a_read_only_path_cannot_be_written(run_python, place):
    (place / "inner").mkdir()
    os.chown(place / "inner", ALICE, ALICE)
    code = f"{CALL}print(*(tried(open, f'{place}/{{p}}', 'w') for p in ('new', 'inner/new')))"
    assert run_python(code, policy={"read_only": [str(place)]}).text == "EROFS EROFS"
    assert run_python(code).text == "done done"


def test_a_mount_below_a_read_only_path_is_read_only_too(run_python, place, mounted):
    (place / "inner").mkdir()
    mounted("tmpfs", place / "inner", "mode=1777")
    code = f"{CALL}print(tried(open, '{place}/inner/new', 'w'))"
    assert run_python(code, policy={"read_only": [str(place)]}).text == "EROFS"
    assert run_python(code).text == "done"


def test_a_bind_shows_its_source_at_its_destination_with_its_access(run_python, place):
    for name in ("source", "target"):
        (place / name).mkdir()
        os.chown(place / name, ALICE, ALICE)
    (place / "source" / "data").write_text("data")
    code = f"""{CALL}
print(os.listdir('{place}/target'), tried(open, '{place}/target/new', 'w'))"""
    bind = (f"{place}/source", f"{place}/target")
    assert run_python(code, policy={"bind": [(*bind, "ro")]}).text == "['data'] EROFS"
    assert run_python(code, policy={"bind": [(*bind, "rw")]}).text == "['data'] done"
    assert (place / "source" / "new").exists()
    assert run_python(code).text == "[] done"


def test_setuid_files_on_a_bind_give_nothing_even_without_no_new_privs(run_python, place):
    (place / "id").write_bytes(Path("/usr/bin/id").read_bytes())
    os.chmod(place / "id", 0o4755)
    code = f"import os; os.execv('{place}/id', ['id', '-u'])"
    bind = [(str(place), str(place), "rw")]
    inside = run_python(code, policy={"bind": bind, "modes": {"no-new-privs": "off"}})
    assert inside.text == str(ALICE)
    without = {"bind": bind, "modes": {"no-new-privs": "off", "nosuid": "off"}}
    assert run_python(code, policy=without).text == "0"
    assert run_python(code, wrapper=None).text == "0"


def test_every_mount_is_nosuid_and_only_devices_are_where_devices_may_be(run_python):
    code = "print(open('/proc/self/mountinfo').read())"
    lines = run_python(code).text.splitlines()
    assert len(lines) > 10
    for line in lines:
        path, options = line.split()[4:6]
        assert "nosuid" in options.split(","), line
        if path not in ("/dev", "/dev/pts"):
            assert "nodev" in options.split(","), line
    assert any("nosuid" not in line.split()[5].split(",") for line in mounts())


def test_devices_work_and_none_can_be_made(run_python):
    code = f"""{CALL}
print(tried(open('/dev/null', 'w').write, 'x'), len(open('/dev/urandom', 'rb').read(4)),
      tried(os.mknod, 'device', 0o20600, os.makedev(1, 3)))"""
    assert run_python(code).text == "done 4 EPERM"


def test_no_mount_of_the_job_reaches_the_machine(run_job, start_job):
    before = mounts()
    job = start_job(["/bin/sh", "-c", "echo ready; exec sleep 60"])
    job.wait_for(b"ready")
    assert mounts() == before


def test_a_mount_of_the_machine_made_later_reaches_the_job(start_job, place, mounted):
    """So that autofs and CVMFS work."""
    mounted("tmpfs", place, "mode=755")
    mounted("", place, "", "--make-shared")
    code = (
        "import os, time; print('ready', flush=True)\n"
        f"while not os.path.exists('{place}/late/file'): time.sleep(0.01)\n"
        "print('seen')"
    )
    job = start_job(["/usr/bin/python3", "-I", "-c", code])
    job.wait_for(b"ready")
    (place / "late").mkdir()
    mounted("tmpfs", place / "late", "mode=755")
    (place / "late" / "file").touch()
    assert job.wait(5).text == "ready\nseen"


def test_two_spellings_of_one_place_are_one_place(run_python, place):
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    (place / "source").mkdir()
    policy = {"bind": [(f"{place}/source", f"{place}/link", "ro")], "hide": [f"{place}/real"]}
    assert run_python(f"import os; print(os.listdir('{place}/real'))", policy=policy).text == "[]"


def test_what_a_job_makes_in_a_private_directory_is_not_hidden_or_covered(run_job):
    lists = {"hide": ["/tmp/loop"], "read_only": ["/tmp/loop"]}
    script = "ln -s loop /tmp/loop; ls -l /tmp/loop"
    result = run_job(["/bin/sh", "-c", script], policy=lists)
    assert b"loop -> loop" in result.stdout
