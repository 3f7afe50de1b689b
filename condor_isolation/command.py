"""Tells beforehand whether a job's command can be run inside its root.

The check sees the root from outside, as the job's user, so there is much that it cannot see;
then it says nothing, because the helper reports a failed exec anyway.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The helper mounts these anew in every root.
OPAQUE = ("/proc", "/sys", "/dev")
LINKS_MAX = 40  # as the kernel
INTERPRETERS_MAX = 4  # as the kernel: a script that is another script's interpreter
HEAD_BYTES = 256  # of a file, which the kernel looks at for "#!"
_FILE_TYPE, _REGULAR, _DIRECTORY, _LINK = 0o170000, 0o100000, 0o040000, 0o120000


class Unsure(Exception):
    """The check cannot see what the job will see."""


class Missing(Exception):
    """There is surely no such file inside the root."""


class View:
    """The files of a job as it will see them."""

    def __init__(
        self, root: str, mounts: Sequence[tuple[str, str]], opaque: Sequence[str] = ()
    ) -> None:
        """ROOT is a directory of the host, MOUNTS pairs of (path inside, path on the host).

        What is below a path of OPAQUE (and OPAQUE of this module) nobody knows.
        """
        self._root = root.rstrip("/")
        self._mounts = sorted(mounts, key=lambda pair: len(pair[0]), reverse=True)
        self._opaque = (*OPAQUE, *opaque)

    def mount(self, path: str) -> tuple[str, str]:
        """Return the innermost mount that PATH inside is on: (path inside, path on the host)."""
        for inside, host in self._mounts:
            if _below(path, inside):
                return inside, host
        if any(_below(path, inside) for inside in self._opaque):
            raise Unsure
        return "", self._root

    def host(self, path: str) -> str:
        """Return where on the host PATH inside is; its symlinks are not followed."""
        inside, host = self.mount(path)
        return host + path[len(inside) :] or "/"

    def leads_to_mount(self, path: str) -> bool:
        """Tell whether a mount is somewhere below PATH: then the helper makes sure of PATH."""
        return any(inside != path and _below(inside, path) for inside, _host in self._mounts)

    def locate(self, path: str) -> str:
        """Return where on the host PATH inside is, every symlink followed inside the root.

        Raise Missing or Unsure.
        """
        todo = path.split("/")[::-1]
        done = ""
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done.rpartition("/")[0]
            if part in ("", ".", ".."):
                continue
            target = self._link(f"{done}/{part}")
            if target is None:
                done = f"{done}/{part}"
                continue
            links += 1
            if links > LINKS_MAX:
                raise Missing
            if target[:1] == "/":
                done = ""
            todo += target.split("/")[::-1]
        return self.host(done or "/")

    def _link(self, path: str) -> str | None:
        """Return the target of the symlink PATH inside, None if it is something else."""
        if self.leads_to_mount(path) or self.mount(path)[0] == path:
            return None
        host = self.host(path)
        try:
            if posix.lstat(host).st_mode & _FILE_TYPE == _LINK:
                return posix.readlink(host)
        except (FileNotFoundError, NotADirectoryError):
            raise Missing from None
        except OSError:
            raise Unsure from None
        return None


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def command_problem(view: View, command: str) -> str:
    """Return why COMMAND, an absolute path inside, cannot be run, or '' if it may be."""
    try:
        return _problem(view, command, INTERPRETERS_MAX)
    except Unsure:
        return ""


def _problem(view: View, command: str, depth: int) -> str:
    try:
        host = view.locate(command)
        kind = posix.stat(host).st_mode & _FILE_TYPE
    except (Missing, FileNotFoundError):
        return f"{command} does not exist"
    except OSError:
        raise Unsure from None
    if kind == _DIRECTORY:
        return f"{command} is a directory"
    if kind == _REGULAR and not posix.access(host, posix.X_OK):
        return f"{command} is not executable for this user"
    interpreter = interpreter_of(host)
    if not interpreter or not depth:
        return ""
    problem = _problem(view, interpreter, depth - 1)
    if problem and interpreter.endswith("\r"):
        return f"{command} has the line ends of Windows"
    return problem and f"{command} wants an interpreter: {problem}"


def interpreter_of(host: str) -> str:
    """Return the interpreter that the first line of the file HOST names, '' for none.

    Raise Unsure for one that is relative to the working directory or too long.
    """
    try:
        fd = posix.open(host, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return ""  # a program may be executable and not readable
    try:
        head = posix.read(fd, HEAD_BYTES)
    except OSError:
        return ""
    finally:
        posix.close(fd)
    if head[:2] != b"#!":
        return ""
    line, newline, _rest = head[2:].replace(b"\t", b" ").partition(b"\n")
    word, blank, _arguments = line.strip(b" ").partition(b" ")
    whole = newline or blank or len(head) < HEAD_BYTES
    if word[:1] != b"/" or not whole:
        raise Unsure
    return word.decode("utf-8", "surrogateescape")
