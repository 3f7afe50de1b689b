"""All that is wrong with the configuration, at once: pure functions of settings and machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Callable

from condor_isolation import records, trust
from condor_isolation.condor import HOOKS_KEEP_CGROUP, Version
from condor_isolation.machine import Machine, binds_of, is_below, nested
from condor_isolation.problems import ERROR, NOTE, WARNING, Problem
from condor_isolation.settings import BY_NAME, Bind, Chroot, Settings

HELPER_NAME = "isolate"
HELPER_MODE = 0o4755
HOOK_KEYWORD = "ISOLATION"
KERNEL_TREES = ("/dev", "/proc", "/sys")
# Attribute of the job, and how users know what it does.
ROADS = (
    ("PreCmd", "+PreCmd"),
    ("PostCmd", "+PostCmd"),
    ("ToolDaemonCmd", "tool_daemon_cmd"),
    ("TransferPlugins", "transfer_plugins"),
    ("SuspendJobAtExec", "+SuspendJobAtExec"),
    ("WantDocker", "the docker universe"),
    ("JobUniverse", "the vm universe"),
)
# First version of HTCondor with the knob that closes the road, and the knob.
PRE_POST_CMD: Version = (25, 11, 0)


class Checker:
    """Settings and machine, and the problems found so far."""

    def __init__(self, settings: Settings, machine: Machine) -> None:
        self.settings = settings
        self.machine = machine
        self.config = machine.config
        self.problems: list[Problem] = []

    def add(self, severity: str, name: str, knob: str, what: str, remedy: str) -> None:
        found = self.config.knobs.get(knob.upper())
        place = found.place if found else ""
        self.problems.append(Problem(severity, name, place, knob, what, remedy))

    def error(self, name: str, knob: str, what: str, remedy: str) -> None:
        self.add(ERROR, name, knob, what, remedy)

    def warn(self, name: str, knob: str, what: str, remedy: str) -> None:
        self.add(WARNING, name, knob, what, remedy)


def check(settings: Settings, machine: Machine) -> tuple[Problem, ...]:
    """Given settings that were read and the facts about them, return every problem."""
    checker = Checker(settings, machine)
    for rule in RULES:
        rule(checker)
    return tuple(dict.fromkeys(checker.problems))


def demote(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return PROBLEMS with no error among them: nothing may keep ISOLATION_ENABLE = False out."""
    return tuple(
        replace(problem, severity=WARNING) if problem.severity == ERROR else problem
        for problem in problems
    )


def _chroots(c: Checker) -> None:
    for root in c.settings.chroots:
        fact = c.machine.paths[root.path]
        if fact.kind != trust.DIRECTORY:
            is_what = "does not exist" if fact.kind == trust.MISSING else "is no directory"
            remedy = "make it, or take the chroot out"
            c.error("MISSING_PATH", root.knob, f"{root.name}: {root.path} {is_what}", remedy)
            continue
        if fact.untrusted:
            c.error(
                "UNTRUSTED", root.knob, f"{root.name}: {fact.untrusted}", "chown root, chmod go-w"
            )
        _chroot_place(c, root)


def _chroot_place(c: Checker, root: Chroot) -> None:
    executes = ((path, "EXECUTE") for path in c.machine.executes)
    private = ((path, "a private directory") for path in c.settings.private)
    for path, what in (*executes, *private):
        if c.machine.is_inside(root.path, path) or c.machine.is_inside(path, root.path):
            why = f"{root.name}: {root.path} and {path} ({what}) are one inside the other"
            c.error("PLACE", root.knob, why, "move the chroot")
    for path in c.settings.hide:
        if c.machine.is_inside(root.path, path):
            why = f"{root.name}: {root.path} is in {path}, which is hidden"
            c.error("PLACE", root.knob, why, "move the chroot or take it out of ISOLATION_HIDE")


def _accounts(c: Checker) -> None:
    for root in c.settings.chroots:
        for accounts, numbers, kind in (
            (root.users, c.machine.users, "user"),
            (root.groups, c.machine.groups, "group"),
        ):
            for account in accounts:
                if numbers.get(account.name) is None:
                    what = f"there is no {kind} {account.name}"
                    c.error("UNKNOWN_NAME", account.knob, what, "correct the name, or make it")


