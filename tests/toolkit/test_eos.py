"""The end-of-sequence ids of a model, in whatever form they are written down."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ch02_continuous_batching import FinishReason, SamplingParams
from ch02_continuous_batching.build import build
from tests.helpers import VOCABULARY, random_prompts, reference_outputs, tiny_model
from toolkit.eos import eos_ids
from toolkit.errors import UserError


def named(value):
    return SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=value))


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (None, set()),
        (2, {2}),
        ([], set()),
        ([2, 3], {2, 3}),
        ((2, 3), {2, 3}),
        ({2, 3}, {2, 3}),
        (frozenset({2}), {2}),
        (range(2, 4), {2, 3}),
        (np.int64(2), {2}),
        (np.array([2, 3]), {2, 3}),
        (np.array(2), {2}),
        ([np.int32(2), 3], {2, 3}),
        (torch.tensor(2), {2}),
        (torch.tensor([2, 3]), {2, 3}),
        ([torch.tensor(2)], {2}),
    ],
    ids=repr,
)
def test_integers_of_every_kind_count(value, right):
    ids = eos_ids(named(value))
    assert ids == right and all(type(each) is int for each in ids)


@pytest.mark.parametrize(
    "value",
    [{}, {"a": 2}, 2.0, float("nan"), "2", b"2", True, [2, "3"], [None], [[2]], torch.tensor(2.0), torch.tensor([[2]])]
    + [torch.tensor([True]), np.array([2.5]), np.True_, object(), "9" * 5000],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_integer_is_refused_in_one_line(value):
    with pytest.raises(UserError, match="eos_token_id of the model's generation config") as caught:
        eos_ids(named(value))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_a_model_without_a_generation_config_names_none():
    assert eos_ids(SimpleNamespace(generation_config=None)) == set()


@pytest.mark.parametrize("form", [tuple, torch.tensor, np.array], ids=["tuple", "tensor", "array"])
def test_an_engine_stops_where_generate_does(form):
    """Two ids, as a tuple, a tensor or an array: the second one ends the answer."""
    model, (prompt,) = tiny_model(), random_prompts(1, seed=2)
    whole = reference_outputs(model, [prompt], 12)[0]
    end = whole[5]
    other = min(set(range(VOCABULARY)) - set(whole))
    model.generation_config.eos_token_id = form([other, end])
    engine = build(model, num_blocks=40, block_size=4)
    (output,) = engine.generate([prompt], SamplingParams(max_tokens=12))
    assert list(output.output_ids) == whole[: whole.index(end) + 1]
    assert output.finish_reason is FinishReason.EOS


def test_an_engine_is_not_made_for_a_model_whose_ids_cannot_be_read():
    model = tiny_model()
    model.generation_config.eos_token_id = {"a": 2}
    with pytest.raises(UserError, match="no token id"):
        build(model)
