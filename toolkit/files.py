"""Writing a file whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path | str, content: str | bytes) -> None:
    """Write beside the target first, then move it there, so that nobody ever finds half a file.

    Text is written as UTF-8 with the same line ends on every system. The folder is made if it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
