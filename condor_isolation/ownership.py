"""Who but root could change what a path leads to.  Imports os alone: the cron job uses it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Lstat = Callable[[str], os.stat_result]

NOT_ROOTS_ALONE = 0o022


def untrusted(path: str, lstat: Lstat = os.lstat) -> str:
    """Given a real path, return which component others than root may write, '' if none.

    A POSIX ACL that lets somebody write shows as write permission of the group (its mask), so
    the mode tells all.  Components that cannot be seen are trusted as far as their parents are.
    """
    parts = path.strip("/").split("/") if path != "/" else []
    for count in range(len(parts) + 1):
        here = "/" + "/".join(parts[:count])
        try:
            status = lstat(here)
        except OSError:
            return ""
        if status.st_uid != 0:
            return f"{here} belongs to uid {status.st_uid}"
        if status.st_mode & NOT_ROOTS_ALONE:
            return f"{here} may be written by others than root (mode {status.st_mode & 0o7777:04o})"
    return ""
