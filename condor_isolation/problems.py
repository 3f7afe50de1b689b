"""What ``check`` and ``apply`` have to say about the configuration: data, one line each."""

from __future__ import annotations

from dataclasses import dataclass

from condor_isolation import messages

ERROR = "error"
WARNING = "warning"
NOTE = "note"
SEVERITIES = (ERROR, WARNING, NOTE)
DEFAULT_PLACE = "default"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: NAME is the message's C name, PLACE is ``file:line``."""

    severity: str
    name: str
    place: str
    knob: str
    what: str
    remedy: str

    @property
    def ident(self) -> str:
        return messages.BY_NAME[self.name][0]

    def line(self) -> str:
        """Return the one line that admins see."""
        where = f"{self.place}: " if self.place and self.place != DEFAULT_PLACE else ""
        mark = "" if self.severity == ERROR else f"{self.severity}: "
        text = f"{where}{mark}{self.knob}: {self.what}; {self.remedy} [{self.ident}]"
        # A value may hold line ends and escape sequences; a terminal sees neither.
        return "".join(c if c.isprintable() else " " for c in text)

    def as_dict(self) -> dict[str, str]:
        return {
            "severity": self.severity,
            "id": self.ident,
            "place": self.place,
            "knob": self.knob,
            "what": self.what,
            "remedy": self.remedy,
        }


def errors(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """Return those of PROBLEMS that keep the policy from being applied."""
    return tuple(p for p in problems if p.severity == ERROR)
