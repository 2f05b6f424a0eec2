"""What the asynchronous engine with compiled layers is to reach on an H100, beside what a call has seen.

    host        a step's work for the host: 0.4 ms, and 0.6 us for each row; twice that where requests end and join all
                the time. Less than a step of the device takes, at 32 rows of a model of 135 million parameters as well
                as at 512 rows of one with a billion
    device      idle for half a percent of the time at most
    tokens/s    never fewer with more rows

How near a step comes to what it must read from memory is recorded elsewhere (make record CH=roofline).
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from toolkit.commands.bench.engine_runner import EngineSpec
from toolkit.commands.bench.report import aligned

WHO = EngineSpec("ours", "async", compiled=True)
HOST_MS, HOST_MS_PER_ROW = 0.4, 0.0006
MIXED_TIMES = 2  # so many times the host's work may be under a mixed load
IDLE_SHARE = 0.005

Line = tuple[str, ...]


def targets(rows: Iterable[dict[str, Any]]) -> str:
    """A table with a line for each target that one of the rows says something about; "" if none does."""
    mine = sorted((row for row in rows if EngineSpec.of_row(row) == WHO), key=lambda row: (*load(row), row["batch"]))
    lines = [line for _, group in groupby(mine, key=load) for line in judged(list(group))]
    if not lines:
        return ""
    return "\n".join([f"targets for an H100, {WHO}", *aligned([("", "rows", "seen", "target", ""), *lines])])


def load(row: dict[str, Any]) -> tuple[Any, ...]:
    """What is the same in the rows that differ in their number of requests."""
    return row["model"], row["workload"], row["new_tokens"]


def judged(rows: list[dict[str, Any]]) -> Iterator[Line]:
    """The lines for one load, by rising number of rows."""
    name = f"{rows[0]['model']}, {rows[0]['workload']}, {rows[0]['new_tokens']:,} new tokens: "
    times = {"equal": 1, "mixed": MIXED_TIMES}.get(rows[0]["workload"])
    for row in rows:
        if times is not None and row["host_ms"] is not None:
            most = times * (HOST_MS + HOST_MS_PER_ROW * row["batch"])
            yield line(name + "host ms a step", row, f"{row['host_ms']:.3f}", f"{most:.3f}", row["host_ms"] <= most)
    for row in rows:
        if row["gpu_active"] is not None:
            idle = 1 - row["gpu_active"]
            yield line(name + "device idle", row, f"{idle:.2%}", f"{IDLE_SHARE:.2%}", idle <= IDLE_SHARE)
    for fewer, row in zip(rows, rows[1:], strict=False):
        seen, least = row["tokens_per_s"], fewer["tokens_per_s"]
        yield line(name + "tokens/s", row, f"{seen:,.0f}", f"{least:,.0f}", seen >= least)


def line(name: str, row: dict[str, Any], seen: str, target: str, met: bool) -> Line:
    return name, str(row["batch"]), seen, target, "met" if met else "missed"
