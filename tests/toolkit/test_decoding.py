"""Measuring an engine's decode steps on the simulated GPU."""

import pytest
import torch

from tests.helpers import reference_outputs, shared_reference, swapped, tiny_model
from toolkit.commands.decoding import Load, serve
from toolkit.timeline.recording import EDGE_STEPS

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the simulated GPU is refused where there is CUDA")


def test_only_decode_steps_are_measured():
    """All tokens come out right; measured is what comes after the first token of each request, its edges left out."""
    from ch04_events.build import build

    load = Load(tiny_model(), requests=3, prompt_len=5, new_tokens=12)
    served = serve(build, load)
    assert served.outputs == reference_outputs(shared_reference(), load.prompts, 12)
    assert (served.steps, served.new_tokens) == (11, 33)
    assert served.recording.clock == "simulated"
    window = served.recording.window
    steps = sorted({span.step for span in served.recording.spans})
    assert window == served.recording.step_window(steps[EDGE_STEPS], steps[-1 - EDGE_STEPS])
    assert served.hidden_waits == ()


def test_wrong_share_counts_tokens():
    """One wrong token of twelve is a twelfth."""
    from ch04_events.build import build

    served = serve(build, Load(tiny_model(), requests=2, prompt_len=3, new_tokens=6))
    expected = [list(output) for output in served.outputs]
    expected[1][4] += 1
    assert served.wrong_share(expected) == 1 / 12


def test_an_engine_that_never_ends_is_stopped():
    """A learner's step() that commits nothing gets a message instead of a notebook that hangs."""
    from ch05_double_buffering import PipelinedEngine
    from ch05_double_buffering.build import build

    class Stuck(PipelinedEngine):
        def step(self):
            return []

    with pytest.raises(RuntimeError, match="requests stay unfinished"):
        serve(swapped(build, PipelinedEngine=Stuck), Load(tiny_model(), requests=2, prompt_len=3, new_tokens=4))
