"""From the GGUF file that SmolLM2 comes in to an ordinary transformers model and tokenizer.

The transformers library can read GGUF itself (`gguf_file=`), but it needs another package for it, and of this file it
gets the tokenizer wrong. Seen with 5.17: <|im_start|> as EOS token, not <|im_end|>, and no padding token. Seen with
5.17 and 5.23: digits are not split off, so " 12  34" becomes other tokens than those that the model was trained on.
So the file is read here, with the `gguf` package.
"""

from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTROL_TOKEN = 3  # what tokenizer.ggml.token_type says of tokens that are no text

# llama.cpp's name of a weight inside a layer -> transformers' name.
LAYER_WEIGHTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
OTHER_WEIGHTS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def convert(gguf_file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a model folder: bfloat16 weights, configuration, tokenizer.

    Args:
        gguf_file: a Llama with a byte-level BPE tokenizer and tied embeddings, in any quantisation that gguf reads.
        folder: is made; it must not exist yet.
    """
    reader = GGUFReader(gguf_file)
    config = read_config(reader)
    with torch.device("meta"):  # no memory for weights that are replaced anyway
        model = LlamaForCausalLM(config)
    model.load_state_dict(read_weights(reader), strict=False, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(folder)
    read_tokenizer(reader).save_pretrained(folder)


def field(reader: GGUFReader, key: str) -> Any:  # noqa: ANN401  (a number, a text or a list, as the file says)
    """The value of a metadata field."""
    return reader.fields[key].contents()


def read_config(reader: GGUFReader) -> LlamaConfig:
    """The model's configuration, from the file's metadata."""
    return LlamaConfig(
        hidden_size=field(reader, "llama.embedding_length"),
        intermediate_size=field(reader, "llama.feed_forward_length"),
        num_hidden_layers=field(reader, "llama.block_count"),
        num_attention_heads=field(reader, "llama.attention.head_count"),
        num_key_value_heads=field(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=field(reader, "llama.context_length"),
        rms_norm_eps=field(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field(reader, "llama.rope.freq_base")},
        vocab_size=field(reader, "llama.vocab_size"),
        bos_token_id=field(reader, "tokenizer.ggml.bos_token_id"),
        eos_token_id=field(reader, "tokenizer.ggml.eos_token_id"),
        pad_token_id=field(reader, "tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=True,
        dtype=torch.bfloat16,
    )


def read_weights(reader: GGUFReader) -> dict[str, torch.Tensor]:
    """All weights by their transformers names, dequantised, in bfloat16."""
    prefix = "llama.attention.head_count"
    heads = {"attn_q": field(reader, prefix), "attn_k": field(reader, f"{prefix}_kv")}
    weights = {}
    for tensor in reader.tensors:
        weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        if tensor.name.startswith("blk."):
            _, layer, kind, _ = tensor.name.split(".")
            if kind in heads:
                weight = undo_rope_order(weight, heads[kind])
            name = f"model.layers.{layer}.{LAYER_WEIGHTS[kind]}.weight"
        else:
            name = OTHER_WEIGHTS[tensor.name]
        weights[name] = weight.to(torch.bfloat16)
    return weights


def undo_rope_order(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Put the rows of a query or key projection into transformers' order.

    Args:
        weight: (heads * head size, hidden).

    RoPE turns pairs of values of a head. llama.cpp pairs neighbours (0, 1), (2, 3), ...; transformers pairs the two
    halves of a head, (0, size/2), (1, size/2 + 1), ... Read the other way round, the model talks nonsense.
    """
    rows, hidden = weight.shape
    return weight.view(heads, rows // heads // 2, 2, hidden).transpose(1, 2).reshape(rows, hidden)


def read_tokenizer(reader: GGUFReader) -> PreTrainedTokenizerFast:
    """The tokenizer: byte-level BPE that takes digits one by one, with its special tokens and chat template."""
    tokens = field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    special = [
        AddedToken(token, special=True, normalized=False)
        for token, kind in zip(tokens, field(reader, "tokenizer.ggml.token_type"), strict=True)
        if kind == CONTROL_TOKEN
    ]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[field(reader, "tokenizer.ggml.bos_token_id")],
        eos_token=tokens[field(reader, "tokenizer.ggml.eos_token_id")],
        unk_token=tokens[field(reader, "tokenizer.ggml.unknown_token_id")],
        pad_token=tokens[field(reader, "tokenizer.ggml.padding_token_id")],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=field(reader, "llama.context_length"),
        chat_template=field(reader, "tokenizer.chat_template"),
    )
