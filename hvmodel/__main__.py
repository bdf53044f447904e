"""``python -m hvmodel``, and the command ``hvmodel``."""

from __future__ import annotations

import sys

CANNOT_TEST = 125
"""The exit status with which ``git bisect run`` skips a commit (git-bisect(1), "bisect run")."""


def main() -> int:
    """The command line; returns the exit status. Where the harness itself cannot be loaded, as at a commit in the middle of a
    change, ``--bisect`` answers :data:`CANNOT_TEST`: Python's own status for a traceback, 1, would call the commit bad."""
    try:
        from hvmodel.cli import main as run
    except Exception as error:
        if "--bisect" not in sys.argv:
            raise
        print(f"hvmodel: this commit cannot be tested: {type(error).__name__}: {error}", file=sys.stderr)
        return CANNOT_TEST
    return run()


if __name__ == "__main__":
    sys.exit(main())
