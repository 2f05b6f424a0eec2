"""The file of answers: one line for each row, in the rows' order. Whatever ends a run, the next one goes on from here.

A run of hours is cut short now and then: it is killed, the disk is full, the power fails. The file must then hold rows
1 to k, whole, for some k, and k is all that the next run has to know: what it counts is there, and is not done twice.
Two things break that. A line can be *torn*: the process dies in the middle of writing it, and the next line would be
glued to its first half. And a write can be *short*: the system writes what fits, returns how much that was, and code
that does not look goes on as if it had been all.

So a line counts if its newline is there; what follows the last newline is cut off when the file is opened; and rows
that cannot be added as a whole are taken back.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from toolkit.errors import UserError

CHUNK = 2**20


class AnswersFile:
    """The answers so far; a context manager. One process at a time has it open.

    Args:
        path: made if it is not there.

    Attributes:
        num_rows: whole lines in the file.

    Raises:
        UserError: it cannot be opened, or another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(f"{path}: cannot open it: {error.strerror}") from None
        try:
            lock(self.fd, path)
            self.num_rows = self.resume()
        except BaseException:
            os.close(self.fd)
            raise

    def resume(self) -> int:
        """Count the whole lines, and cut off what follows the last of them; later writes go there.

        A line is whole if it ends with a newline, whatever it holds; without one it may be a part that happens to make
        sense: {"line": 12} may have been on its way to {"line": 12, "text": ...}.

        Use os.read(self.fd, CHUNK), which returns b"" at the end, since the file may be larger than memory;
        os.ftruncate(self.fd, length) and os.lseek(self.fd, position, os.SEEK_SET).

        Returns:
            the number of whole lines.
        """
        raise NotImplementedError("ch10 exercise 5: Nothing lost, nothing twice")

    def append(self, rows: Sequence[bytes]) -> None:
        """Add the lines of some rows, each without its newline: all of them, or none.

        `os.write(self.fd, data)` may write less than all of `data`, and returns how many bytes it has written. When
        something is raised, the file has to be as it was before, and so has the position in it, which
        `os.lseek(self.fd, 0, os.SEEK_CUR)` returns. Before this returns, `os.fsync(self.fd)` has to put the rows on the
        disk: some file systems find out only then that it is full.

        Raises:
            OSError: the disk is full, or whatever else the system says.
        """
        raise NotImplementedError("ch10 exercise 5: Nothing lost, nothing twice")

    def close(self) -> None:
        """Let another process have it."""
        os.close(self.fd)

    def __enter__(self) -> "AnswersFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def lock(fd: int, path: Path) -> None:
    """Keep other processes out for as long as the file is open, where the system can: two would double the rows.

    Raises UserError if one is in.
    """
    with suppress(ImportError):  # Windows
        import fcntl

        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path}: another run is writing it; wait for its end, or choose another file") from None
        except OSError:  # a file system without locks
            pass
