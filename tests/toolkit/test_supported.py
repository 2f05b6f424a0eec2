"""A model that the engines would serve wrong is refused when an engine is made for it, wherever it comes from."""

import warnings

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForSequenceClassification, LlamaModel, T5Config
from transformers import T5ForConditionalGeneration as T5

from ch01_naive_loop import NaiveEngine
from ch02_continuous_batching import SamplingParams
from ch02_continuous_batching.build import build
from ch08_full_engine import FullEngine
from tests.helpers import random_prompts, reference_outputs
from toolkit.errors import UserError
from toolkit.models.supported import FIXED_ROPE, SUPPORTED, served_length

SIZES = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PROMPTS = random_prompts(4, seed=7, shortest=3, longest=30)
NEW_TOKENS = 12

SLIDING = {"use_sliding_window": True, "sliding_window": 8}
LONGROPE = {"short_factor": [1.5] * 8, "long_factor": [4.0] * 8, "factor": 4.0}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
ROPE = {
    "default": {},
    "linear": {"factor": 2.0},
    "llama3": {"factor": 2.0} | LLAMA3,
    "yarn": {"factor": 2.0, "original_max_position_embeddings": 64},
    "proportional": {"partial_rotary_factor": 0.5},
}


def rope(rope_type, **parameters):
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 1e4} | parameters}


def model_of(model_type, **changes):
    """A small random model of that type, made without the toolkit."""
    if model_type == "mistral":
        changes = {"sliding_window": None} | changes
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        config = AutoConfig.for_model(model_type, **(SIZES | HEADS | IDS | {"initializer_range": 0.3} | changes))
        model = AutoModelForCausalLM.from_config(config).eval()
    model.generation_config.eos_token_id = None
    return model


def refusal(make_engine) -> str:
    with pytest.raises(UserError) as caught:
        make_engine()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400, f"not one line: {message}"
    return message


def answers(engine) -> list[list[int]]:
    outputs = engine.generate(PROMPTS, SamplingParams(max_tokens=NEW_TOKENS, ignore_eos=True))
    return [list(output.output_ids) for output in outputs]


OTHER_ARCHITECTURES = [
    *("mamba", "rwkv", "jamba", "qwen3_next"),  # a state, or linear attention
    *("falcon", "bloom", "mpt", "gpt2", "opt"),  # ALiBi, learned positions
    *("gemma2", "gemma3_text", "gpt_oss", "cohere2", "olmo3", "phi3"),  # soft-capping, sinks, sliding layers
    *("mixtral", "qwen2_moe"),  # mixtures of experts
    *("bert", "bart"),  # encoders, and decoders with cross attention
]


@pytest.mark.parametrize("model_type", OTHER_ARCHITECTURES)
def test_another_architecture(model_type):
    model = model_of(model_type)
    for engine in (NaiveEngine, build, FullEngine):
        message = refusal(lambda engine=engine: engine(model))
        assert f"architecture '{model_type}' is not supported; take a model of one of these: llama" in message


