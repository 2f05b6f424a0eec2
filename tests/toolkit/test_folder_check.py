"""Model folders with something wrong in any of their files: one line that says what, before anything is served."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from toolkit.errors import UserError
from toolkit.models import load_model, pretrained
from toolkit.models.folder_check import SIZES

NINES = "9" * 5000  # Python makes no number of so many digits


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A complete folder, and beside it the same model in several files."""
    tiny, base = load_model("tiny"), tmp_path_factory.mktemp("models")
    for name, options in {"one": {}, "several": {"max_shard_size": "300KB"}}.items():
        tiny.model.save_pretrained(base / name, **options)
        tiny.tokenizer.save_pretrained(base / name)
    return base


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return shutil.copytree(whole / "one", tmp_path / "model")


@pytest.fixture
def shards(whole, tmp_path) -> Path:
    return shutil.copytree(whole / "several", tmp_path / "model")


def refusal(name) -> str:
    with pytest.raises(UserError) as caught:
        load_model(str(name))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500, f"not one short line: {message}"
    return message


def change(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def change_weights(file: Path, **new) -> None:
    save_file(load_file(file) | new, file, metadata={"format": "pt"})


# --- config.json


@pytest.mark.parametrize(
    "size", [-1, 0, 2.5, 4.0, "4", True, [4], {}, 2**31, 10**30, float("nan"), float("inf")], ids=str
)
@pytest.mark.parametrize("key", SIZES)
def test_a_size_that_is_no_whole_number_from_1_on(folder, key, size):
    change(folder / "config.json", **{key: size})
    assert f"{key} in its config.json is" in refusal(folder)


@pytest.mark.parametrize("key", [key for key in SIZES if key not in ("num_key_value_heads", "head_dim")])
def test_a_size_that_is_not_given(folder, key):
    change(folder / "config.json", **{key: None})
    assert f"{key} in its config.json is null" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_attention_heads": 3, "head_dim": None}, "is not a multiple of the number of attention"),
        (
            {"model_type": "qwen2", "num_attention_heads": 3, "head_dim": None},
            "hidden_size 128 is no multiple of its 3",
        ),
        ({"num_key_value_heads": 3}, "4 attention heads are no multiple of its 3 key and value heads"),
        ({"num_key_value_heads": 8}, "4 attention heads are no multiple of its 8 key and value heads"),
        ({"head_dim": 31}, "even rotary dimension"),
        ({"num_hidden_layers": 10**9}, "and its files hold 3.6e+05"),
        ({"vocab_size": 10**9}, "and its files hold 3.6e+05"),
        ({"intermediate_size": 10**9}, "and its files hold 3.6e+05"),
        ({"num_hidden_layers": 1}, "9 of its weights are not asked for by config.json, the first is model.layers.1."),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps in its config.json is -1.0"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps in its config.json is NaN"),
        (
            {"rms_norm_eps": "small"},
            "cannot read its config.json: Validation error for field 'rms_norm_eps': TypeError",
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0}}, "rope_theta in its config.json is 0"),
        ({"rope_parameters": {"rope_type": "of_tomorrow"}}, "its rotary embedding 'of_tomorrow' is none of default"),
        ({"eos_token_id": {"a": 2}}, "field 'eos_token_id'"),
        ({"hidden_act": "none_of_them"}, "none_of_them"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "its weights are quantised"),
        ({"model_type": ["llama"]}, "its architecture ['llama'] is not supported"),
        ({"model_type": "x" * 500}, "is not supported"),
        ({"layer_types": ["linear_attention"] * 2}, "it uses linear_attention"),
        ({"return_dict": False}, "return_dict in its configuration is False"),
    ],
)
def test_a_configuration_that_makes_no_sense(folder, changes, says):
    change(folder / "config.json", **changes)
    assert says in refusal(folder)


JSON_FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b"\xff", b"[" * 100_000, f'{{"a": {NINES}}}'.encode()]
)
@pytest.mark.parametrize("file", JSON_FILES)
def test_a_file_that_is_no_json_object(folder, file, content):
    (folder / file).write_bytes(content)
    assert f"model {folder}: " in refusal(folder)


