"""Python's garbage collector, kept out of the two places where it does harm, and called where it is needed.

Most objects are freed as soon as nothing refers to them. What refers to itself in a circle, as an engine and
its captured graphs do, waits for the collector, which from time to time walks over every object of the process. With
torch and transformers loaded that is some 350,000 objects and about 0.1 s, in the middle of whatever step it may be.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from toolkit import device


@contextmanager
def no_collection() -> Iterator[None]:
    """On CUDA, collect now and not again until the end of this block. For captures of graphs.

    If an old engine is taken apart while a graph is being captured, which may destroy a graph or free device memory,
    CUDA declares the capture invalid.
    """
    if device.is_simulated() or not gc.isenabled():
        yield
        return
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def short_collections() -> Iterator[None]:
    """Collect now; until the end of this block the collector looks only at what is made in it, which takes no time.

    For services and measurements. What is there already is not collected meanwhile, so an engine that is thrown away
    inside such a block keeps its memory until the end of it. Where the GPU is simulated this does nothing: its clock
    does not see the collector. (Documentation of Python's gc module, `gc.freeze`; vLLM does the same before it serves.)
    """
    if device.is_simulated():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release_memory() -> None:
    """Give back what nothing refers to any more, such as an engine and its graphs, to the accelerator as well."""
    gc.collect()
    device.accelerator.empty_cache()
