"""The `failsoft` command. Its libraries are an extra, so a missing one is a sentence, not a traceback."""

from __future__ import annotations

import sys

_EXTRA = {"click", "rich", "websockets"}


def main() -> None:
    """Run the command line. Ends the process with the command's exit code."""
    try:
        from failsoft.cli.commands import failsoft

        try:
            failsoft()
        finally:
            sys.stdout.flush()  # while there is somebody to tell that it cannot be written
    except BrokenPipeError:
        from failsoft.cli.output import let_go

        let_go()
        sys.exit(1)
    except OSError as error:
        sys.exit(f"failsoft: {error.strerror or error}")
    except ModuleNotFoundError as missing:
        library = (missing.name or "").partition(".")[0]
        if library not in _EXTRA:
            raise
        sys.exit(f"failsoft: {library} is not installed; run: pip install 'failsoft[demo]'")
