"""How busy the GPU is, measured in short runs of their own: observing costs time, and would change a timed run.

Two measures, from coarse to fine, both of them a union of intervals over an explicit window (chapter 0):

    gpu_active     a batch was on the device: from the first kernel of its forward to the last, by two timing events
                   around it. Copies are apart. What is missing to 1 is time in which no batch was there.
    kernel_active  a kernel, a copy or a memset ran, on any stream, by the profiler's trace. Lower, since there are gaps
                   of about a microsecond between the kernels of a batch, also of one graph; in a synchronous engine
                   also because the profiler slows the host, and the device waits for it.

What a step costs the host (`host_ms`, ours only) is measured before either, with nothing that looks on: host_work.py.

Both are taken in the same way for ours and transformers': the events stand on the compute stream of an engine, behind
its waiting for the inputs, and the profiler sees what all threads launch. Of vLLM, in a process of its own, there is
the second measure only.
"""

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from toolkit.commands.bench.measured import Activity
from toolkit.timeline import Recording, steady
from toolkit.timeline.between_forwards import between_forwards
from toolkit.timeline.intervals import Interval, idle_share

GPU_EVENTS = {"kernel", "gpu_memcpy", "gpu_memset"}
TRIM = 0.1  # of the profiled stretch at either end: starting and stopping the profiler disturbs it


def steady_shares(recording: Recording) -> Activity:
    """What the events around the forwards say of the steady state, as part of a row."""
    seen = between_forwards(steady(recording))
    return Activity(
        gpu_active=round(1 - seen.idle_share, 4),
        device_ms=round(seen.device_ms, 4),
        host_ms=round(seen.host_ms, 4),
    )


def start_profiler() -> None:
    """Let the profiler do what it does at its first use only, which takes seconds."""
    kernel_share(lambda: torch.zeros(2**20, dtype=torch.float32, device="cuda").add_(1))


def kernel_share(work: Callable[[], Any]) -> float | None:
    """Run `work` under the profiler: the share of its time in which anything ran on the GPU, of whichever thread.

    None where there is no GPU, or where the profiler may not look at it.
    """
    if not torch.cuda.is_available():
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        work()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        return share_of_trace(json.loads(trace.read_text(encoding="utf-8"))["traceEvents"])


def share_of_trace(events: Iterable[dict[str, Any]]) -> float | None:
    """The share for a trace's events; None if there are none of the GPU.

    The window is what the profiler saw less TRIM at either end. Its edges are points in time, not edges of kernels, so
    that a wait there is neither hidden nor made up.
    """
    intervals: list[Interval] = [
        (float(event["ts"]), float(event["ts"]) + float(event["dur"]))
        for event in events
        if event.get("ph") == "X" and event.get("cat") in GPU_EVENTS
    ]
    if not intervals:
        return None
    first, last = min(start for start, _ in intervals), max(end for _, end in intervals)
    cut = TRIM * (last - first)
    return round(1 - idle_share(intervals, (first + cut, last - cut)), 4)
