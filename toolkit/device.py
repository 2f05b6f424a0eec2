"""One way to write device code that runs on a real GPU and on the simulated one.

    from toolkit.device import accelerator, DEVICE, new_stream, one_launch

`accelerator` is `torch.cuda` where CUDA is available, else `toolkit.simgpu`; `DEVICE` is "cuda" or "sim" accordingly.
Both are looked up on first use: importing this module registers nothing, and a process that never asks for the
accelerator (the CPU engines) never meets the simulator.

Use torch's own names wherever they exist on both: `accelerator.Stream()`, `Event()`, `stream(s)`, `current_stream()`,
`CUDAGraph()`, `torch.empty(..., pin_memory=True)`, `copy_(..., non_blocking=True)`. The functions here are the rest.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from toolkit.captures import clean_capture

if TYPE_CHECKING:
    from toolkit.timeline import Timeline

    accelerator: Any
    DEVICE: str


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module or a string)
    if name == "accelerator":
        return _accelerator()
    if name == "DEVICE":
        return "cuda" if torch.cuda.is_available() else _registered_name()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache  # asked for several times in every step, and the answer never changes
def _accelerator() -> ModuleType:
    if torch.cuda.is_available():
        return torch.cuda
    from toolkit import course, simgpu
    from toolkit.report_lines import rank_of

    simgpu.report_lines(course.ROOT, rank_of, skip=[course.ROOT / "toolkit"])
    return simgpu


def _registered_name() -> str:
    _accelerator()
    return "sim"


@functools.cache
def is_simulated() -> bool:
    """Is the accelerator the simulated GPU?"""
    return not torch.cuda.is_available()


def new_stream(name: str) -> Any:  # noqa: ANN401 (a stream of either kind)
    """A new stream with a name for messages and timelines, such as "h2d"."""
    if is_simulated():
        return _accelerator().Stream(name=name)
    stream = torch.cuda.Stream()
    stream.name = name  # type: ignore[attr-defined]
    return stream


def sleep(ms: float) -> None:
    """Keep the current stream busy for about `ms` milliseconds, to widen a race; other streams' work runs beside it."""
    if is_simulated():
        _accelerator().sleep(ms)
    else:
        torch.cuda._sleep(int(ms * _cycles_per_ms()))


def host_work(ms: float, name: str = "host work") -> None:
    """Declare what a phase of the host's work costs on the virtual clock. Real time passes by itself: nothing on
    CUDA."""
    if is_simulated():
        _accelerator().host_work(ms, name)


def now_ms() -> float:
    """The host's clock, in ms: the virtual one where the GPU is simulated."""
    return float(_accelerator().now_ms()) if is_simulated() else time.perf_counter() * 1e3


def new_timeline() -> "Timeline":
    """A `toolkit.timeline.Timeline` for the accelerator: on the simulated GPU both its clocks are the virtual one."""
    from toolkit.timeline import Timeline
    from toolkit.timeline.simulated import with_details

    if not is_simulated():
        return Timeline("cuda")
    simgpu = _accelerator()
    return Timeline(
        "sim",
        accelerator=simgpu,
        now=lambda: simgpu.now_ms() / 1e3,
        clock="simulated",
        finishing=functools.partial(with_details, simgpu),
    )


def name_tensors(tensors: Mapping[str, torch.Tensor], of: str) -> None:
    """Name tensors in the simulated GPU's reports: "input_ids of the buffers of batch 3". Nothing on CUDA.

    Args:
        tensors: by name.
        of: what they belong to from now on.
    """
    if is_simulated():
        _accelerator().name_tensors(tensors, of)


def write_host(host: torch.Tensor, values: torch.Tensor) -> None:
    """Write `values` into the beginning of `host`, in every dimension. Both are in host memory, of one dtype.

    With one thread, whatever torch is set to: torch spreads a copy of some 30,000 numbers or more over all cores and
    waits for the slowest of them, and with a busy neighbour on the machine that takes several times as long as the copy
    does. numpy never spreads one. The simulated GPU must see what is written, so there it has a function for it.
    """
    if is_simulated():
        _accelerator().write_on_host(host, values)
    else:
        host.numpy()[tuple(map(slice, values.shape))] = values.numpy()


def launch(
    name: str,
    fn: Callable[..., object],
    reads: Sequence[torch.Tensor] = (),
    writes: Sequence[torch.Tensor] = (),
    cost_ms: float | None = None,
) -> None:
    """Queue `fn(*reads, *writes)` on the current stream.

    Args:
        name: for messages and timelines.
        fn: leaves its results in the tensors of `writes`; must not make the host wait.
        reads, writes: device (or pinned) tensors that it reads, and that it writes.
        cost_ms: simulated time.

    On the simulated GPU this is one operation, and `fn` gets plain CPU tensors over the same memory; a model that it
    calls must be plain too (`plain_module`). On CUDA `fn` is called at once and launches its kernels one by one; see
    `one_launch`.
    """
    if is_simulated():
        _accelerator().launch(name, fn, reads, writes, cost_ms)
    else:
        fn(*reads, *writes)


def one_launch(
    name: str,
    fn: Callable[..., object],
    reads: Sequence[torch.Tensor] = (),
    writes: Sequence[torch.Tensor] = (),
    cost_ms: float | None = None,
) -> Callable[[], None]:
    """Close `fn` over these very tensors; calling the result queues it on the current stream with one launch.

    Arguments are those of `launch`. On CUDA the function is run twice to warm up, with whatever the tensors hold, and
    captured as a graph: what it writes is overwritten, so capture before the tensors hold anything of value.
    """
    if is_simulated():
        return functools.partial(_accelerator().launch, name, fn, tuple(reads), tuple(writes), cost_ms)
    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        for _ in range(2):
            fn(*reads, *writes)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with clean_capture() as pool, torch.cuda.graph(graph, pool=pool):
        fn(*reads, *writes)
    return graph.replay


def plain_module(module: torch.nn.Module) -> torch.nn.Module:
    """The form in which a launched `fn` calls a model: on CUDA the model itself, else a twin that shares its memory."""
    return _accelerator().plain_module(module) if is_simulated() else module


@functools.cache
def _cycles_per_ms() -> float:
    """Measure torch.cuda._sleep, whose argument is in clock cycles."""
    cycles = 20_000_000
    torch.cuda._sleep(1000)  # the first use of a kernel loads it, and waits for the device
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    torch.cuda._sleep(cycles)
    end.record()
    end.synchronize()
    return cycles / start.elapsed_time(end)
