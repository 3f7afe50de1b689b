"""Ids, capabilities and other rights of the job's processes and of those that watch over it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import CALL, wait_until
from .starter import ALICE, GROUPS

NO_CAPABILITIES = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16)


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def family(start_job):
    """The processes of a running job: monitor, init, job."""

    def start(**how):
        job = start_job(["/bin/sh", "-c", "echo ready; exec sleep 60"], **how)
        job.wait_for(b"ready")
        (init,) = children(job.pid)
        (main,) = children(init)
        return job.pid, init, main

    return start


def test_no_process_of_the_job_has_any_right_of_roots(family):
    for pid in family():
        status = status_of(pid)
        assert status["Uid"].split() == [str(ALICE)] * 4
        assert status["Gid"].split() == [str(ALICE)] * 4
        assert status["Groups"].split() == [str(gid) for gid in sorted(GROUPS)]
        assert {key: status[key] for key in NO_CAPABILITIES} == NO_CAPABILITIES
        assert status["NoNewPrivs"] == "1"


def test_the_groups_are_the_ones_of_a_job_without_isolation(run_python):
    code = "import os; print(os.getgroups(), os.getresgid(), os.getresuid())"
    for groups in ([], [ALICE], list(GROUPS), list(range(3000, 3200))):
        assert run_python(code, groups=groups).text == (
            run_python(code, groups=groups, wrapper=None).text
        )


def test_without_no_new_privs_the_bounding_set_is_still_empty(family):
    *_watchers, main = family(policy={"modes": {"no-new-privs": "off"}})
    status = status_of(main)
    assert status["NoNewPrivs"] == "0"
    assert {key: status[key] for key in NO_CAPABILITIES} == NO_CAPABILITIES


def test_a_setuid_program_gives_nothing(run_job):
    assert run_job(["/usr/bin/env", "su", "-c", "id -u"]).exit_status != 0
    command = ["/usr/bin/python3", "-c", "import os; os.execv('/srv/id', ['id', '-u'])"]
    program = Path("/srv/id")
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    try:
        assert run_job(command).text == str(ALICE)
        assert run_job(command, wrapper=None).text == "0"
    finally:
        program.unlink()


def test_nobody_of_the_same_user_can_inspect_those_who_watch_over_the_job(family, neighbour):
    """What they have in memory came from root-owned files."""
    monitor, init, main = family()
    code = f"""
for pid in ({monitor}, {init}, {main}):
    print(pid, tried(open, f'/proc/{{pid}}/mem', 'rb'), call('ptrace', 16, pid, 0, 0),
          tried(os.readlink, f'/proc/{{pid}}/exe'))"""
    seen = neighbour(code).wait_for(b"ready").decode().splitlines()
    assert seen[:2] == [f"{pid} EACCES EPERM EACCES" for pid in (monitor, init)]


def test_the_job_cannot_inspect_its_init(run_python):
    code = f"{CALL}print(tried(open, '/proc/1/mem', 'rb'), call('ptrace', 16, 1, 0, 0))"
    assert run_python(code).text == "EACCES EPERM"
    own = f"{CALL}print(tried(open, '/proc/self/mem', 'rb'))"
    assert run_python(own).text == "done"


def test_the_job_itself_can_be_debugged_and_dump_core(run_python):
    assert run_python(f"{CALL}print(call('prctl', 3, 0, 0, 0, 0))").text == "1"


@pytest.mark.parametrize("extra", [3, 5, 255, 4000])
def test_no_descriptor_but_the_standard_ones_reaches_the_job(run_python, extra):
    def leak():
        directory = os.open("/", os.O_RDONLY)
        os.set_inheritable(directory, True)
        os.dup2(directory, extra)

    code = f"import os; print(os.path.lexists('/proc/self/fd/{extra}'))"
    assert run_python(code, before_exec=leak).text == "False"
    assert run_python(code, before_exec=leak, wrapper=None).text == "True"


def test_those_who_watch_hold_no_file_of_the_job_or_of_root(family):
    def held(pid):
        return {fd.name: os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}

    for pid in family()[:2]:
        # They let go once the job runs, which may have written already.
        wait_until(lambda pid=pid: [held(pid)[fd] for fd in "012"] == ["/dev/null"] * 3)
        for target in held(pid).values():
            assert target.startswith("socket:") or target == "/dev/null", (pid, held(pid))


def test_the_job_runs_in_a_session_of_its_own(run_python):
    code = "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0))"
    assert run_python(code).text == run_python(code, wrapper=None).text == "True"