@pytest.mark.parametrize("eos", [{}, {"a": 2}, 2.0, "2", True, [[2]]], ids=str)
def test_an_end_of_sequence_that_is_no_token(folder, eos):
    change(folder / "generation_config.json", eos_token_id=eos)
    assert f"model {folder}: eos_token_id of the model's generation config" in refusal(folder)


# --- weights that nothing asks for


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.1.mlp.up_proj.bias",
        "model.layers.2.self_attn.q_proj.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "value_head.weight",
    ],
)
def test_a_weight_that_config_json_does_not_ask_for(folder, name):
    change_weights(folder / "model.safetensors", **{name: torch.zeros(4, 4)})
    assert f"1 of its weights are not asked for by config.json, the first is {name}" in refusal(folder)


def test_weights_in_another_number_format(folder):
    weights = load_file(folder / "model.safetensors")
    change_weights(folder / "model.safetensors", **{"model.norm.weight": weights["model.norm.weight"].to(torch.int8)})
    assert "model.norm.weight is in I8" in refusal(folder)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter(folder, name):
    (folder / name).write_text("{}")
    assert f"there is an adapter in it ({name})" in refusal(folder)


@pytest.mark.parametrize("name", ["extra.safetensors", "model-00001-of-00001.safetensors"])
def test_a_file_of_weights_that_would_not_be_read(folder, name):
    save_file({"model.layers.2.weight": torch.zeros(4)}, folder / name)
    assert f"{name} would not be read, since there is model.safetensors" in refusal(folder)


def test_several_files_are_read_and_one_more_is_refused(shards):
    assert load_model(str(shards)).model.config.num_hidden_layers == 2
    save_file({"model.layers.2.weight": torch.zeros(4)}, shards / "model-00099-of-00099.safetensors")
    assert "model-00099-of-00099.safetensors would not be read" in refusal(shards)


def test_a_weight_that_the_index_does_not_name(shards):
    name = "model.layers.0.self_attn.q_proj.bias"
    change_weights(min(shards.glob("model-*.safetensors")), **{name: torch.zeros(128)})
    assert f"the first is {name}" in refusal(shards)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', f"[{NINES}]"])
def test_a_broken_index(shards, content):
    (shards / "model.safetensors.index.json").write_text(content)
    assert f"model {shards}: " in refusal(shards)


def test_what_harmless_folders_hold_besides(folder):
    """Mistral's own copy of the weights, and the buffer of frequencies that older Llama files have."""
    save_file({"a": torch.zeros(2)}, folder / "consolidated.safetensors")
    change_weights(folder / "model.safetensors", **{"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(16)})
    assert load_model(str(folder)).model.config.num_hidden_layers == 2


# --- tokenizers and names


def test_a_tokenizer_with_more_tokens_than_the_model(folder):
    tokenizer = load_model("tiny").tokenizer
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(folder)
    assert "its tokenizer has tokens up to 260, and the model knows those below 259" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    [
        "a" * 300,
        "a" * 5000,
        "owner/" + "a" * 200,
        "/" + "a" * 300,
        "~nouser/x",
        "~nouser",
        "a\0b",
        "a--b",
        "a..b",
        "x.git",
    ]
    + ["é/x", "x/y\n", "\udcff"],
    ids=lambda name: repr(name)[:20],
)
def test_a_name_that_cannot_be_one(monkeypatch, name):
    monkeypatch.setattr(pretrained, "hub_answers", lambda: False)
    assert "there is no such folder" in refusal(name)


@pytest.mark.parametrize(
    "device", ["meta", "mps", "xpu", "hpu", "cuda:-1", "cuda:" + NINES, None, 5], ids=lambda d: str(d)[:9]
)
def test_a_device_that_the_engines_do_not_run_on(device):
    with pytest.raises(UserError, match="torch knows no such device; take cpu or cuda") as caught:
        load_model("tiny", device=device)
    assert len(str(caught.value)) < 150
