"""Ordinary torch code on the device: the same results as on the CPU under every policy, or a clear refusal."""

import copy
import pickle

import pytest
import torch

from toolkit import simgpu

POLICIES = ["eager", "lazy", "threads", "random:3"]


def put(x, at, values):
    x[at] = values
    return x


def inplace(x, call):
    call(x)
    return x


# Each entry gets x: float (4, 6) and i: int64 (4,), on the CPU and on the device, and must give the same.
CASES = {
    "views of views": lambda x, i: x[1:][:, ::2].t()[1:].add(1),
    "write through a view of a view": lambda x, i: inplace(x, lambda x: x[1:].t()[2:].mul_(-1)),
    "overlapping read and write": lambda x, i: inplace(x, lambda x: x[1:].copy_(x[:-1].clone())),
    "matmul of a vector": lambda x, i: x[0] @ x.t(),
    "integer division": lambda x, i: (i / 2, i // 2, i * 2.5, i + True),
    "type promotion with a CPU number": lambda x, i: (i * torch.tensor(2.5), x + torch.tensor(1, dtype=torch.int64)),
    "dtype conversions": lambda x, i: (x.to(torch.bfloat16), x.long(), (x > 0).float(), x.double().half(), i.bool()),
    "copy_ broadcasts and converts": lambda x, i: inplace(x, lambda x: x.copy_(i[:, None])),
    "copy_ from the CPU broadcasts": lambda x, i: inplace(x, lambda x: x.copy_(torch.arange(6))),
    "fill with a number": lambda x, i: put(x, 1, 5),
    "put a row": lambda x, i: put(x, 1, torch.arange(6.0)),
    "put by mask": lambda x, i: put(x, x > 0, 0.0),
    "put values by mask": lambda x, i: put(x, x[:, 0] > -9, x.flip(0)),
    "put by indices": lambda x, i: put(x, i, x * 2),
    "put by CPU indices": lambda x, i: put(x, torch.tensor([0, 2]), 1.0),
    "index_put_ accumulates": lambda x, i: x.index_put_((i, i), x[0, :4].clone(), accumulate=True),
    "index by lists": lambda x, i: x[[0, 2], [1, 3]],
    "index by mask": lambda x, i: x[x[:, 0] > -9],
    "gather, scatter": lambda x, i: (x.gather(0, i[None]), x.scatter_(0, i[None], 7.0)),
    "index_copy_, index_add_, index_fill_": lambda x, i: (
        x.index_copy_(0, i, x + 1).index_add_(0, i, x * 2).index_fill_(1, i, 2.0)
    ),
    "where": lambda x, i: (torch.where(x > 0, x, 0.0), torch.where(x > 0)[0], x.where(x > 0, torch.tensor(1.0))),
    "reductions with several results": lambda x, i: (x.max(dim=1), x.topk(2), x.sort(dim=0), torch.var_mean(x)),
    "argmax": lambda x, i: (x.argmax(), x.argmax(-1), x.argmin(0, keepdim=True)),
    "out=": lambda x, i: torch.add(x, 1, out=x),
    "out= with several results": lambda x, i: torch.max(x, 1, out=(x[:, 0].clone(), i)),
    "foreach": lambda x, i: torch._foreach_mul([x, x + 1], 2.0),
    "foreach in place": lambda x, i: inplace(x, lambda x: torch._foreach_add_([x[0], x[1]], [x[2], x[3]], alpha=2)),
    "empty tensors": lambda x, i: (x[:0].sum(), x[:0] + 1, torch.cat([x[:0], x]), x[:0].max(dim=1)),
    "split, unbind, stack, cat": lambda x, i: (x.split(2), torch.stack(x.unbind()), torch.cat([x, x], 1), x.chunk(3)),
    "reshape that copies": lambda x, i: x.t().reshape(-1),
    "expand": lambda x, i: x[:, :1].expand(4, 9).contiguous(),
    "in-place changes of shape": lambda x, i: x.clone().unsqueeze_(0).transpose_(1, 2).squeeze_() + 1,
    "factories like": lambda x, i: (torch.zeros_like(x), x.new_ones(3), torch.full_like(x, 2), x.new_tensor([1.0])),
    "cumsum, flip, roll, tril": lambda x, i: (x.cumsum(1), x.flip(0), x.roll(1), x.tril()),
    "softmax, layer norm, gelu": lambda x, i: torch.nn.functional.gelu(x.softmax(-1).log()) + torch.rms_norm(x, (6,)),
    "attention": lambda x, i: torch.nn.functional.scaled_dot_product_attention(
        x[None, None], x[None, None], x[None, None]
    ),
    "embedding": lambda x, i: torch.nn.functional.embedding(i, x),
    "repeat_interleave": lambda x, i: x.repeat_interleave(i, 0),
    "unique": lambda x, i: (i % 2).unique(return_counts=True),
    "bit operations": lambda x, i: (i << 1) ^ 3,
    "complex": lambda x, i: torch.view_as_real(torch.polar(x, x) * 2),
    "einsum": lambda x, i: torch.einsum("ij,kj->ik", x, x),
    "detach, clone, data": lambda x, i: (x.detach(), x.clone(), x.data),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@pytest.mark.parametrize("case", CASES)
def test_same_results_as_on_the_cpu(case, mode):
    x, i = torch.randn(4, 6), torch.tensor([2, 0, 3, 1])
    with mode():
        expected = flat(CASES[case](x.clone(), i.clone()))
        for policy in POLICIES:
            simgpu.reset(policy)
            got = flat(CASES[case](x.to("sim"), i.to("sim")))
            assert all(each.device.type == "sim" for each in got)
            torch.testing.assert_close([each.cpu() for each in got], expected)


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for each in value for tensor in flat(each)]


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.resize_(2),
        lambda x: x.set_(torch.zeros(4, device="sim")),
        lambda x: torch.mm(x, x.t(), out=torch.empty(2, 2, device="sim")),
        lambda x: pickle.dumps(x),
        lambda x: x.share_memory_(),
        lambda x: torch.rand(4, device="sim", generator=torch.Generator()),
        lambda x: torch.histogram(x, 4),
        lambda x: x.to_sparse(),
        lambda x: torch.Generator(device="sim"),
        lambda x: simgpu.Event(interprocess=True),
        lambda x: simgpu.set_sync_debug_mode("warn"),
    ],
)
def test_what_is_not_modelled_says_so(call):
    with pytest.raises(NotImplementedError):
        call(torch.ones(4, 6, device="sim"))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + torch.ones(6),
        lambda x: torch.add(torch.ones(4, 6), x),
        lambda x: x.add_(torch.ones(4, 6, pin_memory=True)),
        lambda x: torch.cat([x, torch.ones(4, 6)]),
        lambda x: torch.add(x, x, out=torch.empty(4, 6)),
        lambda x: torch.ones(4, 6)[torch.tensor([0], device="sim")],
        lambda x: x.pin_memory(),
        lambda x: torch.empty(4, device="sim", pin_memory=True),
    ],
)
def test_what_cuda_refuses_is_refused(call):
    with pytest.raises(RuntimeError):
        call(torch.ones(4, 6, device="sim"))


