"""The folders of figures/: one for each chapter (ch04), and one for each measurement that belongs to none (roofline).

In each, record.py measures, draw.py draws what was measured, and diagrams.py what explains. What a lesson only prints
has no draw.py. The comparison with the transformers library, peers/, has no record.py: `make bench` measures.
"""

import importlib
import re
from pathlib import Path
from types import ModuleType


def rooms(part: str) -> list[str]:
    """The folders that have this part, "record", "draw" or "diagrams", the chapters first."""
    names = [path.parent.name for path in Path(__file__).parent.glob(f"*/{part}.py")]
    return sorted(names, key=lambda name: (not re.fullmatch(r"ch\d\d", name), name))


def load(room: str, part: str) -> ModuleType:
    """A folder's record.py, draw.py or diagrams.py."""
    return importlib.import_module(f"figures.{room}.{part}")


def full_name(text: str) -> str:
    """The folder that "4", "04" or "ch04" means; any other name as it is. Whether there is one, it does not say."""
    chapter = re.fullmatch(r"(?:ch)?(\d{1,2})", text)
    return f"ch{int(chapter[1]):02d}" if chapter else text


def short_name(room: str) -> str:
    """What to give as CH: the chapter's number without zeros, or the name of what belongs to none."""
    chapter = re.fullmatch(r"ch(\d\d)", room)
    return str(int(chapter[1])) if chapter else room


def record_command(room: str) -> str:
    """What makes the recordings that a folder's figures are drawn from."""
    return "make bench" if room == "peers" else f"make record CH={short_name(room)}"
