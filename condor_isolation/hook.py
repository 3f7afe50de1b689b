"""What the PREPARE_JOB hook tells the starter: hold this job, send it back, or nothing.

The hook is a courtesy: it gives the user a message where the helper, which decides again, can
only send the job back to Idle.  So a fault of the hook itself must not stop a job.

HTCondor (StarterHookMgr.cpp, 24.8 and later): a HookStatusCode on standard output overrides the
exit status; 1 to 299 hold the job (code 19, subcode ours) with HookStatusMessage, 300 and more
send it back to Idle, 0 with a message only writes the message to the job's log.  An exit status
without a HookStatusCode counts the same, so a Python traceback (1) would hold the job.  Death by
a signal sends it back to Idle.
"""

from __future__ import annotations

import posix
import resource

from . import ads, command, planner, records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MACHINE_FAULT = 300  # added to the number of the message
UNIVERSES = (5, 11, 12)  # vanilla, parallel, local: Cmd is the program
# SuspendJobAtExec is traced, and so takes the helper's rights away.
ROADS = ("PreCmd", "PostCmd", "ToolDaemonCmd", "SuspendJobAtExec", "TransferPlugins")
CONTAINER_ATTRIBUTES = (
    "WantContainer",
    "ContainerImage",
    "WantDocker",
    "WantDockerImage",
    "DockerImage",
    "SingularityImage",
)

# A job's expressions can eat memory and time, and the hook is in no cgroup of the job's.
ADDRESS_BYTES_MAX = 1 << 30
CPU_SECONDS_MAX = 10


def main(policy_file: str, environ: Mapping[bytes, bytes]) -> None:
    """Judge the job ad on standard input, write the verdict to standard output."""
    data = ads.read_all(0, ads.AD_BYTES_MAX + 1)
    reader, writer = posix.pipe()
    child = posix.fork()
    if child == 0:
        posix.close(reader)
        _limit_self()
        _write(writer, verdict(policy_file, data, environ))
        posix._exit(0)
    posix.close(writer)
    text = ads.read_all(reader, 1 << 16)
    status = posix.waitpid(child, 0)[1]
    if posix.WIFSIGNALED(status):
        reason = f"killed by signal {posix.WTERMSIG(status)} over the job's attributes"
        text = refused(planner.Refusal("PLANNER_FAILED", reason))
    elif status:
        return  # an exception, which the child's excepthook has told
    _write(1, text)


def _limit_self() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))


def _write(fd: int, text: bytes) -> None:
    while text:
        text = text[posix.write(fd, text) :]


def verdict(policy_file: str, job: bytes, environ: Mapping[bytes, bytes]) -> bytes:
    """Return the hook's output for the job ad JOB: empty if the job may start."""
    try:
        policy = read_policy(policy_file)
        if policy.only("enable") == "0":
            return b""
        check(policy, job, environ)
    except planner.Refusal as refusal:
        return refused(refusal)
    return b""


def read_policy(path: str) -> planner.Policy:
    """Return the installed policy.  Raise planner.Refusal, at the machine's cost."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        try:
            data = ads.read_all(fd, records.POLICY_BYTES_MAX + 1)
        finally:
            posix.close(fd)
        return planner.Policy(data)
    except OSError as error:
        raise planner.Refusal("NO_POLICY", f"{path}: {error.strerror}") from None
    except records.RecordError as error:
        raise planner.Refusal("BAD_POLICY", f"{path}: {error}") from None


def check(policy: planner.Policy, job: bytes, environ: Mapping[bytes, bytes]) -> None:
    """Raise planner.Refusal if the job cannot start under POLICY."""
    machine = environ.get(b"_CONDOR_MACHINE_AD", b".machine.ad").decode("utf-8", "surrogateescape")
    try:
        ads.check_ad("the job ad", job)
        job_ads = ads.JobAds(job, lambda: ads.read_ad(machine), policy.only("classad-path"))
        refuse_roads(job_ads)
        plan = planner.make_plan(policy, job_ads, posix.getuid(), planner.own_gids())
        root = next((record[1] for record in plan if record[0] == "root"), "")
        check_command(policy, job_ads, root, environ)
    except ads.AdError as error:
        raise planner.Refusal("AD", str(error)) from None


def refuse_roads(job_ads: ads.JobAds) -> None:
    """Raise planner.Refusal for what HTCondor would run without the wrapper.

    START refuses the plain values; an expression can hide from it, not from the mere name.
    """
    for name in ROADS:
        if job_ads.has(name):
            raise planner.Refusal("ROAD", f"the job ad holds {name}")


def check_command(
    policy: planner.Policy, job_ads: ads.JobAds, root: str, environ: Mapping[bytes, bytes]
) -> None:
    """Raise planner.Refusal if the job's command cannot be run in the chroot ROOT ("": none)."""
    scratch, iwd = (
        environ.get(name, b"").decode("utf-8", "surrogateescape")
        for name in (b"_CONDOR_SCRATCH_DIR", b"_CONDOR_JOB_IWD")
    )
    path = command_path(job_ads, scratch, iwd)
    if not path:
        return
    problem = command.command_problem(view_of(policy, root, scratch), path)
    if problem:
        where = f"in chroot {planner.quoted(root)} " if root else ""
        raise planner.Refusal("EXEC", where + problem)


def view_of(policy: planner.Policy, root: str, scratch: str) -> command.View:
    """Return the files that a job in the chroot ROOT ("": none) will see."""
    binds = [*policy.rows("bind"), *policy.rows(f"root-bind {root}")]
    mounts = [(inside, host) for host, inside, _access in binds]
    mounts.append((scratch, scratch))
    private = [row[0] for row in policy.rows("private")]
    return command.View(policy.only(f"root {root}") if root else "/", mounts, private)


def command_path(job_ads: ads.JobAds, scratch: str, iwd: str) -> str:
    """Return the path that the starter will run, '' if that is not certain.

    Follows OsProc::canonicalizeJobPath of the starter; with file transfer the job's directory
    is the scratch directory.
    """
    try:
        name = job_ads.job_value("Cmd")
        transfer = job_ads.job_value("TransferExecutable")
        relative = job_ads.job_value("PreserveRelativeExecutable")
        contained = any(job_ads.job_value(a) is not None for a in CONTAINER_ATTRIBUTES)
        universe = job_ads.job_value("JobUniverse")
    except ads.ExpressionError:
        return ""
    if not isinstance(name, str) or not name or contained or universe not in UNIVERSES:
        return ""
    if not scratch or not iwd or relative:
        return ""
    if iwd == scratch and transfer is not False:
        return f"{scratch}/{name.rpartition('/')[2]}"
    return name if name[0] == "/" else f"{iwd}/{name}"


def refused(refusal: planner.Refusal) -> bytes:
    """Return the output that holds the job, or sends it back to Idle if the machine is to blame."""
    _refuse, fault, ident, text = planner.refusal_record(refusal)
    number = int(ident.rpartition("-")[2])
    return status(number if fault == "job" else MACHINE_FAULT + number, text)


def status(code: int, text: str) -> bytes:
    """Return the long-form ad that tells the starter CODE and TEXT (printable ASCII)."""
    escaped = text.replace('"', '\\"')
    return f'HookStatusCode = {code}\nHookStatusMessage = "{escaped}"\n'.encode()
