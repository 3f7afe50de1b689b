"""``python3 -m condor_isolation``: the command, or one line if click is not installed."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from condor_isolation import cli
    except ImportError as error:
        if error.name != "click":
            raise
        sys.exit("condor_isolation: the Python module click is missing: install python3-click")
    cli.run()


if __name__ == "__main__":
    main()
