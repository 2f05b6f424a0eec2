"""An unmodified transformers model runs on the device, operation by operation, with the CPU's numbers."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from toolkit import simgpu


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=50,
        attn_implementation="sdpa",
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@pytest.mark.parametrize("policy", ["eager", "lazy", "threads", "random:1"])
def test_logits_equal_the_cpus(model, policy, mode):
    ids = torch.randint(1, 50, (2, 7))
    with torch.no_grad():
        expected = model(ids).logits
    simgpu.reset(policy)
    on_device = copy.deepcopy(model).to("sim")
    with mode():
        logits = on_device(ids.to("sim")).logits
    torch.testing.assert_close(logits.cpu(), expected, rtol=1e-5, atol=1e-5)
    assert simgpu.races() == []


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_generate_gives_the_cpus_tokens(model, attention):
    model = copy.deepcopy(model)
    model.set_attn_implementation(attention)
    ids, mask = torch.randint(1, 50, (2, 5)), torch.ones(2, 5, dtype=torch.long)
    settings = {"max_new_tokens": 4, "do_sample": False}
    expected = model.generate(ids, attention_mask=mask, **settings)
    on_device = copy.deepcopy(model).to("sim")
    got = on_device.generate(ids.to("sim"), attention_mask=mask.to("sim"), **settings)
    assert got.tolist() == expected.tolist()


def test_a_captured_forward_follows_its_static_input(model):
    on_device = copy.deepcopy(model).to("sim")
    ids, graph = torch.ones(1, 5, dtype=torch.long, device="sim"), simgpu.CUDAGraph()
    mask = torch.ones(5, 5, dtype=torch.bool).tril()[None, None].to("sim")  # given, so that the model looks for none
    with torch.no_grad(), simgpu.graph(graph):
        logits = on_device(input_ids=ids, attention_mask=mask, use_cache=False).logits
    for _ in range(2):
        new = torch.randint(1, 50, (1, 5))
        ids.copy_(new)
        graph.replay()
        with torch.no_grad():
            torch.testing.assert_close(logits.cpu(), model(new).logits, rtol=1e-5, atol=1e-5)


def test_a_forward_in_a_box_is_one_launch(model):
    on_device = copy.deepcopy(model).to("sim")
    plain = simgpu.plain_module(on_device)
    ids = torch.randint(1, 50, (1, 5))
    source, logits = ids.to("sim"), torch.zeros(1, 5, 50, device="sim")
    before = len(simgpu.spans())
    simgpu.launch("forward", lambda ids, out: out.copy_(plain(ids, use_cache=False).logits), [source], [logits])
    assert len(simgpu.spans()) == before + 1
    with torch.no_grad():
        torch.testing.assert_close(logits.cpu(), model(ids).logits, rtol=1e-5, atol=1e-5)
