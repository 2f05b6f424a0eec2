"""Figures that need no screen: notebooks show them, and a PNG of them is the same file on every run."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class Picture(Figure):
    """A matplotlib figure that a notebook shows as it is, whichever backend is in use."""

    def __init__(self, *, width: float, height: float, shows: str = "") -> None:
        """An empty figure, with a layout that makes room for what is written at the edges.

        Args:
            width, height: in inches.
            shows: the text alternative for readers who do not see it; default: its titles.
        """
        super().__init__(figsize=(width, height), dpi=110, layout="constrained")
        FigureCanvasAgg(self)
        self.shows = shows

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        """The image, and the text alternative, under the name that notebooks give it."""
        return png_bytes(self), {"alt": self.shows or titles(self)}


def titles(figure: Figure) -> str:
    """What is written over the figure and over its parts: what it shows, in one line."""
    parts = [figure.get_suptitle(), *(axes.get_title(loc="left") for axes in figure.axes)]
    return "; ".join(" ".join(part.split()) for part in parts if part.strip())


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG without a date or a version in it: the same on every run."""
    return rendered(figure, "png")


def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a file of this kind: "png", "svg", "pdf"."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"Software": None} if kind == "png" else None)
    return buffer.getvalue()
