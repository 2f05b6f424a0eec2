"""The window of each race in transformers' batching, held open by a busy stream, and measured with events.

For transformers_verdicts.py. A window is a dict of moments. It was open if they come in the order in which they are
written there: an operation that should have been waited for ended after one that needs it had begun.
"""

import contextlib
import itertools
import types

import torch
from transformers.generation.continuous_batching.model_runner import ModelRunner

from tests.toolkit.simgpu.transformers_batching import ASYNC, SYNC, input_outputs, replaced

PAIR = input_outputs.HostDeviceIOPair
SLEEP_CYCLES = 150_000_000  # some 80 ms on a current GPU


def moment(stream=None):
    """An event that is recorded now, on `stream` or the current one, and can be compared with others."""
    event = torch.cuda.Event(enable_timing=True)
    event.record(stream or torch.cuda.current_stream())
    return event


@contextlib.contextmanager
def late_write(windows):
    """Race 1: the current stream is busy when it comes to write a batch's indices, which the forward pass reads."""

    class Torch(types.ModuleType):
        def __getattr__(self, name):
            return getattr(torch, name)

        def tensor(self, *args, **kwargs):
            made = torch.tensor(*args, **kwargs)  # a blocking copy: what comes before it is done
            if made.is_cuda and made.dtype == torch.int64:  # the indices come last
                torch.cuda._sleep(SLEEP_CYCLES)
            return made

    written = {}

    def prepare(before):
        def prepare_batch_tensors(self, *args, **kwargs):
            before(self, *args, **kwargs)
            written["the indices are written"] = moment()

        return prepare_batch_tensors

    def compute(before):
        def compute_batch(self, *args):
            begins = moment(self.inputs_and_outputs.compute_stream)
            windows.append({"the forward pass begins": begins, **written})
            before(self, *args)

        return compute_batch

    with (
        replaced(input_outputs, "torch", lambda before: Torch("torch")),
        replaced(SYNC, "prepare_batch_tensors", prepare),
        replaced(ModelRunner, "compute_batch", compute),
    ):
        yield


@contextlib.contextmanager
def late_clearing(windows):
    """Race 2: the current stream is busy when `reset()` comes to clear the inputs on the device.

    The compute stream is busy for longer. Otherwise a fast GPU is done with the first batches before the inputs are
    cleared, and they are cleared at a time when it does no harm.
    """
    first = {}  # the moments of the first batch after a reset

    def clear(before):
        def reset(self):
            torch.cuda._sleep(3 * SLEEP_CYCLES)  # the host needs to come to the first copy meanwhile
            before(self)
            first.clear()
            first["the inputs are cleared"] = moment()

        return reset

    def copy(before):
        def transfer_inputs_h2d(self, stream):
            first.setdefault("the copy of the inputs begins", moment(stream))
            before(self, stream)

        return transfer_inputs_h2d

    def compute(before):
        def compute_batch(self, *args):
            if "the inputs are cleared" in first:
                stream = self.inputs_and_outputs.compute_stream
                with torch.cuda.stream(stream):
                    torch.cuda._sleep(6 * SLEEP_CYCLES)
                order = ("the copy of the inputs begins", "the inputs are cleared")
                windows.append({**{what: first.pop(what) for what in order}, "the forward pass begins": moment(stream)})
            before(self, *args)

        return compute_batch

    with (
        replaced(ASYNC, "reset", clear),
        replaced(PAIR, "transfer_inputs_h2d", copy),
        replaced(ModelRunner, "compute_batch", compute),
    ):
        yield


@contextlib.contextmanager
def late_copies(windows, copies):
    """Race 3: the h2d stream is busy when it comes to copy a batch of the warm-up, until the host clears the buffers.

    Args:
        copies: gets what was to be copied, and what was.
    """
    ends, idle = {}, torch.cuda.Stream()  # a moment on an idle stream is one of the host's

    def copy(before):
        def transfer_inputs_h2d(self, stream):
            if not windows:
                with torch.cuda.stream(stream):
                    torch.cuda._sleep(2 * SLEEP_CYCLES)  # the host's thread starts within it
            meant = self.host_io._bulk_input_tensor.clone()
            before(self, stream)
            ends[self] = moment(stream)
            with torch.cuda.stream(stream):
                copies.append((meant, self.device_io._bulk_input_tensor.clone()))

        return transfer_inputs_h2d

    def clear(before):
        def reset(self):
            if self in ends:
                windows.append({"the host clears the buffer": moment(idle), "its copy ends": ends[self]})
            before(self)

        return reset

    with replaced(PAIR, "transfer_inputs_h2d", copy), replaced(PAIR, "reset", clear):
        yield


def in_ms(windows, began):
    """The windows with milliseconds since the event `began` in place of events. The device must be done."""
    return [{what: round(began.elapsed_time(each), 3) for what, each in window.items()} for window in windows]


def is_open(window):
    """Did its moments come one after another, in the order in which they are written there?"""
    times = list(window.values())
    return all(earlier < later for earlier, later in itertools.pairwise(times))
