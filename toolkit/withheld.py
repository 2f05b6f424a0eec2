"""The reference of an exercise file whose solution is not released yet: there as Python bytecode, and not as text.

`make release` puts the file with its exercises unsolved in the solution's place, and beside it, for each version of
Python, such as graph_forward.cpython-312.bytecode. Hints of later chapters are encoded, so that they are read one by
one. Both keep an answer from being read by accident, and neither keeps a secret: bytecode can be disassembled.
"""

import base64
import importlib.util
import marshal
import sys
from pathlib import Path
from types import CodeType

from toolkit.errors import UserError

ENDING = ".bytecode"
ENCODED = "base64:"


def bytecode_files(path: Path) -> list[Path]:
    """The bytecode that stands beside a file of solutions/; none where its solution is there as text."""
    return sorted(path.parent.glob(f"{path.stem}.*{ENDING}"))


def is_withheld(path: Path) -> bool:
    return bool(bytecode_files(path))


def reference_code(path: Path) -> CodeType:
    """The code of a file of solutions/, from its text or from what stands in for it.

    Raises:
        UserError: the solution is not released, and there is no bytecode for this version of Python.
    """
    there = bytecode_files(path)
    if not there:
        return compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    mine = path.with_name(f"{path.stem}.{sys.implementation.cache_tag}{ENDING}")
    content = mine.read_bytes() if mine in there else b""
    magic, rest = importlib.util.MAGIC_NUMBER, content[len(importlib.util.MAGIC_NUMBER) :]
    if not content.startswith(magic):
        versions = ", ".join(file.suffixes[-2].lstrip(".") for file in there)
        raise UserError(
            f"what stands in for {path.parent.name}/{path.name} runs on {versions} alone, and this is "
            f"{sys.implementation.cache_tag}: make .venv with one of those, such as make run PYTHON=python3.12"
        )
    # A name of the bytecode's own: the text beside it has other lines, which no report should quote.
    return with_filename(marshal.loads(rest), str(mine))


def with_filename(code: CodeType, name: str) -> CodeType:
    """The code with another file's name in it, that of all code inside included."""
    inside = tuple(with_filename(each, name) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_filename=name, co_consts=inside)


def encode_hint(hint: str) -> str:
    return ENCODED + base64.b64encode(hint.encode()).decode()


def decode_hint(hint: str) -> str:
    """A hint as it was written, whether it was encoded or not."""
    return base64.b64decode(hint.removeprefix(ENCODED)).decode() if hint.startswith(ENCODED) else hint
