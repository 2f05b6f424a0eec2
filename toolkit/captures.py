"""Captures of CUDA graphs that fail, and a process that goes on.

What torch leaves behind was read in its source (`torch.cuda.graph.__exit__`, `CUDAGraph::capture_begin` and
`capture_end`, CUDAGeneratorImpl.cpp and CUDACachingAllocator.cpp, 2.11 to 2.13): `capture_end` raises at its first
line, and whatever stands behind it is not done.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@contextmanager
def clean_capture(pool: Any = None) -> Iterator[Any]:  # noqa: ANN401 (torch has no public type for a pool's handle)
    """Around every capture of a graph: if it fails, the process can go on as before. Without CUDA nothing is done.

        with clean_capture() as pool, torch.cuda.graph(graph, pool=pool):

    Where a capture fails, torch leaves three things as they were in the middle of it:
    - the current stream is still the one that captured;
    - the allocator still takes the pool for one that is being recorded into, and `empty_cache` gives nothing back any
      more, whatever pool it is of (a capture into that very pool is refused for good, seen with 2.11: take a new one);
    - the random generator still takes every call for a part of the capture: all later ones raise "Offset increment
      outside graph capture", and so does the replay of every earlier graph, which shares the generator's state.

    Args:
        pool: what the capture allocates from; by default a new one, which it must be given.
    """
    if not torch.cuda.is_available():
        yield pool
        return
    pool = pool or torch.cuda.graph_pool_handle()
    stream, device = torch.cuda.current_stream(), torch.cuda.current_device()
    generator = torch.cuda.default_generators[device]
    state = generator.clone_state()
    try:
        yield pool
    except BaseException:
        torch.cuda.set_stream(stream)
        with suppress(RuntimeError):  # raised if the capture itself has ended as it should
            torch._C._cuda_endAllocateToPool(device, pool)
            torch._C._cuda_releasePool(device, pool)
        try:
            _capture_something()
        except RuntimeError:
            generator.graphsafe_set_state(state)  # mends the random numbers at least
        raise


def _capture_something() -> None:
    """A capture that succeeds ends what an earlier one has left open in the generator's state."""
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.zeros(1, dtype=torch.uint8, device="cuda")


def captures_cleanly(
    method: Callable[Concatenate[Any, Arguments], Result],
) -> Callable[Concatenate[Any, Arguments], Result]:
    """Decorator for a method that captures from `self.pool`: its captures are clean ones."""

    @functools.wraps(method)
    def clean(self: Any, *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:  # noqa: ANN401
        with clean_capture(self.pool):
            return method(self, *arguments, **options)

    return clean
