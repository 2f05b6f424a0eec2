"""The sampler where logits, or what the temperature makes of them, are no ordinary numbers: inf, nan, nothing."""

import pytest
import torch

from ch02_continuous_batching import NO_TOKEN, sample, sample_greedy
from tests.simulated import needs_simulator

INF, NAN = float("inf"), float("nan")
ROWS = {  # a row of logits, and the only token that may be drawn from it, however random
    "inf wins": ([1.0, INF, 3.0, 2.0], 1),
    "the first of several inf": ([1.0, 2.0, INF, INF], 2),
    "inf beside nan": ([NAN, 1.0, INF, -INF], 2),
    "nan first": ([NAN, 1.0, -INF, -INF], 1),
    "nan last": ([-INF, -INF, 1.0, NAN], 2),
    "all nan": ([NAN] * 4, NO_TOKEN),
    "all -inf": ([-INF] * 4, NO_TOKEN),
    "nan and -inf": ([-INF, NAN, -INF, NAN], NO_TOKEN),
}
TEMPERATURES = [0.0, 1e-45, 1e-38, 1e-20, 1.0, 1e20, 3e38]
UNIFORM = [0.0, 0.3, 0.7, 1 - 2**-24]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def draw(logits: torch.Tensor, temperature: float, uniform: float, top_k: int = 0, top_p: float = 1.0) -> list[int]:
    rows = logits.shape[0]
    numbers = [torch.full((rows,), value, dtype=torch.float32) for value in (temperature, top_p, uniform)]
    return sample(logits, numbers[0], torch.full((rows,), top_k, dtype=torch.int64), *numbers[1:]).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("row", "right"), ROWS.values(), ids=ROWS)
def test_what_is_no_ordinary_number(row, right, dtype):
    """The same token for every temperature and random number, greedy too; the neighbours are drawn as without it."""
    ordinary = [3.0, 2.0, 1.0, 0.0]
    logits = torch.tensor([ordinary, row, ordinary], dtype=dtype)
    assert sample_greedy(logits).tolist() == [0, right, 0]
    for temperature in TEMPERATURES:
        for uniform in UNIFORM:
            alone = draw(torch.tensor([ordinary], dtype=dtype), temperature, uniform)
            seen = draw(logits, temperature, uniform)
            assert seen == [*alone, right, *alone], f"temperature {temperature}, uniform {uniform}"


@pytest.mark.parametrize("temperature", [1e-30, 1e-37, 1e-38, 1e-40, 1e-45])
@pytest.mark.parametrize(
    "row", [[1.0, 2.0, 3.0, -1.0], [-3.0, -2.0, -1.0, -4.0], [0.0, -1.0, 1e-3, -2.0], [-3e38, 0.0, 3e38, 1e38]]
)
def test_a_temperature_close_to_0_is_greedy(row, temperature):
    """The quotients leave float32, and inf - inf is nan: yet the most likely token is drawn, never the least likely."""
    for uniform in UNIFORM:
        for top_k, top_p in ((0, 1.0), (2, 1.0), (0, 0.5)):
            assert draw(torch.tensor([row]), temperature, uniform, top_k, top_p) == [2]


@pytest.mark.parametrize("temperature", [1.0, 1e-30, 1e-45])
def test_what_is_exactly_as_likely_stays_so(temperature):
    """Two tokens of the same logit share the line, at any temperature above 0."""
    logits = torch.tensor([[5.0, -1e30, 5.0, -1e30]])
    assert [draw(logits, temperature, uniform) for uniform in UNIFORM] == [[0], [0], [2], [2]]


@pytest.mark.parametrize("top_k", [0, 2])
def test_a_nan_is_never_drawn(top_k):
    """What is left is drawn in the right shares: a quarter of the evenly spread numbers for the less likely token."""
    logits = torch.tensor([NAN, 0.25, NAN, 0.75, -INF]).log().expand(1000, 5)
    uniform = (torch.arange(1000) + 0.5) / 1000
    rows = torch.ones(1000)
    drawn = sample(logits, rows, torch.full((1000,), top_k), rows, uniform)
    assert torch.bincount(drawn, minlength=5).tolist() == [0, 250, 0, 750, 0]


def test_a_sum_that_creeps_up_draws_nothing_that_was_cut_off(monkeypatch):
    """A GPU's parallel sum may still rise behind the last token that is left, by its rounding."""
    cumsum = torch.Tensor.cumsum
    creep = 1 + torch.arange(100) * 1e-6
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda self, dim: cumsum(self, dim) * creep)
    for row in (torch.zeros(100), torch.tensor([0.0] * 5 + [NAN] * 95)):
        assert draw(row.expand(4, 100), 1.0, 1 - 2**-24, top_k=5) == [4] * 4


@needs_simulator
@pytest.mark.parametrize("greedy", [True, False])
def test_in_a_captured_graph(greedy):
    """Captured over ordinary logits and replayed over others: the graph has nothing of the former baked in."""
    from toolkit import simgpu

    simgpu.reset("eager")
    rows = [row for row, _ in ROWS.values()]
    logits = torch.zeros(len(rows), 4, dtype=torch.float32, device="sim")
    ids = torch.zeros(len(rows), dtype=torch.int64, device="sim")
    ones = torch.ones(len(rows), dtype=torch.float32, device="sim")
    graph = simgpu.CUDAGraph()
    with simgpu.graph(graph):
        ids.copy_(sample_greedy(logits) if greedy else sample(logits, ones, ids * 0, ones, ones / 2))
    logits.copy_(torch.tensor(rows, dtype=torch.float32))
    graph.replay()
    assert ids.tolist() == [right for _, right in ROWS.values()]
