"""A simulated GPU: an asynchronous device "sim" for torch, on a machine without one, with the names of `torch.cuda`.

Ordinary tensor code and unchanged models run on it. Work is queued on streams; four policies decide when it
really runs, within CUDA's ordering rules (`reset`); a race detector reports two operations that nothing orders, with
both lines and the missing edge, even if the numbers came out right; a virtual clock says how long it would have taken.

    from toolkit import simgpu
    simgpu.reset("lazy")                                   # or "eager", "random:7", "threads"
    x = torch.zeros(4, device="sim")
    h2d = simgpu.Stream(name="h2d")
    with simgpu.stream(h2d):
        x.copy_(torch.ones(4, pin_memory=True), non_blocking=True)
    x + 1                                                  # RaceError: the default stream did not wait for h2d

Importing this package registers the device with torch and is refused in a process that can use CUDA. It imports torch
and numpy only, nothing of the course around it; README.md says how to use it.

A program written for torch.cuda runs as it is within `as_cuda()`, or by `python -m toolkit.simgpu script.py`.

What it does not model (it raises NotImplementedError naming the operation, unless said otherwise here):
- several devices; races between host threads (they count as one actor, in the order in which they call; not detected);
- outside of `as_cuda`: `torch.accelerator`, `torch.Stream` and `torch.Event` (torch's own answer with an error or
  nothing);
- torch.compile, raw handles of streams, operations without a kernel on the CPU, and what else of torch.cuda is not in
  cuda_names.py;
- streams of a backward pass beside each other: it is one sequence, whatever streams it takes (backward.py);
- torch.Generator on the device, random numbers in graphs;
- other memory for the same tensor (`resize_`, `set_`, `out=` of the wrong shape);
- pickling; `torch.save` and `torch.load` outside of `as_cuda`, and in the format before torch 1.6;
- ways to the bytes that no check would see: numpy, DLPack and storages of pinned or device memory. (What C code does at
  the address `data_ptr()` is not seen.)
- operations whose result's shape torch cannot compute beforehand on its "meta" device;
- two captures at the same time; copies from pageable memory into a graph;
- indexed reads and writes (`index_put_`, `gather`, ...) whose index the host does not know, or in a graph: they count
  as touching the whole tensor, and two that never meet are reported all the same (rows.py);
- reuse of freed memory is by exact size, memory never runs out, priorities of streams have no effect;
- times come from a table of prices (`Costs`): they show what overlaps with what, never how fast something is.
"""

from toolkit.simgpu.as_cuda import as_cuda
from toolkit.simgpu.backend import register
from toolkit.simgpu.clock import Costs, Span
from toolkit.simgpu.control import (
    current_device,
    describe_races,
    device_count,
    edges,
    empty_cache,
    forget,
    get_device_name,
    host_work,
    is_available,
    manual_seed_all,
    max_memory_allocated,
    memory_allocated,
    memory_reserved,
    name_tensors,
    now_ms,
    races,
    reset,
    reset_peak_memory_stats,
    set_sync_debug_mode,
    spans,
    synchronisations,
)
from toolkit.simgpu.edges import Edge
from toolkit.simgpu.errors import CaptureError, DeviceError, Party, Race, RaceError
from toolkit.simgpu.graphs import CUDAGraph, graph, graph_pool_handle, is_current_stream_capturing
from toolkit.simgpu.hostops import write_on_host
from toolkit.simgpu.launches import launch, plain_module, sleep
from toolkit.simgpu.sites import report_lines
from toolkit.simgpu.streams import (
    Event,
    Stream,
    StreamContext,
    current_stream,
    default_stream,
    set_stream,
    stream,
    synchronize,
)
from toolkit.simgpu.synchronisations import Synchronisation

register()

__all__ = [
    "CUDAGraph",
    "CaptureError",
    "Costs",
    "DeviceError",
    "Edge",
    "Event",
    "Party",
    "Race",
    "RaceError",
    "Span",
    "Stream",
    "StreamContext",
    "Synchronisation",
    "as_cuda",
    "current_device",
    "current_stream",
    "default_stream",
    "describe_races",
    "device_count",
    "edges",
    "empty_cache",
    "forget",
    "get_device_name",
    "graph",
    "graph_pool_handle",
    "host_work",
    "is_available",
    "is_current_stream_capturing",
    "launch",
    "manual_seed_all",
    "max_memory_allocated",
    "memory_allocated",
    "memory_reserved",
    "name_tensors",
    "now_ms",
    "plain_module",
    "races",
    "report_lines",
    "reset",
    "reset_peak_memory_stats",
    "set_stream",
    "set_sync_debug_mode",
    "sleep",
    "spans",
    "stream",
    "synchronisations",
    "synchronize",
    "write_on_host",
]