def test_numpy_needs_a_copy_to_the_host():
    x = torch.ones(4, device="sim")
    with pytest.raises(TypeError, match="cpu"):
        x.numpy()
    assert x.cpu().numpy().sum() == x.numpy(force=True).sum() == 4.0


def test_random_numbers_depend_on_seed_and_order_alone():
    def draw(policy):
        simgpu.reset(policy)
        torch.manual_seed(5)
        x = torch.rand(4, device="sim")
        y = torch.randn_like(x)
        z = torch.empty(4, device="sim").exponential_()
        picks = torch.multinomial(x, 2)
        return [each.tolist() for each in (x, y, z, picks, torch.randperm(5, device="sim"), x.bernoulli())]

    assert draw("eager") == draw("lazy") == draw("threads") == draw("random:1")
    torch.manual_seed(6)
    assert torch.rand(4, device="sim").tolist() != draw("eager")[0]


def test_fresh_memory_holds_garbage_that_shows():
    assert torch.empty(3, device="sim").isnan().all()
    assert (torch.empty(3, device="sim", dtype=torch.int64) < -(10**9)).all()
    assert torch.empty(3, pin_memory=True).isnan().all()


@pytest.mark.parametrize("policy", POLICIES)
def test_reused_memory_holds_garbage_too_but_only_once_its_turn_has_come(policy):
    simgpu.reset(policy)
    x = torch.ones(1000, device="sim")
    y = x * 2
    del x
    z = torch.empty(1000, device="sim")  # x's memory, which y's kernel may not have read yet
    assert y.tolist() == [2.0] * 1000
    assert z.isnan().all()