def _binds(c: Checker) -> None:
    for bind in c.settings.binds:
        _bind(c, bind)
        _host_destination(c, bind)
    _same_destination(c, c.settings.binds)
    for root in c.settings.chroots:
        for bind in root.binds:
            _bind(c, bind)
        _same_destination(c, binds_of(c.settings, root))


def _bind(c: Checker, bind: Bind) -> None:
    if c.machine.paths[bind.source].kind == trust.MISSING:
        c.error("MISSING_PATH", bind.knob, f"{bind.source} does not exist", "make it first")
    taken = (*KERNEL_TREES, *c.settings.private, *c.machine.executes)
    for path in taken:
        if is_below(bind.destination, path):
            what = f"nothing can be bound on {bind.destination}: the helper mounts {path} itself"
            c.error("BAD_BIND", bind.knob, what, "choose another destination")
    if bind.destination == "/":
        c.error("BAD_BIND", bind.knob, "nothing can be bound on /", "use a named chroot")
    for path in c.settings.hide:
        if c.machine.is_inside(bind.source, path):
            what = f"{bind.source} is in {path}, which ISOLATION_HIDE hides"
            c.warn("PLACE", bind.knob, what, "take one of them out")


def _host_destination(c: Checker, bind: Bind) -> None:
    """Jobs without a chroot have the machine's own root, where apply makes nothing."""
    fact = c.machine.paths[bind.destination]
    if fact.kind == trust.MISSING and not c.settings.forced:
        what = f"{bind.destination} does not exist on the machine"
        c.error("MISSING_PATH", bind.knob, what, "make it: mkdir, or touch for a file")


def _same_destination(c: Checker, binds: Iterable[Bind]) -> None:
    seen: dict[str, Bind] = {}
    for bind in binds:
        other = seen.setdefault(bind.destination, bind)
        if other != bind:
            what = f"{bind.destination} is the destination of {other.source} and {bind.source}"
            c.error("BAD_BIND", bind.knob, what, "keep one")


def _mount_points(c: Checker) -> None:
    for root in c.settings.chroots:
        fact = c.machine.paths[root.path]
        if not fact.untrusted:  # otherwise there are more important things to say
            _mount_points_of(c, root, fact.real)
        _nested(c, root)
        _linked_executes(c, root)


def _mount_points_of(c: Checker, root: Chroot, real: str) -> None:
    missing = []
    for point in c.machine.mount_points:
        if point.root != real:
            continue
        if point.obstacle:
            made = "mkdir -p" if point.wanted == trust.DIRECTORY else "touch"
            what = f"{root.name}: {point.path} is needed as mount point, but {point.obstacle}"
            c.error("NO_MOUNT_POINT", root.knob, what, f"do: {made} {point.place}")
        elif point.kind == trust.MISSING:
            missing.append(point.place)
    if missing:
        what = f"{root.name}: {_plural(len(missing), 'mount point')} missing"
        remedy = f"apply will create {' '.join(missing)}"
        c.add(NOTE, "NO_MOUNT_POINT", root.knob, what, remedy)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{' is' if count == 1 else 's are'}"


def _nested(c: Checker, root: Chroot) -> None:
    for outer in root.binds:  # these come after those for every job
        for inner in c.settings.binds:
            if is_below(inner.destination, outer.destination) and inner.source != outer.source:
                what = f"{outer.destination} covers {inner.destination} of {inner.knob}"
                c.error("BAD_BIND", outer.knob, what, "bind the inner one for this chroot too")
    for inner, outer, path in nested(binds_of(c.settings, root)):
        if c.machine.paths[path].kind == trust.MISSING:
            what = f"{inner.destination} is inside {outer.destination}, which is bound too"
            c.error("NO_MOUNT_POINT", inner.knob, what, f"make {path} on the machine")


