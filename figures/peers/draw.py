"""The figures of the comparison with transformers' continuous batching and with vLLM, from `make bench`."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.peers.bars import (
    LIGHT,
    LOOKS,
    by_rows,
    case,
    equal_rows,
    grouped,
    named,
    thousands,
    times,
    times_from_to,
    usual_rows,
    where,
    who,
)
from figures.style import BLUE, EDGE, ORANGE, new_chart
from toolkit.commands.bench.cases import ROWS

SHORT = 256  # new tokens: what every number of rows is measured with


@figure("peers_throughput", "peers")
def throughput(recording: Recorded) -> Figure:
    """Tokens per second, all requests of equal length."""
    rows = usual_rows(recording)
    message = times([row for row in rows if row["model"] == "8b"], "transformers")
    title = f"Asynchronous and compiled: {message}" if message else f"{ROWS} requests, greedy, one GPU"
    picture, axes = new_chart(title, where(recording, rows), width=11, height=4.8)
    grouped(axes, rows, "tokens_per_s", thousands)
    axes.set_ylabel("tokens per second")
    if rows:
        picture.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return picture


@figure("peers_rows", "peers")
def throughput_by_rows(recording: Recorded) -> Figure:
    """Tokens per second with more and more requests in the batch."""
    rows = [row for row in equal_rows(recording, beside_vllm=True) if row["new_tokens"] == SHORT]
    message = times_from_to(rows, "vllm")
    title = f"Asynchronous and compiled: {message}" if message else "Tokens per second by rows"
    title += f" ({SHORT} new tokens each)"
    picture, axes = new_chart(title, where(recording, rows), width=11, height=4.8)
    grouped(axes, rows, "tokens_per_s", thousands, by_rows)
    axes.set_ylabel("tokens per second")
    if rows:
        picture.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return picture


@figure("peers_steps", "peers")
def steps(recording: Recorded) -> Figure:
    """A step's time, and the time that reading the weights and the KV cache takes at the least."""
    rows = usual_rows(recording)
    title = f"What a step takes, and what its memory reads alone would take ({ROWS} rows)"
    picture, axes = new_chart(title, where(recording, rows), width=11, height=4.8)
    extents = grouped(axes, rows, "ms_per_step", "{:.1f}".format)
    floors = {case(row): row["floor_ms_per_step"] for row in rows if row["floor_ms_per_step"]}
    left, right = ([extents[name][side] for name in floors] for side in (0, 1))
    label = "the floor: bytes over the GPU's copy bandwidth"
    axes.hlines(list(floors.values()), left, right, color="black", linewidth=2, label=label)
    for place, floor in zip(right, floors.values(), strict=True):
        axes.text(place, floor, f" {floor:.1f}", fontsize=8, va="center")
    axes.set_ylabel("milliseconds per step")
    picture.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return picture


@figure("peers_active", "peers")
def active(recording: Recorded) -> Figure:
    """How busy the GPU is in steady decode: by batches, and by single kernels."""
    known = [row for row in usual_rows(recording) if row["kernel_active"] is not None]
    # It was measured once for each engine and model, and stands in all rows of the two.
    lines = {(row["model"], who(row)): row for row in known}
    order = [(model, one) for model in ("8b", "1b") for one in LOOKS if (model, one) in lines]
    picture, axes = new_chart(
        "Asynchronous engines keep a batch on the GPU",
        f"{recording['device']}, {ROWS} rows, all of them decoding",
        height=0.42 * len(order) + 1.7,
    )
    looks = (
        ("gpu_active", BLUE, -0.2, "a batch is on the device"),
        ("kernel_active", LIGHT, 0.2, "a kernel runs"),
    )
    for key, colour, shift, label in looks:
        mine = [(place, lines[one][key]) for place, one in enumerate(order) if lines[one][key] is not None]
        places, values = [place + shift for place, _ in mine], [value for _, value in mine]
        bars = axes.barh(places, values, 0.38, color=colour, label=label, **EDGE)
        axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=3, fontsize=8)
    axes.set_yticks(range(len(order)), [f"{model}: {named(one)}" for model, one in order])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if value <= 1 else "")
    axes.grid(visible=False)
    axes.set_xlabel("share of a steady stretch of time")
    picture.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return picture


def latency(recording: Recorded, title: str, key: str) -> Figure:
    """Median and 99th percentile of a latency under the ragged workload, for each engine; the title compares ours."""
    rows = [row for row in recording["rows"] if row["workload"] == "ragged"]
    ours = {row["mode"]: row[key] for row in rows if row["engine"] == "ours"}
    if {"sync", "async"} <= ours.keys():
        title += f" (ours, medians): {ours['async']:.1f} ms asynchronous, {ours['sync']:.1f} synchronous"
    order = [next(row for row in rows if who(row) == one) for one in LOOKS if any(who(row) == one for row in rows)]
    picture, axes = new_chart(title, where(recording, rows), height=0.5 * len(order) + 1.7)
    for name, colour, shift, label in (
        (key, BLUE, -0.2, "median"),
        (key.replace("_ms", "_p99_ms"), ORANGE, 0.2, "99 % are below"),
    ):
        values = [row[name] for row in order]
        places = [place + shift for place in range(len(order))]
        bars = axes.barh(places, values, 0.38, color=colour, label=label, **EDGE)
        axes.bar_label(
            bars, [f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in values], padding=3, fontsize=8
        )
    axes.set_yticks(range(len(order)), [f"{named(who(row))}\n{row['tokens_per_s']:.0f} tokens/s" for row in order])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False)
    load = f" ({order[0]['model']}, {order[0]['requests']} requests that arrive over some seconds)" if order else ""
    axes.set_xlabel("milliseconds" + load)
    picture.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return picture


@figure("peers_first_token", "peers")
def first_token(recording: Recorded) -> Figure:
    """From a request's arrival to its first token."""
    return latency(recording, "First token", "ttft_ms")


@figure("peers_between_tokens", "peers")
def between_tokens(recording: Recorded) -> Figure:
    """From a token to the next one of the same request."""
    return latency(recording, "Next token", "itl_ms")
