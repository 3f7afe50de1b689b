"""The node runner, called for real: needs root, and builds its root once if there is none."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

NODE = Path(__file__).resolve().parents[2] / "docker" / "node"
BUILD_SECONDS = 300
PATIENCE = 5.0

FOUR_JOBS = """
cd /home/alice
cat >job <<'END'
#!/bin/sh
id -un
touch running.$1
sleep 2
echo $(ls running.* | wc -l) at once
cat /proc/self/cgroup
END
cat >submit <<'END'
executable = job
arguments = $(Process)
output = out.$(Process)
log = log
queue 4
END
chmod +x job
chown alice: job submit
su alice -c 'condor_submit submit && condor_wait -wait 60 log' >&2
cat out.*
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="boots machines: needs root")


def node(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(NODE), *words],
        check=check,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=BUILD_SECONDS,
    )


def sh(script: str, *options: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return node("run", "--no-pool", *options, "--", "sh", "-c", script, check=check)


def soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def cgroups_of(runner: int) -> list[Path]:
    return list(Path("/sys/fs/cgroup").rglob(f"condor-isolation-node-{runner}"))


def processes_with(word: str) -> list[str]:
    """Each caller brings a word of its own: other nodes may run on this machine."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if word in words:
            found.append(process.name)
    return found


class Runner:
    """A node whose command leaves a daemon and then waits."""

    def __init__(self, seconds: int) -> None:
        self.word = str(seconds)
        script = f"setsid sleep {seconds} & echo up; exec sleep {seconds}"
        self.process = subprocess.Popen(
            [str(NODE), "run", "--no-pool", "--", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"
        assert soon(lambda: len(processes_with(self.word)) == 2)
        assert cgroups_of(self.process.pid)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    node("build")


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
        (["/no/such/command"], 127),
        (["/etc/hosts"], 126),
    ],
)
def test_the_exit_status_of_the_command_is_returned(command: list[str], status: int) -> None:
    assert node("run", "--no-pool", "--", *command, check=False).returncode == status


def test_the_command_gets_its_words_as_they_are() -> None:
    said = node("run", "--no-pool", "--", "printf", "%s|", "a b", "--", "--no-pool", "").stdout
    assert said == "a b|--|--no-pool||"


def test_each_run_starts_clean() -> None:
    touched = "/root/touched /etc/touched /tmp/touched /var/lib/condor/execute/touched"
    sh(f"touch {touched}; rm /bin/true")
    assert sh(f"ls {touched} 2>/dev/null; ls /bin/true", check=False).stdout == "/bin/true\n"


def test_the_machine_outside_is_not_to_be_seen() -> None:
    script = (
        "hostname; ls /sys/class/net; ls -d /proc/[0-9]* | wc -l; cut -d: -f3 /proc/self/cgroup"
    )
    said = sh(script)
    hostname, network, processes, *groups = said.stdout.split()
    assert (hostname, network) == ("node", "lo")
    assert int(processes) < 10
    assert set(groups) == {"/"}


def test_users_of_a_node_can_make_namespaces_and_mount_a_fresh_proc() -> None:
    script = "unshare --user --map-root-user --mount --pid --fork --mount-proc ps -o pid= -e"
    said = sh(f"su alice -c '{script}'").stdout
    assert said.split() == ["1"]


def test_scratch_space_can_be_the_upper_layer_of_an_overlay() -> None:
    layers = "lowerdir=lower,upperdir=upper,workdir=work"
    sh(
        "cd /var/lib/condor/execute && mkdir lower upper work merged && "
        f"mount -t overlay -o {layers} overlay merged"
    )


def test_binds_appear_and_read_only_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text\n")
    options = ["--bind", f"{tmp_path}:/a/new/place:ro", "--bind", f"{tmp_path}/file:/etc/motd"]
    said = sh("cat /a/new/place/file /etc/motd; touch /a/new/place/x || echo refused", *options)
    assert said.stdout == "text\ntext\nrefused\n"


def test_the_environment_is_only_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "1")
    names = {line.split("=")[0] for line in sh("env", "--env", "ASKED=a=b").stdout.splitlines()}
    assert "ASKED" in names
    assert "OF_THE_CALLER" not in names


def test_nothing_of_a_node_is_left_behind() -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    script = "setsid sleep 86401 & for top in /sys/fs/cgroup/*/; do mkdir -p $top/deep/er; done"
    process = subprocess.Popen([str(NODE), "run", "--", "sh", "-c", script])
    assert process.wait(60) == 0
    assert processes_with("86401") == []
    assert cgroups_of(process.pid) == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_runner_leaves_nothing_behind(number: signal.Signals) -> None:
    runner = Runner(86410 + number)
    assert runner.end(number) == 128 + number
    assert processes_with(runner.word) == []
    assert cgroups_of(runner.process.pid) == []


def test_a_killed_runner_takes_its_node_with_it_and_the_next_run_removes_its_cgroups() -> None:
    runner = Runner(86402)
    assert runner.end(signal.SIGKILL) == -signal.SIGKILL
    assert soon(lambda: processes_with(runner.word) == [])
    assert cgroups_of(runner.process.pid)
    assert f"condor-isolation-node-{runner.process.pid}" in sh("true").stderr
    assert cgroups_of(runner.process.pid) == []


@pytest.mark.parametrize("options", [[], ["--release", "trixie"], ["--uml"]], ids=" ".join)
def test_four_jobs_run_at_once_as_their_user_in_cgroups_of_their_own(options: list[str]) -> None:
    said = node("run", *options, "--", "sh", "-c", FOUR_JOBS).stdout.splitlines()
    assert said.count("alice") == 4
    assert said.count("4 at once") == 4
    assert len({line for line in said if "/htcondor/" in line and "slot1_" in line}) >= 4


def test_a_kernel_of_its_own_has_version_2_cgroups_and_hands_everything_through(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("text\n")
    options = ["--uml", "--bind", f"{tmp_path}:/a place:ro", "--env", "ASKED=a 'b' c"]
    script = """
        cat "/a place/file"; echo "$ASKED"
        cat /sys/fs/cgroup/cgroup.controllers
        seq 100000 | tail -n 1
        echo problem >&2
        exit 7
    """
    done = sh(script, *options, check=False)
    assert done.returncode == 7
    text, asked, controllers, last = done.stdout.splitlines()
    assert (text, asked, last) == ("text", "a 'b' c", "100000")
    assert {"cpu", "io", "memory", "pids"} <= set(controllers.split())
    assert done.stderr == "problem\n"


def test_a_pool_that_does_not_start_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("this is no configuration\n")
    bind = f"{tmp_path}/bad:/etc/condor/config.d/99-bad:ro"
    done = node("run", "--bind", bind, "--", "true", check=False)
    assert done.returncode == 125
    assert "condor_master has ended" in done.stderr
    assert "99-bad" in done.stderr


def test_a_pool_without_slots_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    (tmp_path / "few").write_text("DAEMON_LIST = MASTER COLLECTOR SCHEDD\n")
    bind = f"{tmp_path}/few:/etc/condor/config.d/99-few:ro"
    done = node("run", "--env", "POOL_WAIT=2", "--bind", bind, "--", "true", check=False)
    assert done.returncode == 125
    assert "no usable slot in the collector after 2 s" in done.stderr
    assert "MasterLog" in done.stderr


def test_whoever_is_not_root_is_told_so() -> None:
    done = subprocess.run(
        ["unshare", "--user", str(NODE), "build"],
        check=False,
        capture_output=True,
        encoding="utf-8",
    )
    assert (done.returncode, done.stderr) == (125, "node: must run as root\n")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["build", "--release", "potato"], "potato"),
        (["chroot", "potato"], "unknown release potato"),
        (["chroot", "../up", "--release", "bookworm"], "is not a name"),
        (["run", "--bind", "/no/such:/x", "--", "true"], "there is no /no/such"),
        (["run", "--env", "NAME", "--", "true"], "is not NAME=VALUE"),
    ],
)
def test_a_wrong_argument_is_refused_with_a_reason(words: list[str], reason: str) -> None:
    done = node(*words, check=False)
    assert done.returncode != 0
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
