"""What a release of the course puts into my/: the files with exercises, unsolved, and the lessons without outputs."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.commands.exercises.generate import fresh_files
from toolkit.commands.exercises.metadata import load


@dataclass(frozen=True)
class Place:
    """Where an exercise is: its file's path inside my/, and the qualified names of its functions."""

    file: str
    functions: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """
    Attributes:
        files: path inside my/ -> text.
        exercises: id -> where it is.
        digest: another one means another release.
    """

    files: dict[str, str]
    exercises: dict[str, Place]
    digest: str

    @property
    def record(self) -> str:
        """What my/.base/release.json says of it."""
        places = {id_: asdict(place) for id_, place in self.exercises.items()}
        return json.dumps({"release": self.digest, "exercises": places}, indent=1) + "\n"


def shipped(root: Path) -> Release:
    """The release that the repository holds now."""
    import nbformat  # these take a second, and most commands do without

    from toolkit.commands.exercises.lessons import lesson_paths, read_lesson

    modules = fresh_files(root)
    lessons = {
        f"{lesson.parent.name}/lesson.ipynb": nbformat.writes(read_lesson(lesson)) + "\n"
        for lesson in lesson_paths(root)
    }
    return Release(modules | lessons, places(root), digest(root))


def places(root: Path) -> dict[str, Place]:
    """Exercise id -> where it is now."""
    return {
        exercise.id: Place(f"{exercise.chapter}/{exercise.file}", exercise.functions)
        for exercise in load(root).values()
    }


def digest(root: Path) -> str:
    """Of a release, found without making its notebooks."""
    texts = fresh_files(root)
    for lesson in sorted((root / "chapters").glob("ch*_*/lesson.py")):
        texts[lesson.parent.name] = lesson.read_text(encoding="utf-8")
    whole = json.dumps([texts, {id_: asdict(place) for id_, place in places(root).items()}], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]