def _linked_executes(c: Checker, root: Chroot) -> None:
    for path in c.machine.executes:
        if c.machine.real(path) != path:
            what = f"{path} leads to {c.machine.real(path)}: jobs in {root.name} look for the first"
            c.error("PLACE", "EXECUTE", what, f"set EXECUTE = {c.machine.real(path)}")


def _private(c: Checker) -> None:
    knob = "MOUNT_UNDER_SCRATCH"
    for path in c.settings.private:
        if c.machine.paths[path].kind != trust.DIRECTORY:
            c.error("MISSING_PATH", knob, f"{path} is no directory", "make it, or take it out")
        if path == "/" or any(is_below(path, tree) for tree in KERNEL_TREES):
            c.error("PLACE", knob, f"{path} cannot be private", "take it out")
        for execute in c.machine.executes:
            if c.machine.is_inside(execute, path):
                what = f"EXECUTE ({execute}) is below {path}: HTCondor then leaves {path} shared"
                c.error("PLACE", knob, what, f"move EXECUTE or take {path} out")


def _read_only_and_hide(c: Checker) -> None:
    for path in c.settings.read_only:
        if c.machine.paths[path].kind == trust.MISSING:
            what = f"{path} does not exist"
            c.error("MISSING_PATH", "ISOLATION_READ_ONLY", what, "make it, or take it out")
    for path in c.settings.hide:
        if path == "/" or path in KERNEL_TREES:
            c.error("PLACE", "ISOLATION_HIDE", f"{path} cannot be hidden", "take it out")


def _executes(c: Checker) -> None:
    for path in c.machine.executes:
        if not records.path_is_normal(path):
            c.error("BAD_PATH", "EXECUTE", f"{path!r} is no normal path", "write it from / on")
    if not c.machine.executes:
        c.error("MISSING_PATH", "EXECUTE", "is not set", "set it to where sandboxes are made")


def _expressions(c: Checker) -> None:
    for record, what in sorted(c.machine.bad_expressions.items()):
        c.error("BAD_EXPRESSION", _knob_of(record), what, "see what classad_eval says")
    if c.settings.expressions and not c.machine.classad_path:
        word = next(iter(sorted(c.settings.expressions)))
        what = f"is an expression, and {c.machine.python} finds no module classad2"
        c.error("BAD_EXPRESSION", _knob_of(word), what, "install HTCondor's Python bindings")


def _knob_of(record: str) -> str:
    return next(row.name for row in BY_NAME.values() if row.record == record)


def _conflicts(c: Checker) -> None:
    for knob, bad, why in (
        ("USE_PID_NAMESPACES", True, "HTCondor's PID namespace hides the starter from the helper"),
        ("DISABLE_SETUID", True, "the setuid helper then has no rights"),
        ("PER_JOB_NAMESPACES", False, "no job with private directories can start"),
    ):
        if c.config.flag(knob) is bad:
            c.error("HTCONDOR_KNOB", knob, why, f"set {knob} = {not bad}")
    if c.machine.master_no_new_privs:
        what = "condor_master runs with no_new_privs, which a setuid helper cannot pass"
        c.error("HELPER", "DISABLE_SETUID", what, "remove NoNewPrivileges= from condor.service")


def _native_chroot(c: Checker) -> None:
    """Before 25.5.1 the starter does a chroot of its own, and crashes on a name it lacks.

    The path // makes it do nothing, so that the wrapper is run and the helper does the chroot
    (with / it fails: it takes the last slash off before it looks whether that is a directory).
    """
    if not c.config.native_chroot:
        return
    wanted = sorted(f"{root.name}=//" for root in c.settings.chroots)
    found = sorted(c.config.words("NAMED_CHROOT"))
    if found == wanted:
        return
    if all(word.endswith("=//") for word in found):
        what = "the starter of this HTCondor crashes on a chroot that is not in it"
    else:
        what = "the starter of this HTCondor would chroot the wrapper"
    remedy = f"write NAMED_CHROOT = {', '.join(wanted)}"
    if not set(found) <= set(wanted):
        remedy += ", and name the directories in ISOLATION_NAMED_CHROOT"
    c.error("NATIVE_CHROOT", "NAMED_CHROOT", what, remedy)


