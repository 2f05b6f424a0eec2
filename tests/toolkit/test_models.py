"""Loading models: random shapes, folders, and which architectures the engines can serve."""

import pytest
import torch
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.masking_utils import AttentionMaskInterface

from toolkit.models import default, load_model
from toolkit.models.byte_tokenizer import byte_tokenizer
from toolkit.models.supported import SUPPORTED


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny")


@torch.inference_mode()
def greedy(model, token_ids, new_tokens):
    """The new tokens of the library's own generate."""
    output = model.generate(torch.tensor([token_ids]), max_new_tokens=new_tokens, do_sample=False)
    return output[0, len(token_ids) :].tolist()


def test_tiny_is_the_same_at_every_call_and_leaves_the_random_state_alone(tiny):
    before = torch.random.get_rng_state()
    again = load_model("tiny")
    assert torch.equal(before, torch.random.get_rng_state()), "loading a random shape moved the caller's random state"
    for (name, first), second in zip(tiny.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(first, second), f"{name} differs between two calls"
    assert again.model.config is not tiny.model.config, "two models share one configuration"
    assert not again.model.training and again.model.dtype == torch.float32


def test_answers_of_tiny_vary(tiny):
    """Tests compare answers of different requests, which would say nothing if all of them repeated one token."""
    answers = []
    for text in ("Hello", "What is the capital of France?", "Write a haiku about rain."):
        answers.append(greedy(tiny.model, tiny.tokenizer(text)["input_ids"], 32))
        assert len(set(answers[-1])) >= 8, f"the answer to {text!r} is degenerate: {answers[-1]}"
    assert answers[0] != answers[1] != answers[2] != answers[0]


@pytest.mark.parametrize("text", ["plain", "é ☃ 数 👩‍🚀", "two\nlines\tand tab", "1234567890", "<|im_start|>user"])
def test_byte_tokenizer_gives_every_text_back(text):
    tokenizer = byte_tokenizer()
    token_ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(token_ids) == text
    assert tokenizer.unk_token_id not in token_ids


def test_byte_tokenizer_survives_saving(tmp_path):
    byte_tokenizer().save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "Hé"}]
    assert again.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) == (
        "<|im_start|>user\nHé<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (again.eos_token_id, again.pad_token_id) == (2, 2)


def test_a_saved_folder_loads_with_its_answers_unchanged(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    token_ids = tiny.tokenizer("Once upon a time")["input_ids"]
    assert greedy(loaded.model, token_ids, 16) == greedy(tiny.model, token_ids, 16)
    assert loaded.model.config._attn_implementation == "sdpa"
    assert loaded.model.dtype == torch.float32, "on the CPU the default dtype is float32"
    assert load_model(str(tmp_path), dtype=torch.bfloat16).model.dtype == torch.bfloat16


def random_config(model_type, **changes):
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if model_type == "mistral":
        ids["sliding_window"] = None  # as in all its later releases
    return AutoConfig.for_model(model_type, **(sizes | heads | ids | changes))


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_a_supported_architecture_hands_keywords_on_to_the_attention_of_every_layer(model_type):
    """What the engines rest on: `forward(..., block_table=...)` reaches the registered attention, in every layer."""
    seen = []

    def attention(module, query, key, value, attention_mask, *, scaling, **keywords):
        seen.append(keywords.get("block_table"))
        groups = query.shape[1] // key.shape[1]
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), is_causal=True, scale=scaling
        )
        return output.transpose(1, 2).contiguous(), None

    AttentionInterface.register("test_keywords", attention)
    AttentionMaskInterface.register("test_keywords", lambda *arguments, **keywords: None)
    model = AutoModelForCausalLM.from_config(random_config(model_type), attn_implementation="sdpa").eval()
    token_ids, last_rows, table = torch.arange(5, 13)[None], torch.tensor([3, 7]), object()
    with torch.inference_mode():
        expected = model(token_ids).logits[:, last_rows]
        model.set_attn_implementation("test_keywords")
        logits = model(token_ids, use_cache=False, logits_to_keep=last_rows, block_table=table).logits
    assert seen == [table] * 3, f"{model_type}: the block table did not reach the attention of every layer: {seen}"
    torch.testing.assert_close(logits, expected)


def test_the_real_default_model_answers_and_stops():
    """Only where it lies in the cache already: a test downloads nothing."""
    if not (default.cache_folder() / "SmolLM2-135M-Instruct").is_dir():
        pytest.skip("the default model was not downloaded here; `make run` does it")
    loaded = load_model("default")
    tokenizer = loaded.tokenizer
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    token_ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    answer = greedy(loaded.model, token_ids, 40)
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == tokenizer.eos_token_id and len(answer) < 40, "generate did not stop at the end of the answer"
