"""The `failsoft` command. Its libraries are an extra, so a missing one is a sentence, not a traceback."""

from __future__ import annotations

import sys

_EXTRA = {"click", "rich", "websockets"}


def main() -> None:
    """Run the command line. Ends the process with the command's exit code."""
    try:
        from failsoft.cli.commands import failsoft

        failsoft()
    except ModuleNotFoundError as missing:
        library = (missing.name or "").partition(".")[0]
        if library not in _EXTRA:
            raise
        sys.exit(f"failsoft: {library} is not installed; run: pip install 'failsoft[demo]'")
