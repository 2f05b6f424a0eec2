"""The timelines to zoom into: pages of their own, made when the site is built.

Most are recordings from figures/data. Two are runs on the simulated GPU, which also knows events and races.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from figures import choose_device
from toolkit import course
from toolkit.commands.decoding import Load, serve
from toolkit.models import load_model
from toolkit.recordings import DATA, read_recording
from toolkit.timeline import Recording, export_html, in_turns, steady

FOLDER = "timelines"  # of the site


@dataclass(frozen=True)
class Page:
    """One interactive timeline.

    Attributes:
        name: of its file, without .html.
        picture: what it is shown under: the name of a picture in figures/, or the title of an output in a lesson.
        title: of the page; device and idle share are added by themselves.
        run: makes the recording.
        steps: how many are seen first; None for a choice in the middle.
    """

    name: str
    picture: str
    title: str
    run: Callable[[], Recording]
    steps: int | None = None

    def write(self, folder: Path) -> None:
        recording = self.run()
        first = recording.steps()[0]
        steps = None if self.steps is None else (first, first + self.steps - 1)
        report = recording.races[0].report if recording.races else ""
        export_html(recording, folder / f"{self.name}.html", title=self.title, steps=steps, report=report)


def recorded(name: str, sets: int = 1) -> Recording:
    """The recording that the picture of that name is drawn from; its engine has so many sets of IO buffers."""
    data = read_recording(DATA / str(choose_device((name,), DATA)) / f"{name}.json")
    recording = steady(Recording.from_rows(data["rows"], data["device"]))
    return recording if sets == 1 else in_turns(recording, sets)


def simulated(chapter: str) -> Recording:
    """A chapter's engine on the simulated GPU, as its lesson runs it: reference solution, tiny model."""
    course.use("solutions")
    build = import_module(f"{course.find_chapter(chapter)}.build").build
    return serve(build, Load(load_model("tiny", device="cpu").model)).recording


def _recorded(name: str, title: str, sets: int = 1) -> Page:
    return Page(name, name, title, partial(recorded, name, sets))


PAGES = (
    _recorded("ch00_steps", "A synchronous loop"),
    _recorded("ch01_steps", "The naive loop"),
    _recorded("ch02_steps", "Continuous batching"),
    _recorded("ch03_steps", "Nothing orders three streams"),
    Page("ch03_race", "Three edges are missing", "Three edges are missing", partial(simulated, "ch03"), steps=1),
    _recorded("ch04_steps", "Three streams and events"),
    _recorded("ch04_eager_steps", "Three streams and events, the forward launched kernel by kernel"),
    Page("ch05_two_batches", "Two batches in flight", "Two batches in flight", partial(simulated, "ch05")),
    _recorded("ch05_steps", "Two half batches in turns", sets=2),
    _recorded("ch06_eager_steps", "Two batches in flight, forwards launched one by one", sets=2),
    _recorded("ch06_steps", "Two batches in flight, each forward one graph", sets=2),
    _recorded("ch07_steps", "Carry-over", sets=2),
)


def pages_of(picture: str) -> Iterator[Page]:
    """The timelines to be shown under a picture, by its name in figures/ or by its title."""
    return (page for page in PAGES if page.picture in (picture, picture.partition(" · ")[0]))
