"""A capture that fails leaves the process as it was: the current stream, random numbers, and later captures."""

import gc
from typing import Any

import pytest
import torch

from toolkit.captures import clean_capture
from toolkit.device import one_launch

pytestmark = pytest.mark.gpu


def waiting(x: torch.Tensor, y: torch.Tensor) -> None:
    y.fill_(x.sum().item())  # waits for the device, which a capture does not allow


def assert_as_before(stream: Any, x: torch.Tensor, y: torch.Tensor) -> None:
    torch.cuda.synchronize()
    assert torch.cuda.current_stream() == stream, "the current stream is still the one that captured"
    assert torch.randn(4, device="cuda").isfinite().all()
    replay = one_launch("copy", lambda source, target: target.copy_(source), [x], [y])
    y.zero_()
    replay()
    torch.cuda.synchronize()
    assert y.tolist() == x.tolist()


def test_one_launch_that_waits():
    """The warm-up may wait, the capture may not."""
    x, y, stream = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda"), torch.cuda.current_stream()
    with pytest.raises(RuntimeError):
        one_launch("waiting", waiting, [x], [y])
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
    replay = one_launch("add", lambda source, target: target.add_(source), [x], [y])
    with pytest.raises(RuntimeError):
        one_launch("waiting", waiting, [x], [torch.zeros_like(y)])
    y.zero_()
    replay()
    replay()
    torch.cuda.synchronize()
    assert y.tolist() == [2.0] * 4


def test_memory_is_given_back():
    """What a failed capture has allocated belongs to no tensor, and `empty_cache` gives back what none uses."""
    x, y = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda")

    def large(source: torch.Tensor, target: torch.Tensor) -> None:
        torch.empty(2**28, dtype=torch.uint8, device="cuda").fill_(1)
        waiting(source, target)

    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    with pytest.raises(RuntimeError):
        one_launch("large", large, [x], [y])
    gc.collect()
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved() - before
    assert held < 2**26, f"{held / 2**20:.0f} MiB are still reserved"


@pytest.mark.parametrize("graphs", [False, True], ids=["one launch", "graphs of chapter 6"])
def test_a_model_whose_forward_waits(graphs: bool):
    """An engine cannot be made of it; the next engine can."""
    from ch02_continuous_batching import SamplingParams
    from ch07_carry_over import carry_step
    from ch07_carry_over.build import build
    from tests.helpers import swapped, tiny_model

    def waiting_step(*arguments: Any) -> torch.Tensor:
        ids = carry_step(*arguments)
        ids.sum().item()
        return ids

    stream, model = torch.cuda.current_stream(), tiny_model().to("cuda")
    with pytest.raises(RuntimeError):
        swapped(build, carry_step=waiting_step)(model, num_blocks=20, block_size=4, graphs=graphs)
    x, y = torch.ones(4, device="cuda"), torch.zeros(4, device="cuda")
    assert_as_before(stream, x, y)
    engine = build(model, num_blocks=20, block_size=4, graphs=graphs)
    [output] = engine.generate([[5, 6, 7]], SamplingParams(max_tokens=4))
    assert len(output.output_ids) == 4
