"""A model that gives nothing but nan for one request: that one ends with ERROR, its neighbours get their tokens."""

from collections import Counter
from typing import Any

import pytest
import torch

from ch02_continuous_batching import FinishReason, SamplingParams
from ch02_continuous_batching.build import build as build_ch02
from ch06_graphs.build import build as build_ch06
from ch07_carry_over.build import build as build_ch07
from ch08_full_engine import FullEngine
from tests.helpers import tiny_model
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator

pytestmark = needs_simulator
LIMITS = {"num_blocks": 80, "block_size": 4, "max_rows": 6, "token_budget": 32}
ENGINES = {"ch02": build_ch02, "ch06": build_ch06, "ch07": build_ch07, "ch08": FullEngine}


def spoilt_model(token: int) -> Any:
    """Where this token is read, the embedding is nan, and so are all logits of its row from then on."""
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = float("nan")
    return model


def run(build: Any, model: Any, prompts: list[list[int]], **params: Any) -> list[Any]:
    """The last output of each request, all served together; and the engine must be whole afterwards."""
    from toolkit import simgpu

    simgpu.reset("eager")
    engine = build(model, **LIMITS)
    ends = engine.generate(prompts, SamplingParams(max_tokens=MAX_TOKENS, **params))
    assert engine.scheduler.blocks.num_free_blocks == LIMITS["num_blocks"]
    return ends


def assert_failed(output: Any, tokens: list[int]) -> None:
    assert output.finish_reason is FinishReason.ERROR and "no finite logit" in output.error
    assert list(output.output_ids) == tokens


@pytest.mark.parametrize("params", [{}, {"temperature": 0.7, "seed": 3}], ids=["greedy", "sampled"])
@pytest.mark.parametrize("build", ENGINES.values(), ids=ENGINES)
def test_from_its_prompt_on(build: Any, params: dict[str, Any]):
    """No token comes of a spoilt prompt, in a captured graph either."""
    right = [list(out.output_ids) for out in run(build_ch02, tiny_model(), PROMPTS, **params)]
    spoilt = next(token for token in range(96) if not any(token in row for row in PROMPTS + right))
    bad = [5, spoilt, 6]
    ends = run(build, spoilt_model(spoilt), [*PROMPTS[:3], bad, *PROMPTS[3:]], **params)
    assert_failed(ends.pop(3), [])
    assert [list(out.output_ids) for out in ends] == right


@pytest.mark.parametrize("build", ENGINES.values(), ids=ENGINES)
def test_in_the_middle_of_its_answer(build: Any):
    """The token that spoils it is one of its own, and in flight when the next batch carries it over."""
    right = expected()
    counts = Counter(token for row in right + PROMPTS for token in row)
    who, place = next(
        (i, n) for i, row in enumerate(right) for n, token in enumerate(row[:-2]) if n > 1 and counts[token] == 1
    )
    ends = run(build, spoilt_model(right[who][place]), PROMPTS)
    assert_failed(ends.pop(who), right[who][: place + 1])
    assert [list(out.output_ids) for out in ends] == right[:who] + right[who + 1 :]


def test_no_other_request_shares_the_blocks_of_one_that_has_failed():
    """What a step without a finite logit has written is not to be relied on: its blocks get no names."""
    from toolkit import simgpu

    simgpu.reset("eager")
    engine = FullEngine(spoilt_model(7), **LIMITS)
    bad = [5, 7, *range(20, 31)]
    for _ in range(2):
        (end,) = engine.generate([bad], SamplingParams(max_tokens=MAX_TOKENS))
        assert_failed(end, [])
        assert not engine.scheduler.blocks.block_of, "blocks of a request without a finite logit have got names"
    assert engine.metrics.shared_tokens == 0
