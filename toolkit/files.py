"""Writing a file whole or not at all."""

import os
from pathlib import Path

from toolkit.errors import UserError


def write_whole(path: Path | str, content: str | bytes) -> None:
    """Write beside the target first, then move it there, so that half a file is never found.

    Text is written as UTF-8 with the same line ends on every system. The folder is made if it is missing.

    Raises:
        UserError: it cannot be written, for instance because the checkout is read-only or the disk full.
    """
    path = Path(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
