"""How each kind of work looks in a picture: a colour and a hatch.

The colours are those of Okabe and Ito, which the colour-blind can tell apart. For greyscale, kinds of work that meet in
one row also differ in lightness or in hatch.
"""

from collections.abc import Iterable

from matplotlib.patches import Patch

from toolkit.timeline.recording import WAIT, Span

# (colour, hatch) by what is done. Usual names keep their look in every picture; others take the spare looks in order.
LOOKS = {
    "prepare": ("#E69F00", ""),
    "launch": ("#0072B2", ""),
    "commit": ("#CC79A7", "//"),
    WAIT: ("#FFFFFF", "...."),
    "forward": ("#009E73", ""),
    "kernel": ("#009E73", ""),
    "copy": ("#F0E442", "\\\\"),
    "copy in": ("#F0E442", "\\\\"),
    "copy out": ("#56B4E9", "xx"),
}
SPARE_LOOKS = [("#D55E00", "--"), ("#F0E442", "||"), ("#56B4E9", "++"), ("#999999", "oo"), ("#E69F00", "**")]
DARK = {"#0072B2", "#009E73", "#D55E00"}  # white text on these


def choose_looks(spans: Iterable[Span]) -> dict[str, tuple[str, str]]:
    """A look for every name in the recording, the usual names first."""
    names = dict.fromkeys(span.name for span in spans)
    looks = {name: look for name, look in LOOKS.items() if name in names}
    for number, name in enumerate(name for name in names if name not in LOOKS):
        looks[name] = SPARE_LOOKS[number % len(SPARE_LOOKS)]
    return looks


def legend_patch(name: str, look: tuple[str, str]) -> Patch:
    """The legend's entry for a kind of work."""
    colour, hatch = look
    label = "wait (host idle)" if name == WAIT else name
    return Patch(facecolor=colour, hatch=hatch, edgecolor="#333333", linewidth=0.6, label=label)
