"""The conversion of the default model, on a GGUF file of two layers written here as llama.cpp would write it."""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from transformers import LlamaConfig, LlamaForCausalLM

from toolkit.models import load_model
from toolkit.models.byte_tokenizer import CHAT_TEMPLATE, byte_tokenizer
from toolkit.models.smollm2_gguf import CONTROL_TOKEN, LAYER_WEIGHTS, OTHER_WEIGHTS, convert

SMALL = LlamaConfig(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=262,
    max_position_embeddings=128,
    rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=2,
    tie_word_embeddings=True,
    initializer_range=0.3,
)


def llama_cpp_order(weight, heads):
    """How llama.cpp's own converter reorders query and key rows for its RoPE (convert_hf_to_gguf.py, `permute`)."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path, model):
    """Write a Llama with one weight a layer in 4 bits; the tokenizer knows special tokens, bytes and three merges."""
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(100000.0)
    writer.add_vocab_size(config.vocab_size)

    vocabulary = byte_tokenizer().get_vocab()
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), "he", "12", "ll"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL_TOKEN] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges(["h e", "1 2", "l l"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)

    ours_to_theirs = {theirs: ours for ours, theirs in LAYER_WEIGHTS.items()}
    embeddings_to_theirs = {theirs: ours for ours, theirs in OTHER_WEIGHTS.items()}
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, parameter in model.named_parameters():
        weight = parameter.detach().numpy()
        if name in embeddings_to_theirs:
            writer.add_tensor(embeddings_to_theirs[name], weight)
            continue
        _, _, layer, rest = name.split(".", 3)
        kind = ours_to_theirs[rest.removesuffix(".weight")]
        if kind in heads:
            weight = llama_cpp_order(weight, heads[kind])
        if kind == "ffn_gate":  # 4 bits, as in the real file; the reference gets the same rounding below
            quantised = quantize(weight, GGMLQuantizationType.Q4_1)
            writer.add_tensor(f"blk.{layer}.{kind}.weight", quantised, raw_dtype=GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(f"blk.{layer}.{kind}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A small reference model and what the conversion makes of its GGUF file."""
    folder = tmp_path_factory.mktemp("gguf")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        reference = LlamaForCausalLM(SMALL).eval()
    # Weights that bfloat16 holds exactly, so that only a mistake can make a difference, not rounding.
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            grid = torch.randint(0, 16, parameter.shape, generator=torch.Generator().manual_seed(2)) / 16 - 0.5
            grid.view(-1)[::32], grid.view(-1)[1::32] = -0.5, 0.4375  # each block of 32 spans the whole range of 4 bits
            parameter.copy_(grid if "gate_proj" in name else parameter.bfloat16().float())
    write_gguf(folder / "small.gguf", reference)
    convert(folder / "small.gguf", folder / "model")
    return reference, load_model(str(folder / "model"))


def test_conversion_gives_back_the_model(converted):
    reference, loaded = converted
    token_ids = torch.randint(3, 259, (1, 40), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected, seen = reference(token_ids).logits, loaded.model(token_ids).logits
    difference = (expected - seen).abs().max().item()
    assert difference < 1e-3, (
        f"logits differ by {difference:.3g} from the model that the GGUF file was written from; if only from the "
        "second position on, query and key rows are not put back from llama.cpp's RoPE order"
    )


def test_without_putting_back_the_rope_order_the_model_would_differ_mutant(converted, tmp_path, monkeypatch):
    """The reference test can tell: with the rows left in llama.cpp's order, the logits are others."""
    reference, _ = converted
    monkeypatch.setattr("toolkit.models.smollm2_gguf.undo_rope_order", lambda weight, heads: weight)
    write_gguf(tmp_path / "small.gguf", reference)
    convert(tmp_path / "small.gguf", tmp_path / "model")
    token_ids = torch.arange(3, 43)[None]
    with torch.inference_mode():
        expected = reference(token_ids).logits
        seen = load_model(str(tmp_path / "model")).model(token_ids).logits
    assert (expected - seen).abs().max() > 0.1


def test_conversion_gets_right_what_the_library_gets_wrong(converted):
    """EOS, padding, and a pre-tokenizer that takes digits one by one."""
    _, loaded = converted
    tokenizer, settings = loaded.tokenizer, loaded.model.generation_config
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == (
        "<|im_end|>",
        "<|im_end|>",
        "<|im_start|>",
    )
    assert (settings.eos_token_id, settings.pad_token_id) == (2, 2)
    assert tokenizer.convert_ids_to_tokens(tokenizer("hell 12")["input_ids"]) == ["he", "ll", "Ġ", "1", "2"], (
        "digits must be split although the merge '1 2' exists, and the other merges applied"
    )
    assert tokenizer("<|im_end|>")["input_ids"] == [2]
