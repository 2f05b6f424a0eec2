"""A capture that fails leaves the process as it was: the current stream, random numbers, and later captures."""

import gc
from typing import Any

import pytest
import torch

from toolkit.captures import clean_capture
from toolkit.device import sealed_box

pytestmark = pytest.mark.gpu


def waiting(x: torch.Tensor, y: torch.Tensor) -> None:
    y.fill_(x.sum().item())  # waits for the device, which a capture does not allow


def assert_as_before(stream: Any, x: torch.Tensor, y: torch.Tensor) -> None:
    torch.cuda.synchronize()
    assert torch.cuda.current_stream() == stream, "the current stream is still the one that captured"
    assert torch.randn(4, device="cuda").isfinite().all()
    replay = sealed_box("copy", lambda source, target: target.copy_(source), [x], [y])
    y.zero_()
    replay()
    torch.cuda.synchronize()
    assert y.tolist() == x.tolist()


def test_a_sealed_box_that_waits():
    """The warm-up may wait, the capture may not."""
    x, y, stream = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda"), torch.cuda.current_stream()
    with pytest.raises(RuntimeError):
        sealed_box("waiting", waiting, [x], [y])
    assert_as_before(stream, x, y)


def test_random_numbers_go_on_where_they_were():
    """The generator's seed and offset are those of before the capture."""
    torch.cuda.manual_seed(5)
    right = [torch.randn(4, device="cuda").tolist() for _ in range(2)]
    torch.cuda.manual_seed(5)
    seen = [torch.randn(4, device="cuda").tolist()]
    x, y = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError), clean_capture() as pool, torch.cuda.graph(graph, pool=pool):
        waiting(x, y)
    seen.append(torch.randn(4, device="cuda").tolist())
    assert seen == right


def test_graphs_that_were_there_before():
    """They share the random generator's state with the capture that fails; their replays go on."""
    x, y = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda")
    replay = sealed_box("add", lambda source, target: target.add_(source), [x], [y])
    with pytest.raises(RuntimeError):
        sealed_box("waiting", waiting, [x], [torch.zeros_like(y)])
    y.zero_()
    replay()
    replay()
    torch.cuda.synchronize()
    assert y.tolist() == [2.0] * 4


def test_memory_is_given_back():
    """What a failed capture has allocated is no one's any more, and `empty_cache` gives back what nobody has."""
    x, y = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda")

    def large(source: torch.Tensor, target: torch.Tensor) -> None:
        torch.empty(2**28, dtype=torch.uint8, device="cuda").fill_(1)
        waiting(source, target)

    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    with pytest.raises(RuntimeError):
        sealed_box("large", large, [x], [y])
    gc.collect()
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved() - before
    assert held < 2**26, f"{held / 2**20:.0f} MiB are still reserved"


def test_a_model_whose_forward_waits():
    """An engine cannot be made of it; the next engine can."""
    from ch02_continuous_batching import SamplingParams
    from ch07_carry_over import AsyncEngine
    from tests.helpers import tiny_model

    class Waiting(AsyncEngine):
        def forward(self, *arguments: Any) -> torch.Tensor:
            ids = super().forward(*arguments)
            ids.sum().item()
            return ids

    stream, model = torch.cuda.current_stream(), tiny_model().to("cuda")
    with pytest.raises(RuntimeError):
        Waiting(model, num_blocks=20, block_size=4)
    x, y = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda")
    assert_as_before(stream, x, y)
    [output] = AsyncEngine(model, num_blocks=20, block_size=4).generate([[5, 6, 7]], SamplingParams(max_tokens=4))
    assert len(output.output_ids) == 4
