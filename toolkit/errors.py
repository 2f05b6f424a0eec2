"""Errors meant for the person at the keyboard: one line, exit code 2, never a traceback.

A `UserError` says what is wrong, where, and what to do about it. Everything else that escapes a command is a bug of
the course and keeps its traceback.
"""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """The input cannot be used. The message is one line: what, where, what to do."""


def exit_cleanly(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and leave the process with its exit code.

    Args:
        main: returns the exit code; None counts as 0.

    A `UserError` is printed to stderr as `error: ...` and ends with code 2; Ctrl-C ends with 130
    and a closed pipe with 141, as a shell expects.
    """
    try:
        code = main() or 0
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)
