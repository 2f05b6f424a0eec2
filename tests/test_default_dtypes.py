"""The engines give the same tokens whatever torch's default dtype is: that one is for the caller's own tensors."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch

from ch02_continuous_batching import SamplingParams
from ch02_continuous_batching.build import build as build_ch02
from ch05_double_buffering.build import build as build_ch05
from ch06_graphs.build import build as build_ch06
from ch07_carry_over.build import build as build_ch07
from ch08_full_engine import FullEngine
from tests.helpers import random_prompts, tiny_model
from tests.simulated import needs_simulator

pytestmark = needs_simulator
PROMPTS = random_prompts(5, seed=2, shortest=2, longest=12)
LIMITS = {"num_blocks": 60, "block_size": 4, "max_rows": 4, "token_budget": 16, "max_length": 32}
ENGINES = {"ch02": build_ch02, "ch05": build_ch05, "ch06": build_ch06, "ch07": build_ch07, "ch08": FullEngine}
SAMPLED = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "seed": 7}


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.float64], ids=str)
def default_dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@cache
def model() -> Any:
    return tiny_model()


def tokens(build: Any, **params: Any) -> list[list[int]]:
    from toolkit import simgpu

    simgpu.reset("eager")
    outputs = build(model(), **LIMITS).generate(PROMPTS, SamplingParams(max_tokens=6, **params))
    return [list(output.output_ids) for output in outputs]


@cache
def right(sampled: bool) -> list[list[int]]:
    return tokens(build_ch02, **(SAMPLED if sampled else {}))


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
@pytest.mark.parametrize("engine", ENGINES)
def test_tokens_do_not_depend_on_the_default_dtype(default_dtype: torch.dtype, engine: str, sampled: bool):
    """Model, KV cache and inputs keep their dtypes, so the tokens are those of float32 as the default."""
    torch.set_default_dtype(torch.float32)
    expected = right(sampled)
    torch.set_default_dtype(default_dtype)
    assert tokens(ENGINES[engine], **(SAMPLED if sampled else {})) == expected


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
@pytest.mark.parametrize("engine", ["ch02", "ch06", "ch08"])
def test_tokens_do_not_depend_on_the_default_device(engine: str, sampled: bool):
    """On "meta" tensors hold no numbers: one that was made there by default would show at once."""
    model(), right(sampled)  # made before: where a caller's model lies is the caller's affair
    torch.set_default_device("meta")
    try:
        seen = tokens(ENGINES[engine], **(SAMPLED if sampled else {}))
    finally:
        torch.set_default_device(None)
    assert seen == right(sampled)