def test_an_encoder_and_decoder_and_what_is_no_model_at_all():
    model = T5(T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    assert "architecture 't5' is not supported" in refusal(lambda: build(model))
    assert "architecture None is not supported" in refusal(lambda: build(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("model_type", "changes", "says"),
    [
        ("mistral", {"sliding_window": 8}, "sliding-window attention"),
        ("mistral", {"sliding_window": 8, "layer_types": ["full_attention"] * 2}, "sliding-window attention"),
        ("qwen2", SLIDING | {"max_window_layers": 1}, "sliding-window attention"),
        ("qwen3", SLIDING | {"max_window_layers": 1}, "sliding-window attention"),
        ("smollm3", SLIDING | {"layer_types": ["full_attention", "sliding_attention"]}, "sliding-window attention"),
        ("llama", rope("dynamic", factor=2.0), "'dynamic' depends on the longest row of the batch"),
        ("llama", rope("longrope", **LONGROPE, original_max_position_embeddings=48), "max_length=48 at most"),
        ("llama", {"is_causal": False}, "is_causal in its configuration is False"),
        ("llama", {"return_dict": False}, "return_dict in its configuration is False"),
        ("llama", {"attention_chunk_size": 4}, "attention_chunk_size in its configuration is 4"),
    ],
)
def test_a_supported_architecture_that_asks_for_more(model_type, changes, says):
    model = model_of(model_type, **changes)
    for engine in (NaiveEngine, build, FullEngine):
        assert says in refusal(lambda engine=engine: engine(model))


def test_a_rotary_embedding_that_the_course_does_not_know():
    model = model_of("llama")
    model.config.rope_parameters = {"rope_type": "of_tomorrow"}
    assert f"'of_tomorrow' is none of {', '.join(FIXED_ROPE)}" in refusal(lambda: build(model))


@pytest.mark.parametrize("model_class", [LlamaModel, LlamaForSequenceClassification])
def test_a_model_without_a_language_model_head(model_class):
    model = model_class(AutoConfig.for_model("llama", **SIZES, **HEADS, **IDS))
    assert f"model {model_class.__name__}: it is no LlamaForCausalLM" in refusal(lambda: build(model))


def test_a_model_in_a_wrapper():
    wrapper = torch.nn.Sequential(model_of("llama"))
    wrapper.config = wrapper[0].config
    assert "model Sequential: it is no LlamaForCausalLM" in refusal(lambda: build(wrapper))


def test_weights_that_are_nowhere():
    with torch.device("meta"):
        model = model_of("llama")
    assert "its weights are on meta" in refusal(lambda: build(model))


def test_layers_that_share_a_place_in_the_cache():
    """One layer used twice, or one taken out of the middle: the KV cache is numbered by layer."""
    twice, pruned = model_of("llama"), model_of("llama", num_hidden_layers=3)
    twice.model.layers[1] = twice.model.layers[0]
    del pruned.model.layers[1]
    pruned.config.num_hidden_layers = 2
    assert "have the numbers [0], and config.num_hidden_layers is 2" in refusal(lambda: build(twice))
    assert "have the numbers [0, 2], and config.num_hidden_layers is 2" in refusal(lambda: build(pruned))


# --- what is right must not be refused


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_a_supported_architecture_is_served_as_generate_does(model_type):
    model = model_of(model_type)
    right = reference_outputs(model, PROMPTS, NEW_TOKENS)
    naive = NaiveEngine(model).generate(PROMPTS, [NEW_TOKENS] * len(PROMPTS), ignore_eos=True)
    assert naive == right
    assert answers(build(model, num_blocks=80, block_size=4)) == right


@pytest.mark.parametrize("rope_type", FIXED_ROPE)
def test_a_fixed_rotary_embedding_is_served_as_generate_does(rope_type):
    model = model_of("llama", **rope(rope_type, **ROPE[rope_type]))
    right = reference_outputs(model, PROMPTS, NEW_TOKENS)
    assert answers(build(model, num_blocks=80, block_size=4)) == right


def test_longrope_is_served_up_to_its_original_context_and_no_further():
    model = model_of("llama", **rope("longrope", **LONGROPE, original_max_position_embeddings=48))
    right = reference_outputs(model, PROMPTS, NEW_TOKENS)
    engine = build(model, num_blocks=80, block_size=4, max_length=48)
    assert answers(engine) == right
    with pytest.raises(UserError, match="exceed the context of 48"):
        engine.add_request("long", [5] * 40, SamplingParams(max_tokens=9))
    assert "max_length=48 at most" in refusal(lambda: build(model, max_length=49))


def test_the_served_length_is_the_smaller_of_context_and_limit():
    model = model_of("llama")
    assert [served_length(model, limit) for limit in (None, 50, 128, 500)] == [128, 50, 128, 128]
