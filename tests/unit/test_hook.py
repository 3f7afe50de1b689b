"""The PREPARE_JOB hook: holds for the job's fault, sends back for the machine's, else silent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import classad2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condor_isolation import ads, hook, messages

REPO = Path(__file__).resolve().parents[2]
CLASSAD_DIR = Path(classad2.__file__).parent.parent


def reported(output):
    """Return code and message of OUTPUT as the starter reads them; (None, None) for none."""
    if not output:
        return None, None
    ad = classad2.parseNext(output.decode("ascii"), classad2.ParserType.Old)
    assert len(ad) == 2
    return ad["HookStatusCode"], ad["HookStatusMessage"]


class Machine:
    """A machine with the hook installed below a directory of its own."""

    def __init__(self, top):
        self.top = top
        self.root = top / "chroot"
        (self.root / "bin").mkdir(parents=True)
        self.scratch = top / "scratch"
        self.scratch.mkdir()
        self.program(self.root / "bin/sh", "\x7fELF")
        text = (REPO / "wrappers/prepare-job").read_text()
        text = text.replace("#!/usr/bin/python3", f"#!{sys.executable}")
        text = text.replace("@PYTHONDIR@", str(REPO)).replace("@POLICYDIR@", str(top))
        self.script = self.program(top / "prepare-job", text)
        (self.scratch / ".machine.ad").write_text("Cpus = 2\n")
        self.policy()

    @staticmethod
    def program(path, text):
        path.write_text(text)
        path.chmod(0o755)
        return path

    def policy(self, *lines, enable=1):
        lines = [
            f"enable {enable}",
            f"root EL9 {self.root} ro",
            f"classad-path {CLASSAD_DIR}",
            "private /private",
            "limit pids-max 500",
            *lines,
        ]
        text = "\n".join(["condor-isolation policy 1", *lines, f"end {len(lines)} 0", ""])
        (self.top / "policy").write_text(text)

    def environ(self, iwd=None):
        return {
            "_CONDOR_SCRATCH_DIR": str(self.scratch),
            "_CONDOR_JOB_IWD": str(iwd or self.scratch),
            "_CONDOR_MACHINE_AD": str(self.scratch / ".machine.ad"),
            "PYTHONPATH": "/nowhere",
            "PYTHONSTARTUP": "/nowhere",
        }

    def run(self, job, iwd=None, **more):
        """Run the hook as the starter does; return code and message."""
        done = subprocess.run(
            [self.script],
            input=job.encode(),
            cwd=self.scratch,
            env=self.environ(iwd),
            capture_output=True,
            check=False,
            **more,
        )
        assert done.returncode == 0 or done.stdout, done.stderr
        return reported(done.stdout)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


VANILLA = 'Cmd = "/bin/sh"\nJobUniverse = 5\nTransferExecutable = false\n'


# No output


def test_a_good_job_gets_no_output(machine):
    assert machine.run(VANILLA) == (None, None)
    assert machine.run(VANILLA + 'RequestedChroot = "EL9"\nIsolationPidsMax = 50\n') == (None, None)


@pytest.mark.parametrize("name", hook.ROADS)
@pytest.mark.parametrize("value", ['"/bin/true"', "ifThenElse(isUndefined(TARGET.A), 1, 2)"])
def test_a_road_around_the_wrapper_is_held_however_it_is_written(machine, name, value):
    number, text = machine.run(f"{VANILLA}{name} = {value}\n")
    assert number == 34 and name in text


def test_with_isolation_disabled_nothing_is_checked(machine):
    machine.policy(enable=0)
    assert machine.run('RequestedChroot = "none"\nIsolationPidsMax = "x"\n') == (None, None)


# The job's fault: held


@pytest.mark.parametrize(
    ("attribute", "number", "words"),
    [
        ('RequestedChroot = "SL6"', 21, 'type +RequestedChroot = "EL9"'),
        ('RequestedChroot = "EL8"', 22, "uid"),
        ("RequestedChroot = 9", 26, "RequestedChroot is 9, not a string"),
        ("IsolationPidsMax = 501", 24, "ceiling here is 500 processes"),
        ('IsolationCpuMax = "two"', 26, 'the string "two", not a number'),
        ("IsolationCpuMax = 1/0", 26, "IsolationCpuMax is error"),
    ],
)
def test_a_fault_of_the_job_holds_it_with_the_number_of_the_message(
    machine, attribute, number, words
):
    machine.policy("root EL8 /x ro", "root-user EL8 4294967294")
    code, text = machine.run(VANILLA + attribute + "\n")
    assert code == number
    assert words in text
    assert text.startswith(f"CI-{number:03}: ")


@pytest.mark.parametrize("job", ["", "rubbish", "A = 1\n\0"])
def test_no_job_ad_holds_the_job(machine, job):
    assert machine.run(job)[0] == 25


def test_a_job_ad_of_megabytes_holds_the_job(machine):
    assert machine.run("A = 1\n" * 1_000_000)[0] == 25


def test_a_machine_ad_that_the_job_replaced_holds_the_job(machine):
    (machine.scratch / ".machine.ad").unlink()
    os.mkfifo(machine.scratch / ".machine.ad")
    code, text = machine.run(VANILLA + "IsolationPidsMax = TARGET.Cpus\n")
    assert code == 25
    assert "not a regular file" in text


def test_attributes_that_grow_without_end_hold_the_job(machine):
    bomb = "".join(f"B{i} = strcat(B{i - 1}, B{i - 1})\n" for i in range(1, 40))
    code, _text = machine.run(VANILLA + f'B0 = "{"x" * 50}"\n{bomb}IsolationPidsMax = size(B39)\n')
    assert code in (12, 26)


def test_a_planner_that_is_killed_holds_the_job(machine, monkeypatch, capfdbinary):
    def die(*_arguments):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(hook, "verdict", die)
    monkeypatch.setattr(ads, "read_all", lambda fd, _most: b"" if fd == 0 else os.read(fd, 1))
    hook.main(str(machine.top / "policy"), {})
    code, text = reported(capfdbinary.readouterr().out)
    assert code == 12
    assert "signal 9" in text


# The machine's fault: back to Idle


def test_a_missing_policy_sends_the_job_back(machine):
    (machine.top / "policy").unlink()
    code, text = machine.run(VANILLA)
    assert code == 304
    assert "run condor_isolation apply" in text


@pytest.mark.parametrize("data", ["", "rubbish\n", "condor-isolation policy 1\nenable 0\n"])
def test_a_malformed_policy_sends_the_job_back(machine, data):
    (machine.top / "policy").write_text(data)
    assert machine.run(VANILLA)[0] == 306


def test_a_policy_that_is_a_directory_sends_the_job_back(machine):
    (machine.top / "policy").unlink()
    (machine.top / "policy").mkdir()
    assert machine.run(VANILLA)[0] == 304


# The hook's own fault: the job goes on, and its log says so


def test_a_broken_installation_lets_the_job_go_on_with_a_warning(machine):
    text = machine.script.read_text().replace(f'"{REPO}"', '"/nowhere"')
    machine.program(machine.script, text)
    code, text = machine.run(VANILLA)
    assert code == 0
    assert "ModuleNotFoundError" in text


def test_an_exception_lets_the_job_go_on_with_a_warning(machine):
    text = machine.script.read_text().replace("hook.main(", "hook.verdict = None\nhook.main(")
    machine.program(machine.script, text)
    code, text = machine.run(VANILLA)
    assert code == 0
    assert "TypeError" in text


# Command


def in_chroot(*lines):
    return "\n".join(['RequestedChroot = "EL9"', "JobUniverse = 5", *lines, ""])


def test_a_transferred_script_without_its_interpreter_holds_the_job(machine):
    machine.program(machine.scratch / "job.py", "#!/usr/bin/lost\n")
    code, text = machine.run(in_chroot('Cmd = "/home/me/job.py"'))
    assert code == 20
    assert 'in chroot "EL9"' in text
    assert "/usr/bin/lost does not exist" in text


def test_a_transferred_script_with_an_interpreter_of_the_chroot_is_good(machine):
    machine.program(machine.scratch / "job.sh", "#!/bin/sh\n")
    assert machine.run(in_chroot('Cmd = "job.sh"')) == (None, None)


def test_an_absolute_command_that_is_only_on_the_host_holds_the_job(machine):
    job = in_chroot('Cmd = "/usr/bin/env"', "TransferExecutable = false")
    assert machine.run(job)[0] == 20


def test_without_a_chroot_the_command_is_looked_for_on_the_machine(machine):
    assert machine.run('Cmd = "/no"\nTransferExecutable = false\nJobUniverse = 5\n')[0] == 20
    assert machine.run(VANILLA) == (None, None)


def test_a_command_relative_to_a_shared_directory_is_looked_for_through_the_bind(machine):
    home = machine.top / "home"
    home.mkdir()
    machine.program(home / "job.sh", "#!/bin/sh\n")
    machine.policy(f"bind {home} {home} rw")
    job = in_chroot('Cmd = "job.sh"', "TransferExecutable = false")
    assert machine.run(job, iwd=home) == (None, None)
    machine.policy()
    assert machine.run(job, iwd=home)[0] == 20


def test_a_bind_of_this_chroot_counts_and_that_of_another_does_not(machine):
    (machine.top / "sw").mkdir()
    machine.program(machine.top / "sw/tool", "#!/bin/sh\n")
    job = in_chroot('Cmd = "/sw/tool"', "TransferExecutable = false")
    machine.policy(f"root-bind EL9 {machine.top}/sw /sw ro")
    assert machine.run(job) == (None, None)
    machine.policy(f"root-bind EL8 {machine.top}/sw /sw ro")
    assert machine.run(job)[0] == 20


@pytest.mark.parametrize(
    "line",
    [
        'ContainerImage = "image.sif"',
        "WantContainer = true",
        "WantDocker = true",
        "PreserveRelativeExecutable = true",
        "JobUniverse = 10",
        'JobUniverse = "5"',
        "Cmd = 5",
        'Cmd = ""',
        'Cmd = "/proc/1/exe"',
        'Cmd = "/private/job"',
    ],
)
def test_a_command_that_the_hook_cannot_judge_is_left_to_the_helper(machine, line):
    job = in_chroot('Cmd = "no"', "TransferExecutable = false", line)
    assert machine.run(job) == (None, None)


# Output


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300))
def test_every_printable_message_arrives_whole(text):
    if not text.endswith("\\"):  # no remedy ends so
        assert reported(hook.status(21, text)) == (21, text)


def test_no_message_of_a_job_fault_has_a_number_that_means_idle():
    for ident, _name, fault, _meaning, remedy in messages.MESSAGES:
        if fault == "job":
            assert 1 <= int(ident[3:]) <= 299
        assert not remedy.endswith("\\")
