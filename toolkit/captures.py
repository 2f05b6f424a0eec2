"""Captures of CUDA graphs that fail, and a process that goes on.

What torch leaves behind was read in its source (`torch.cuda.graph.__exit__`, `CUDAGraph::capture_end`, 2.11 to 2.13).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def clean_capture() -> Iterator[None]:
    """Around every capture of a graph: if it fails, the process can go on as before. Without CUDA nothing is done.

    Where a capture fails, torch raises before it has put two things right: the current stream is still the one that
    captured, and the random generator still takes every call for a part of the capture, so that all later ones raise
    "Offset increment outside graph capture".
    """
    if not torch.cuda.is_available():
        yield
        return
    stream = torch.cuda.current_stream()
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    state = generator.clone_state()
    try:
        yield
    except BaseException:
        torch.cuda.set_stream(stream)
        generator.graphsafe_set_state(state)
        raise