def _wrapper(c: Checker) -> None:
    knob, path = "USER_JOB_WRAPPER", c.config.value("USER_JOB_WRAPPER")
    ours = f"{c.config.value('ISOLATION_LIBEXEC') or BY_NAME['ISOLATION_LIBEXEC'].default}"
    remedy = f"write {knob} = {ours}/job-wrapper"
    if not path:
        return c.error("WRAPPER", knob, "is not set: no job is isolated", remedy)
    if not records.path_is_normal(path):
        return c.error("WRAPPER", knob, f"{path!r} is no normal path", remedy)
    helper = c.machine.helper
    if helper is None or helper.path.rpartition("/")[2] != HELPER_NAME:
        what = f"the first line of {path} does not name the helper ({HELPER_NAME})"
        return c.error("WRAPPER", knob, what, remedy)
    _helper(c)
    for name in (path, c.machine.python, c.machine.package, c.config.value("STARTER")):
        fact = c.machine.paths.get(name)
        if fact and fact.untrusted:
            c.error("UNTRUSTED", knob, fact.untrusted, "chown root, chmod go-w")
        if fact and fact.kind == trust.MISSING:
            c.error("WRAPPER", knob, f"{name} does not exist", "install it")
    for name in sorted(c.config.knobs):
        prefix, dot, base = name.rpartition(".")
        if dot and base == knob and prefix != "STARTER":
            what = f"jobs of {prefix} have another wrapper"
            c.warn("ROAD", name, what, "remove it, if these jobs are to be isolated")
    return None


def _helper(c: Checker) -> None:
    helper = c.machine.helper
    assert helper is not None
    knob = "USER_JOB_WRAPPER"
    if helper.uid < 0:
        c.error("HELPER", knob, f"{helper.path} does not exist", "install the package")
        return
    if helper.uid != 0 or helper.mode != HELPER_MODE:
        what = f"{helper.path} belongs to uid {helper.uid} and has mode {helper.mode:04o}"
        remedy = f"chown root:root {helper.path} && chmod {HELPER_MODE:o} {helper.path}"
        c.error("HELPER", knob, what, remedy)
    elif helper.untrusted:
        c.error("UNTRUSTED", knob, helper.untrusted, "chown root, chmod go-w")
    if helper.nosuid:
        what = f"{helper.path} is on a file system mounted nosuid"
        c.error("HELPER", knob, what, "install it elsewhere or mount without nosuid")


def _hooks(c: Checker) -> None:
    knob = "STARTER_JOB_HOOK_KEYWORD"
    keyword = c.config.value(knob)
    hooks = sorted(n for n in c.config.knobs if re.fullmatch(r"\w+_HOOK_PREPARE_JOB\w*", n))
    hooks = [name for name in hooks if c.config.value(name)]
    if c.config.version < HOOKS_KEEP_CGROUP:
        for name in ([knob] if keyword else []) + hooks:
            what = "before HTCondor 24.8 a job with a starter hook runs without a cgroup"
            c.error("HOOK", name, what, "put it inside: if version >= 24.8")
    elif keyword.upper() != HOOK_KEYWORD:
        what = f"is {keyword or 'not set'}: users see no reason when a job of theirs is refused"
        c.warn("HOOK", knob, what, f"set it to {HOOK_KEYWORD}, or chain the hooks")
    elif not c.config.value("ISOLATION_HOOK_PREPARE_JOB"):
        what = "is not set: users see no reason when a job of theirs is refused"
        c.warn("HOOK", "ISOLATION_HOOK_PREPARE_JOB", what, "set it to the installed hook")
    else:
        _hook_file(c, "ISOLATION_HOOK_PREPARE_JOB")


def _hook_file(c: Checker, knob: str) -> None:
    fact = c.machine.paths.get(c.config.value(knob))
    if fact is None or fact.kind != trust.FILE:
        what = f"{c.config.value(knob)} does not exist: no job can start"
        c.error("HOOK", knob, what, "install the package, or take the knob out")
    elif fact.untrusted:
        c.error("UNTRUSTED", knob, fact.untrusted, "chown root, chmod go-w")


