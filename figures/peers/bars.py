"""Bars for engines: how each looks, in which order they stand, and which rows of a recording are shown.

Of vLLM in one process and in two, the quicker one is shown, for each case and mode.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from figures import Recorded
from figures.style import BLUE, EDGE, GREEN, ORANGE, PINK
from toolkit.commands.bench.cases import ROWS

Row = dict[str, Any]

LIGHT, DARK = "#CCCCCC", "#8A8A8A"  # greys on which hatching can be seen

# (engine, mode, compiled): colour, hatch; from left to right. A hatched bar is a compiled engine, in every picture.
LOOKS = {
    ("transformers", "sync", False): (LIGHT, ""),
    ("transformers", "async", False): (DARK, ""),
    ("transformers", "async", True): (DARK, "//"),
    ("vllm", "sync", True): (PINK, "//"),
    ("vllm", "async", True): (GREEN, "//"),
    ("ours", "sync", False): (ORANGE, ""),
    ("ours", "async", False): (BLUE, ""),
    ("ours", "sync", True): (ORANGE, "//"),
    ("ours", "async", True): (BLUE, "//"),
}


POSSESSIVE = {"transformers": "transformers'", "vllm": "vLLM's"}


def who(row: Row) -> tuple[str, str, bool]:
    return row["engine"], row["mode"], row["compiled"]


def named(spec: tuple[str, str, bool]) -> str:
    engine, mode, compiled = spec
    return f"{engine}, {mode}" + ", compiled" * compiled


def case(row: Row) -> str:
    return f"{row['model']}\n{row['new_tokens']:,} new tokens"


def by_rows(row: Row) -> str:
    return f"{row['model']}\n{row['batch']} rows"


def thousands(value: float) -> str:
    """Short enough to stay clear of the number over the next bar."""
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"


def compared(rows: list[Row], peer: str) -> list[tuple[Row, float]]:
    """How many times as many tokens per second as a peer's asynchronous engine our compiled one makes.

    Returns:
        for each case that has both, in the order of the bars: a row of it, and the ratio.
    """
    found = {}
    for row in sorted(rows, key=lambda r: (r["model"] != "8b", r["new_tokens"], r["batch"])):
        same = [other for other in rows if (case(other), other["batch"]) == (case(row), row["batch"])]
        ours = [other["tokens_per_s"] for other in same if who(other) == ("ours", "async", True)]
        theirs = [other["tokens_per_s"] for other in same if who(other)[:2] == (peer, "async")]
        if ours and theirs:
            found[case(row), row["batch"]] = row, max(ours) / max(theirs)
    return list(found.values())


def times(rows: list[Row], peer: str) -> str:
    """The comparison with a peer in the last case that has both.

    Returns:
        such as "2.2 times transformers' tokens per second (8b, 32 rows, 1,024 new tokens)"; "" where no case has both.
    """
    found = compared(rows, peer)
    if not found:
        return ""
    row, ratio = found[-1]
    load = f"{row['model']}, {row['batch']} rows, {row['new_tokens']:,} new tokens"
    return f"{ratio:.1f} times {POSSESSIVE[peer]} tokens per second ({load})"


def times_from_to(rows: list[Row], peer: str) -> str:
    """The comparison with a peer over all cases that have both, such as "1.2 to 2.5 times vLLM's tokens per second"."""
    ratios = [ratio for _, ratio in compared(rows, peer)]
    return f"{min(ratios):.1f} to {max(ratios):.1f} times {POSSESSIVE[peer]} tokens per second" if ratios else ""


def where(recording: Recorded, rows: list[Row]) -> str:
    """The device, and the kernels of the other sides: what they had is part of the result."""
    kernels: dict[str, set[str]] = {}
    for row in rows:
        if row["engine"] != "ours":
            version = row["version"].partition(",")[0] if row["engine"] == "vllm" else recording["transformers"]
            kernels.setdefault(f"{row['engine']} {version.split()[-1]}", set()).add(row["attention"])
    peers = (f"; {name} with {' and '.join(sorted(found))}" for name, found in sorted(kernels.items()))
    return recording["device"] + "".join(peers)


def equal_rows(recording: Recorded, beside_vllm: bool) -> list[Row]:
    """The rows of one length, of the calls in which vLLM took part or of the others; the quickest of those that look
    the same."""
    mine = (row for row in recording["rows"] if row["beside_vllm"] == beside_vllm)
    of_one_length = (row for row in mine if row["workload"] in ("equal", "article"))
    rows = sorted(of_one_length, key=lambda r: r["tokens_per_s"])
    return list({(case(row), row["batch"], row["workload"], who(row)): row for row in rows}.values())


def usual_rows(recording: Recorded) -> list[Row]:
    """Without vLLM, with the usual number of requests, of cases in which there is something to compare."""
    rows = [row for row in equal_rows(recording, beside_vllm=False) if row["batch"] == ROWS]
    measured = Counter(case(row) for row in rows)
    return [row for row in rows if measured[case(row)] > 1]


def absent(group: list[tuple[str, str, bool]], present: list[tuple[str, str, bool]]) -> str:
    """A line for a group in which transformers is missing although it takes part elsewhere: it was not run there."""
    missing = any(spec[0] == "transformers" for spec in present) and all(spec[0] != "transformers" for spec in group)
    return "\n(transformers: not run)" if missing else ""


def grouped(
    axes: Any,  # noqa: ANN401
    rows: list[Row],
    key: str,
    text: Callable[[float], str],
    case: Callable[[Row], str] = case,
) -> dict[str, tuple[float, float]]:
    """On matplotlib's `axes` a group of bars for each case, in it a bar for each engine that was measured there.

    Returns:
        for each case, where on the x axis its group begins and ends.
    """
    order = sorted(rows, key=lambda r: (r["model"] != "8b", r["new_tokens"], r["batch"]))
    cases = list(dict.fromkeys(case(row) for row in order))
    present = [spec for spec in LOOKS if any(who(row) == spec for row in rows)]
    width = 0.84 / max(len(present), 1)
    groups = {name: [one for one in present if any((case(r), who(r)) == (name, one) for r in rows)] for name in cases}
    first = {name: cases.index(name) - width * (len(group) - 1) / 2 for name, group in groups.items()}
    for spec in present:
        mine = [row for row in rows if who(row) == spec]
        places = [first[case(row)] + width * groups[case(row)].index(spec) for row in mine]
        colour, hatch = LOOKS[spec]
        look = {"color": colour, "hatch": hatch, "label": named(spec), **EDGE}
        bars = axes.bar(places, [row[key] for row in mine], width, **look)
        axes.bar_label(bars, [text(row[key]) for row in mine], padding=2, fontsize=7 if len(present) < 8 else 6.5)
    axes.set_xticks(range(len(cases)), [name + absent(groups[name], present) for name in cases])
    axes.margins(y=0.1)
    half = width / 2
    return {name: (first[name] - half, first[name] + width * (len(groups[name]) - 1) + half) for name in cases}
