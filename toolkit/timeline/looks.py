"""How each span looks in a picture, whatever draws it: a colour and a hatch.

Where the spans go through two IO buffers or more, the colour says through which; what is done is then told by the lane
and, on the host's, by the hatch. Otherwise the colour says what is done. The colours are those of Okabe and Ito, which
the colour-blind can tell apart. For greyscale, kinds of work that meet in one row also differ in lightness or in hatch.
"""

from collections.abc import Iterable
from typing import NamedTuple

from toolkit.timeline.spans import WAIT, Span


class Look(NamedTuple):
    """A colour, and a hatch in matplotlib's letters; "" for none."""

    colour: str
    hatch: str


# By what is done. Usual names keep their look in every picture; others take the spare looks in order.
LOOKS = {
    "prepare": Look("#E69F00", ""),
    "launch": Look("#0072B2", ""),
    "commit": Look("#CC79A7", "//"),
    WAIT: Look("#FFFFFF", "...."),
    "forward": Look("#009E73", ""),
    "kernel": Look("#009E73", ""),
    "copy": Look("#F0E442", "\\\\"),
    "copy in": Look("#F0E442", "\\\\"),
    "H2D copy": Look("#F0E442", "\\\\"),
    "copy out": Look("#56B4E9", "xx"),
    "D2H copy": Look("#56B4E9", "xx"),
}
SPARE_LOOKS = [
    Look(*pair)
    for pair in (("#D55E00", "--"), ("#F0E442", "||"), ("#56B4E9", "++"), ("#999999", "oo"), ("#E69F00", "**"))
]
BUFFER_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#56B4E9"]
HOST_HATCHES = {"prepare": "", "launch": "||", "commit": "//"}  # beside the buffers' colours
NO_BUFFERS = "#DDDDDD"
DARK = {"#0072B2", "#009E73", "#D55E00"}  # white text on these
IDLE = Look("#F4F4F4", "///")  # a gap of the compute lane
EDGE_COLOUR, RACE_COLOUR = "#333333", "#D00000"


class Looks:
    """The looks of a recording's spans.

    Args:
        spans: all of them, so that pictures of different parts agree.

    Attributes:
        by_buffers: whether the colour says through which IO buffers a span goes.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        spans = list(spans)
        numbers = {span.buffers for span in spans if span.buffers is not None}
        self.by_buffers = len(numbers) > 1
        names = dict.fromkeys(span.name for span in spans)
        self._by_name = {name: look for name, look in LOOKS.items() if name in names}
        for number, name in enumerate(name for name in names if name not in LOOKS):
            self._by_name[name] = SPARE_LOOKS[number % len(SPARE_LOOKS)]

    def of(self, span: Span) -> Look:
        if not self.by_buffers or span.name == WAIT:
            return self._by_name[span.name]
        hatch = HOST_HATCHES.get(span.name, "") if span.lane == "host" else ""
        return Look(NO_BUFFERS if span.buffers is None else buffer_colour(span.buffers), hatch)

    def group(self, span: Span) -> str:
        """What the span is shown and hidden with: its IO buffers, or its kind of work."""
        if not self.by_buffers or span.name == WAIT:
            return _in_legend(span.name)
        return "no IO buffers" if span.buffers is None else _in_words(span.buffers)

    def legend(self, spans: Iterable[Span]) -> dict[str, Look]:
        """What a legend says of these spans, in its order."""
        spans = list(spans)
        names = {span.name for span in spans}
        if not self.by_buffers:
            return {_in_legend(name): look for name, look in self._by_name.items() if name in names}
        numbers = sorted({span.buffers for span in spans if span.buffers is not None})
        buffers = {_in_words(number): Look(buffer_colour(number), "") for number in numbers}
        hatches = {name: Look("#FFFFFF", hatch) for name, hatch in HOST_HATCHES.items()}
        kinds = {**hatches, WAIT: LOOKS[WAIT]}
        return buffers | {_in_legend(name): look for name, look in kinds.items() if name in names}


def buffer_colour(number: int) -> str:
    return BUFFER_COLOURS[number % len(BUFFER_COLOURS)]


def _in_words(number: int) -> str:
    return f"IO buffers {number}"


def _in_legend(name: str) -> str:
    return "wait (host idle)" if name == WAIT else name
