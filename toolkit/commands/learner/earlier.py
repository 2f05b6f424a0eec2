"""What a reader wrote before my/ existed: then exercises were edited in chapters/, and progress lay beside it."""

from pathlib import Path

from toolkit.commands.exercises.generate import edited_modules
from toolkit.commands.learner.folder import read_bytes

PROGRESS = ".progress.json"  # at the repository's root, where it was before
_NOT_KEPT = ("__pycache__", ".ipynb_checkpoints")


def earlier_edits(root: Path) -> dict[str, bytes]:
    """Path inside chapters/ -> content, of every file in a chapter's folder that is not as the course has it.

    An executed notebook is none, as long as its cells are the course's.
    """
    from toolkit.commands.exercises.lessons import is_edited  # takes a second, and most commands do without

    chapters = root / "chapters"
    edited = edited_modules(root)
    found = {}
    for path in sorted(chapters.glob("ch*_*/**/*")):
        name = path.relative_to(chapters).as_posix()
        if not path.is_file() or any(part in _NOT_KEPT for part in path.parts) or path.name == "lesson.py":
            continue
        if path.name == "lesson.ipynb":
            is_theirs = is_edited(path.with_suffix(".py"), root) if path.with_suffix(".py").is_file() else True
        else:
            is_theirs = path.suffix != ".py" or name in edited
        if is_theirs:
            found[name] = read_bytes(path)
    return found
