"""The comparison as a table for the terminal."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

COLUMNS = (
    "engine",
    "tokens/s",
    "ms/step",
    "TTFT ms",
    "p99",
    "ITL ms",
    "p99",
    "GPU active",
    "kernels",
    "all run",
    "rounds",
)
WITH_VLLM = ", in a call with vLLM"


def table(rows: Iterable[dict[str, Any]]) -> str:
    """A block for each case, a line for each engine; medians over the rounds.

    GPU active and kernels: see activity.py; all run: the same as GPU active for the whole of a timed run.
    """
    ordered = sorted(rows, key=case_of)
    return "\n\n".join(block(case, list(mine)) for case, mine in groupby(ordered, key=case_of))


def case_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What compared rows have in common; whether vLLM took part too, since only engines of one call are compared."""
    return row["model"], row["workload"], row["new_tokens"], row["batch"], row["requests"], row["beside_vllm"]


def block(case: tuple[Any, ...], rows: list[dict[str, Any]]) -> str:
    model, workload, new_tokens, batch, requests, beside_vllm = case
    length = f"up to {new_tokens:,}" if workload in ("ragged", "mixed") else f"{new_tokens:,}"
    title = f"{model}, {workload}: {requests} requests, {batch} in a batch, {length} new tokens each"
    title += WITH_VLLM * beside_vllm
    floor = next((row["floor_ms_per_step"] for row in rows if row["floor_ms_per_step"]), None)
    if floor:
        title += f"; a step must read memory for {floor:.2f} ms"
    lines = [COLUMNS] + [line(row) for row in sorted(rows, key=lambda row: row["tokens_per_s"])]
    kernels = sorted({f"  {row.get('version', row['engine'])}: attention by {row['attention']}" for row in rows})
    return "\n".join([title, *aligned(lines), *kernels])


def gains(rows: Iterable[dict[str, Any]]) -> str:
    """For each case with equal requests: what asynchrony brings beside what the idle share allows, and who is quicker.

    A case is named by its rows and new tokens; compared are asynchronous engines. The ceiling is 1 / (share of the
    synchronous run in which a batch was on the device): no engine can do better than fill what was idle. Of vLLM in one
    process and in two, the quicker one is compared.
    """
    lines: list[Sequence[str]] = [
        ("ours: rows x new tokens", "async / sync", "at most", "/ transformers", "/ vllm", "of the floor")
    ]
    for case, mine in groupby(sorted(rows, key=case_of), key=case_of):
        model, workload, new_tokens, batch, _, beside_vllm = case
        by_speed = sorted(mine, key=lambda row: row["tokens_per_s"])
        found = {(row["engine"], row["mode"], row["compiled"]): row for row in by_speed}
        peers = [found.get(key) for key in (("transformers", "async", False), ("vllm", "async", True))]
        for compiled in (False, True):
            ours, before = (found.get(("ours", mode, compiled)) for mode in ("async", "sync"))
            if workload != "equal" or ours is None or not any((before, *peers)):
                continue
            name = f"{model}, {batch} x {new_tokens:,}" + ", compiled" * compiled + ", with vLLM" * beside_vllm
            gain, *quicker = (times(ours["tokens_per_s"], row, "tokens_per_s") for row in (before, *peers))
            ceiling, floor = times(1, before, "run_active"), times(ours["ms_per_step"], ours, "floor_ms_per_step")
            lines.append((name, gain, ceiling, *quicker, floor))
    return "\n".join(aligned(lines))


def times(value: float, row: dict[str, Any] | None, key: str) -> str:
    """How many times as large a value is as a row's; a dash where that was not measured."""
    return "-" if row is None or row[key] is None else f"{value / row[key]:.2f}"


def line(row: dict[str, Any]) -> tuple[str, ...]:
    name = f"{row['engine']} {row['mode']}" + ", compiled" * row["compiled"]
    name += ", two processes" * (row.get("processes", 1) == 2)
    numbers = [f"{row['tokens_per_s']:,.0f}", f"{row['ms_per_step']:.2f}"]
    numbers += [f"{row[key]:.1f}" for key in ("ttft_ms", "ttft_p99_ms", "itl_ms", "itl_p99_ms")]
    shares = ["-" if row[key] is None else f"{row[key]:.1%}" for key in ("gpu_active", "kernel_active", "run_active")]
    return (name, *numbers, *shares, str(row["rounds"]))


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns: the first to the left, the others to the right."""
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(lines[0]))]
    return [
        "  "
        + cells[0].ljust(widths[0])
        + "".join(f"  {cell.rjust(w)}" for cell, w in zip(cells[1:], widths[1:], strict=True))
        for cells in lines
    ]
