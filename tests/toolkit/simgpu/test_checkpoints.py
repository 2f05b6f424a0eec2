"""torch.save and torch.load within as_cuda: what is written, what comes back and where, and who waits for whom."""

import io
import zipfile

import pytest
import torch

from toolkit import simgpu

POLICIES = ["eager", "lazy", "random:1"]


def saved(what, **kwargs):
    file = io.BytesIO()
    torch.save(what, file, **kwargs)
    file.seek(0)
    return file


def train(model, optimizer, steps):
    losses = []
    for step in range(steps):
        x = torch.linspace(step, 1, 12, device=next(model.parameters()).device).reshape(3, 4)
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def make_model(device):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 2)).to(device)
    return model, torch.optim.Adam(model.parameters(), lr=0.1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("map_location", [None, "cuda", "cpu"])
def test_training_goes_on_from_a_checkpoint(policy, map_location):
    """As the tutorials do it: the state of model and optimizer, loaded into new ones."""
    model, optimizer = make_model("cpu")
    right = train(model, optimizer, 4)[:4] + train(model, optimizer, 3)
    with simgpu.as_cuda(policy):
        model, optimizer = make_model("cuda")
        losses = train(model, optimizer, 4)
        file = saved({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 4})
        model, optimizer = make_model("cuda")
        state = torch.load(file, map_location=map_location)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        losses += train(model, optimizer, 3)
    assert state["epoch"] == 4 and losses == pytest.approx(right, rel=1e-4)


def test_the_file_is_that_of_cuda():
    """Its storages are where CUDA's were, and it can be read where there is no simulator."""
    with simgpu.as_cuda():
        file = saved({"w": torch.arange(6.0, device="cuda").view(2, 3).t()})
        with pytest.raises(RuntimeError, match=r"CUDA device 1|cuda:1"):
            torch.load(file, map_location="cuda:1")
    with zipfile.ZipFile(file) as parts:
        (pickled,) = (parts.read(name) for name in parts.namelist() if name.endswith("data.pkl"))
        (data,) = (parts.read(name) for name in parts.namelist() if name.endswith("data/0"))
    assert b"cuda:0" in pickled and b"simgpu" not in pickled and b"sim" not in pickled
    assert len(data) == 24, "the memory that was asked for"
    file.seek(0)
    loaded = torch.load(file, map_location="cpu")["w"]
    assert torch.equal(loaded, torch.arange(6.0).view(2, 3).t()) and loaded.stride() == (1, 3)
    file.seek(0)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(file)


@pytest.mark.parametrize(
    ("map_location", "places"),
    [
        (None, ["cuda", "cpu", "cpu"]),
        ("cpu", ["cpu", "cpu", "cpu"]),
        ("cuda", ["cuda", "cuda", "cuda"]),
        ("cuda:0", ["cuda", "cuda", "cuda"]),
        (torch.device("cuda"), ["cuda", "cuda", "cuda"]),
        ({"cuda:0": "cpu"}, ["cpu", "cpu", "cpu"]),
        ({"cpu": "cuda:0"}, ["cuda", "cuda", "cuda"]),
        (lambda storage, location: storage, ["cpu", "cpu", "cpu"]),
        (lambda storage, location: None, ["cuda", "cpu", "cpu"]),
    ],
)
def test_where_it_comes_back(map_location, places):
    with simgpu.as_cuda("lazy"):
        saved_from = [torch.full((3,), 2.0, device="cuda"), torch.full((3,), 2.0).pin_memory(), torch.full((3,), 2.0)]
        loaded = torch.load(saved(saved_from), map_location=map_location)
        assert [each.device.type for each in loaded] == places
        assert not any(each.is_pinned() for each in loaded)
        assert [each.tolist() for each in loaded] == [[2.0] * 3] * 3


@pytest.mark.parametrize("map_location", [None, "cpu"])
def test_views_share_their_memory_again(map_location):
    with simgpu.as_cuda():
        x = torch.zeros(3, 4, device="cuda")
        whole, row, same = torch.load(saved((x, x[1], x)), map_location=map_location)
        row.fill_(7.0)
        assert whole.tolist() == [[0.0] * 4, [7.0] * 4, [0.0] * 4] and same is whole


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_types_and_shapes(dtype, shape):
    with simgpu.as_cuda():
        x = torch.ones(shape, dtype=dtype, device="cuda")
        loaded = torch.load(saved(x))
        assert loaded.dtype == dtype and loaded.shape == x.shape and loaded.is_cuda and torch.equal(loaded, x)


@pytest.mark.parametrize("map_location", [None, "cpu"])
@pytest.mark.parametrize("view", [lambda x: x.conj(), lambda x: x.conj()[1:], lambda x: x.imag, lambda x: x[1:]])
def test_views_of_complex_numbers(view, map_location):
    with simgpu.as_cuda():
        x = view(torch.tensor([1 + 2j, 3 - 1j], device="cuda"))
        assert torch.load(saved(x), map_location=map_location).tolist() == x.tolist()


def test_a_whole_model():
    with simgpu.as_cuda():
        model, _ = make_model("cuda")
        model[0].weight.note = "mine"
        model[0].bias.requires_grad_(False)
        loaded = torch.load(saved(model), weights_only=False)
        weight = loaded[0].weight
        assert isinstance(weight, torch.nn.Parameter) and weight.is_cuda and weight.is_leaf and weight.note == "mine"
        assert weight.requires_grad and not loaded[0].bias.requires_grad
        loaded(torch.ones(1, 4, device="cuda")).sum().backward()
        assert weight.grad.is_cuda


def test_a_file_that_is_mapped(tmp_path):
    with simgpu.as_cuda():
        torch.save({"w": torch.arange(4.0, device="cuda")}, tmp_path / "checkpoint.pt")
        loaded = torch.load(tmp_path / "checkpoint.pt", mmap=True)["w"]
        loaded.add_(1)
        assert loaded.is_cuda and loaded.tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("policy", POLICIES)
def test_saving_waits_for_the_current_stream(policy):
    with simgpu.as_cuda(policy):
        x = torch.zeros(4, device="cuda")
        torch.cuda._sleep(10_000_000)
        x.fill_(3.0)
        assert torch.load(saved(x), map_location="cpu").tolist() == [3.0] * 4
        assert any("D2H copy" in str(each) for each in simgpu.synchronisations())


def test_saving_does_not_wait_for_other_streams():
    with simgpu.as_cuda("lazy", on_race="collect"):
        x, side = torch.zeros(4, device="cuda"), torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            x.fill_(3.0)
        file = saved(x)
        (race,) = simgpu.races()
        assert race.second.name == "D2H copy" and "torch.save(what, file" in str(race.second.site)
        assert race.buffer == "(4,) float32 buffer (device)"
        assert torch.load(file, map_location="cpu").tolist() == [0.0] * 4


def test_saving_pinned_memory_that_a_copy_still_writes():
    with simgpu.as_cuda("lazy", on_race="collect"):
        host, x = torch.zeros(4).pin_memory(), torch.ones(4, device="cuda")
        host.copy_(x, non_blocking=True)
        saved(host)
        assert [race.second.name for race in simgpu.races()] == ["torch.save"]
        torch.cuda.synchronize()
        assert torch.load(saved(host)).tolist() == [1.0] * 4


def test_loading_to_the_device_is_ordered_like_any_copy():
    """On the current stream: another one that uses what was loaded has nothing to wait for, since the host waited."""
    with simgpu.as_cuda("lazy", on_race="raise"):
        loaded, side = torch.load(saved(torch.ones(4, device="cuda"))), torch.cuda.Stream()
        with torch.cuda.stream(side):
            assert (loaded * 2).tolist() == [2.0] * 4


def old_format(x):
    return saved(x, _use_new_zipfile_serialization=False)


def with_attribute():
    x = torch.ones(2, device="cuda")
    x.note = "mine"
    return x


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("format before 1.6", lambda: old_format(torch.ones(2, device="cuda"))),
        ("format before 1.6", lambda: torch.load(old_format(torch.ones(2)), map_location="cuda")),
        ("the method cuda", lambda: torch.load(saved(torch.ones(2)), map_location=lambda storage, _: storage.cuda(0))),
        ("attribute note", lambda: saved(with_attribute())),
        ("uint16", lambda: saved(torch.ones(2, device="cuda").to(torch.uint16))),
    ],
)
def test_what_is_refused_by_name(words, call):
    with simgpu.as_cuda(), pytest.raises(NotImplementedError, match=words):
        call()


def test_ordinary_tensors_are_saved_as_ever():
    with simgpu.as_cuda():
        x = torch.ones(3, dtype=torch.uint16)
        x.note = "mine"
        loaded = torch.load(saved(x), weights_only=False)
        assert loaded.note == "mine" and torch.equal(loaded, x)
        assert torch.load(old_format(torch.ones(2))).tolist() == [1.0, 1.0]
