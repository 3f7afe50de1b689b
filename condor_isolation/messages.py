"""Every refusal has a stable id.  The C header, the docs and the Python code take it from here.

Fault says who has to act and what HTCondor does: ``machine`` (the job goes back to Idle, the
machine stops advertising HasIsolation), ``job`` (the job is held by the PREPARE_JOB hook, or
goes back to Idle where there is no hook), ``caller`` (nobody's job: the helper was called by
hand), ``config`` (said by ``condor_isolation check`` and ``apply``; the old policy stays).

This module is on the per-job path: it imports nothing.
"""

from __future__ import annotations

# id, C name, fault, meaning, what to do
MESSAGES = (
    ("CI-001", "NOT_PRIVILEGED", "machine", "the helper runs without root's rights",
     "chown root and chmod 4755 the helper; look for DISABLE_SETUID, a nosuid mount, "
     "NoNewPrivileges in condor.service, SuspendJobAtExec in the job"),
    ("CI-002", "NOT_STARTER", "caller", "the caller is not the configured condor_starter",
     "the helper is for USER_JOB_WRAPPER only; if a starter was refused, run "
     "condor_isolation apply"),
    ("CI-003", "UID", "machine", "the job's uid is 0 or below ISOLATION_MIN_UID",
     "give jobs another account or lower ISOLATION_MIN_UID"),
    ("CI-004", "NO_POLICY", "machine", "the compiled policy cannot be read",
     "run condor_isolation apply"),
    ("CI-005", "UNTRUSTED_PATH", "machine", "a file or one of its parents may be written by others than root",
     "chown root and chmod go-w what is named"),
    ("CI-006", "BAD_POLICY", "machine", "the compiled policy is truncated, edited by hand or malformed",
     "run condor_isolation apply"),
    ("CI-007", "OTHER_VERSION", "machine", "the compiled policy is of another format version",
     "run condor_isolation apply of the installed package"),
    ("CI-008", "STALE_POLICY", "machine", "HTCondor's configuration changed after the policy was compiled",
     "run condor_isolation apply"),
    ("CI-009", "ARGUMENTS", "caller", "the helper's arguments are not those of USER_JOB_WRAPPER",
     "set USER_JOB_WRAPPER to the installed wrapper and run condor_isolation apply"),
    ("CI-010", "INHERITED", "machine", "what the helper inherited cannot be made safe",
     "see the reason; report it as a bug"),
    ("CI-011", "NO_PLANNER", "machine", "the planner cannot be started",
     "install python3 and the wrapper again, run condor_isolation apply"),
    ("CI-012", "PLANNER_FAILED", "job", "the planner crashed or took too long",
     "look at the job's ad for what is odd in it; report it as a bug"),
    ("CI-013", "BAD_PLAN", "job", "the planner wrote no valid plan",
     "report it as a bug"),
    ("CI-014", "SANDBOX", "machine", "the job's sandbox is not where HTCondor puts it",
     "check EXECUTE, run condor_isolation apply"),
    ("CI-015", "CONTROL", "machine", "a required control cannot be put in force",
     "see the reason; set ISOLATION_<CONTROL>_MODE = prefer to run without it"),
    ("CI-016", "READ_BACK", "machine", "a control is not in force although it was set",
     "report it as a bug"),
    ("CI-017", "CHROOT", "machine", "the directory of a named chroot cannot be used",
     "run condor_isolation check"),
    ("CI-018", "MOUNT_POINT", "machine", "a directory or file that is needed as mount point is missing",
     "run condor_isolation apply, which makes it, or make it by hand"),
    ("CI-019", "DROP", "machine", "root's rights could not be given up",
     "report it as a bug"),
    ("CI-020", "EXEC", "job", "the job's command cannot be run",
     "check executable and interpreter line; in a named chroot both are looked up inside it"),
    ("CI-021", "UNKNOWN_CHROOT", "job", "the job asks for a chroot that is not offered here",
     "ask for one that is offered"),
    ("CI-022", "CHROOT_DENIED", "job", "the job's user may not use this chroot",
     "ask the administrator to add the user to NAMED_CHROOT_<NAME>_USERS or _GROUPS"),
    ("CI-023", "CWD", "job", "the job's working directory does not exist inside the isolation",
     "set should_transfer_files = YES, or ask the administrator for an ISOLATION_BIND"),
    ("CI-024", "LIMIT", "job", "the job asks for more than the machine's policy gives",
     "ask for less"),
    ("CI-025", "AD", "job", "the job ad or machine ad is missing, too big or malformed",
     "do not transfer files named .job.ad or .machine.ad"),
    ("CI-026", "ATTRIBUTE", "job", "an attribute of the job ad has the wrong type or value",
     "see the reason"),
    ("CI-027", "EXPRESSION", "job", "an expression of the policy gives no usable value for this job",
     "see the reason; the administrator finds the knob with condor_isolation check"),
    ("CI-028", "SSHD", "caller", "condor_ssh_to_job cannot join an isolated job yet",
     "submit the debugging session as a job"),
    ("CI-029", "SUPERVISOR", "machine", "the job's init or monitor failed",
     "report it as a bug"),
    ("CI-030", "DISABLED", "machine", "the job could not be started with ISOLATION_ENABLE = False",
     "see the reason"),
)  # fmt: skip

BY_ID = {row[0]: row for row in MESSAGES}
BY_NAME = {row[1]: row for row in MESSAGES}


def message(name: str, reason: str) -> str:
    """Return the one line that users see for the message with this C name."""
    ident, _name, _fault, _meaning, remedy = BY_NAME[name]
    return f"{ident}: {reason}; {remedy}"
