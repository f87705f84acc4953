"""The `failsoft` command. Its libraries are an extra, so a missing one is a sentence, not a traceback."""

from __future__ import annotations

import os
import sys

_EXTRA = {"click", "rich", "websockets"}


def main() -> None:
    """Run the command line. Ends the process with the command's exit code."""
    _prepare_outputs()
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


def _prepare_outputs() -> None:
    """Who closed an output (`>&-`, a service without one) wants to hear nothing, and not every terminal has every
    letter of a name: neither may change the exit code."""
    for name in ("stdout", "stderr"):
        output = getattr(sys, name)
        if output is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
        elif hasattr(output, "reconfigure"):
            output.reconfigure(errors="backslashreplace")