def test_pinned_memory_has_the_standard_spellings():
    for p in (
        torch.empty(2, 3, pin_memory=True),
        torch.zeros((2, 3), dtype=torch.int64, pin_memory=True),
        torch.full((2, 3), 7.0, pin_memory=True),
        torch.tensor([[1, 2, 3], [4, 5, 6]], pin_memory=True),
        torch.empty_like(torch.ones(2, 3), pin_memory=True),
        torch.ones(2, 3).pin_memory(),
        torch.ones(2, 3).pin_memory().pin_memory(),
    ):
        assert p.is_pinned() and p.device.type == "cpu" and p.shape == (2, 3)
        assert p[1:].is_pinned() and not p.clone().is_pinned() and not (p + 1).is_pinned()
    assert not torch.ones(2).is_pinned() and not torch.ones(2, device="sim").is_pinned()
    assert torch.arange(3).pin_memory().tolist() == [0, 1, 2]


def test_assigning_data_gives_the_tensor_other_memory():
    x, other = torch.zeros(3, device="sim"), torch.ones(2, device="sim", dtype=torch.float16)
    x.data = other
    assert x.shape == (2,) and x.dtype == torch.float16 and x.tolist() == [1.0, 1.0]
    other.fill_(2)
    assert x.tolist() == [2.0, 2.0]
    layer = torch.nn.Linear(3, 3).to("sim")
    expected = layer.weight.half().tolist()
    layer.half()
    assert layer.weight.dtype == torch.float16 and layer.weight.tolist() == expected


def test_there_is_one_device():
    with pytest.raises(RuntimeError, match="ordinal"):
        torch.zeros(3, device="sim:1")
    with pytest.raises(RuntimeError, match="ordinal"):
        torch.zeros(3).to("sim:1")


def test_default_device_and_device_contexts_work():
    with torch.device("sim"):
        assert torch.zeros(3).device.type == "sim"
        assert torch.empty(3).device.type == torch.arange(3).device.type == torch.tensor([1.0]).device.type == "sim"
        a = torch.zeros(4, 4)
        a[:, ::2].add_(a[:, 1::2])
        assert a.sum().item() == 0.0
    assert torch.zeros(3).device.type == "cpu"


def test_copies_and_printing():
    x = torch.ones(2, 2, device="sim")
    twin = copy.deepcopy(x)
    twin.add_(1)
    assert x.tolist() == [[1.0, 1.0], [1.0, 1.0]] and twin.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert "device='sim:0'" in repr(x) and f"{x.sum():.1f}" == "4.0"
    layer = copy.deepcopy(torch.nn.Linear(2, 2).to("sim"))
    assert isinstance(layer.weight, torch.nn.Parameter) and layer.weight.requires_grad


def test_views_of_ordinary_tensors_in_inference_mode():
    """In inference mode a view of a tensor made outside of it is an ordinary tensor, as on other devices."""
    x = torch.arange(4.0).to("sim")
    with torch.inference_mode():
        view = x[None, :, None].expand(2, -1, 1)
        result = view.to(dtype=torch.float64) * 2
    assert not view.is_inference() and result.is_inference()
    assert result.cpu().flatten().tolist() == [0.0, 2.0, 4.0, 6.0] * 2