def _roads(c: Checker) -> None:
    """What runs as the job's user and past the wrapper: START refuses it, if it is ours."""
    start = c.config.value("START").upper()
    remedy = "in the file that sets it last, write START = ($(START)) && $(ISOLATION_START)"
    if "HASISOLATION" not in start:
        what = "does not ask for HasIsolation: the machine matches even when it cannot isolate"
        c.warn("ROAD", "START", what, remedy)
    open_roads = [
        road
        for attribute, road in ROADS
        if attribute.upper() not in start and not _closed(c, attribute)
    ]
    if open_roads:
        c.warn("ROAD", "START", f"lets past the wrapper: {', '.join(open_roads)}", remedy)
    _other_starts(c)


def _other_starts(c: Checker) -> None:
    """Knobs that have jobs started by something else."""
    if c.config.value("STARTER_REMOTE_CMD"):
        what = "jobs are started by this program and not by USER_JOB_WRAPPER"
        c.warn("ROAD", "STARTER_REMOTE_CMD", what, "take it out")
    image = c.config.value("DEFAULT_CONTAINER_IMAGE")
    if "docker:" in image and c.config.flag("USE_DEFAULT_CONTAINER") is not False:
        what = "jobs that ask for nothing may be given to Docker, past the wrapper"
        c.warn("ROAD", "DEFAULT_CONTAINER_IMAGE", what, "name a directory or a .sif file")


def _closed(c: Checker, attribute: str) -> bool:
    if c.config.version < PRE_POST_CMD:
        return False
    if attribute in ("PreCmd", "PostCmd"):
        return c.config.flag("STARTER_ALLOW_JOB_PRE_AND_POST_CMD") is not True
    if attribute == "TransferPlugins":
        return c.config.flag("STARTER_DISABLE_USER_SUPPLIED_TRANSFER_PLUGINS") is True
    return False


def _sources(c: Checker) -> None:
    for command in c.config.commands:
        what = f"a change of what {command.rstrip('| ')!r} prints is not noticed"
        c.warn("SOURCE", "include", what, "run condor_isolation apply after each change")
    for source in c.machine.sources:
        fact = c.machine.paths[source.path]
        if fact.untrusted:
            c.warn("SOURCE", source.path, fact.untrusted, "chown root, chmod go-w")


def _counts(c: Checker) -> None:
    s = c.settings
    for knob, key, count in (
        ("EXECUTE", "execute", len(c.machine.executes)),
        ("MOUNT_UNDER_SCRATCH", "private", len(s.private)),
        ("ISOLATION_HIDE", "hide", len(s.hide)),
        ("ISOLATION_READ_ONLY", "read-only", len(s.read_only)),
        ("ISOLATION_BIND", "bind", len(s.binds)),
        ("NAMED_CHROOT", "root", len(s.chroots)),
        ("NAMED_CHROOT_<NAME>_USERS", "root-user", sum(len(r.users) for r in s.chroots)),
        ("NAMED_CHROOT_<NAME>_GROUPS", "root-group", sum(len(r.groups) for r in s.chroots)),
        ("NAMED_CHROOT_<NAME>_BIND", "root-bind", sum(len(r.binds) for r in s.chroots)),
        ("LOCAL_CONFIG_DIR", "source", len(c.machine.sources)),
    ):
        most = records.POLICY[key][3]
        if count > most:
            c.error("TOO_MUCH", knob, f"{count} entries", f"{most} are possible at most")


RULES: tuple[Callable[[Checker], None], ...] = (
    _chroots,
    _accounts,
    _binds,
    _mount_points,
    _private,
    _read_only_and_hide,
    _executes,
    _expressions,
    _conflicts,
    _native_chroot,
    _wrapper,
    _hooks,
    _roads,
    _sources,
    _counts,
)


def worst_first(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield PROBLEMS, errors first, otherwise in the order they were found."""
    order = (ERROR, WARNING, NOTE)
    return iter(sorted(problems, key=lambda problem: order.index(problem.severity)))
