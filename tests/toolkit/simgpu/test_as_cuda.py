"""Programs written for torch.cuda, unchanged, on the simulated GPU."""

import pytest
import torch

from toolkit import simgpu

POLICIES = ["eager", "lazy", "threads", "random:1"]


@pytest.fixture(params=POLICIES)
def on_cuda(request):
    with simgpu.as_cuda(request.param):
        yield


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(4, device="cuda"),
        lambda: torch.zeros(4, device=torch.device("cuda:0")),
        lambda: torch.zeros(4, device="cuda:0"),
        lambda: torch.zeros(4).cuda(),
        lambda: torch.zeros(4).cuda(0, non_blocking=True),
        lambda: torch.zeros(4).to("cuda"),
        lambda: torch.zeros(4).to(torch.device("cuda", 0), torch.float32, non_blocking=True),
        lambda: torch.ones(4).to(torch.zeros(1, device="cuda")) * 0,
        lambda: torch.tensor([0.0] * 4, device="cuda"),
        lambda: torch.as_tensor([0.0] * 4, device="cuda"),
        lambda: torch.zeros_like(torch.ones(4), device="cuda"),
        lambda: torch.ones(4).new_zeros(4, device="cuda"),
        lambda: torch.ones(4, device="cuda").new_zeros(4),
        lambda: torch.arange(4.0, device="cuda") * 0,
        lambda: torch.ones(4, pin_memory=True).sub(1).pin_memory().cuda(non_blocking=True),
        lambda: torch.nn.Parameter(torch.zeros(4)).cuda(),
        lambda: torch.nn.Parameter(torch.zeros(4, device="cuda")),
    ],
)
def test_every_way_to_a_tensor_on_cuda(on_cuda, make):
    x = make()
    assert isinstance(x.detach(), simgpu.tensors.SimTensor)
    assert (x.device, x.device.type, x.is_cuda, x.get_device()) == (torch.device("cuda:0"), "cuda", True, 0)
    assert x.to("cuda") is x and x.to(x.device) is x and x.cuda() is x
    assert x.tolist() == [0.0] * 4 and x.cpu().device.type == "cpu"
    assert "device='cuda:0'" in repr(x)


def test_the_default_device(on_cuda):
    with torch.device("cuda"):
        assert torch.ones(2).is_cuda and torch.tensor([1]).is_cuda
    assert not torch.ones(2).is_cuda


def test_a_module_keeps_its_parameters(on_cuda):
    """As on CUDA: an optimizer that was made before module.cuda() holds the parameters that are trained."""
    module = torch.nn.Linear(3, 3)
    weight = module.weight
    module.cuda()
    assert module.weight is weight and weight.is_cuda


def test_the_names_of_torch_cuda(on_cuda):
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1 and torch.cuda.current_device() == 0
    assert torch.cuda.get_device_properties(0).total_memory == torch.cuda.mem_get_info()[1]
    assert torch.cuda.get_device_capability() >= (8, 0) and torch.cuda.is_bf16_supported()
    before = torch.cuda.memory_allocated()
    x = torch.zeros(1024, device="cuda")
    assert torch.cuda.memory_allocated() - before == 4096 and torch.cuda.max_memory_allocated() >= 4096
    torch.cuda.empty_cache()
    with torch.cuda.device(0), torch.cuda.device(x.device):
        torch.cuda.set_device("cuda:0")
    assert torch.accelerator.is_available() and torch.accelerator.current_accelerator() == torch.device("cuda")
    assert torch.accelerator.current_stream() is torch.cuda.current_stream() is torch.cuda.default_stream()


def test_streams_and_events_of_torch_cuda(on_cuda):
    x, host = torch.zeros(4, device="cuda"), torch.ones(4).pin_memory()
    side, loaded = torch.cuda.Stream(), torch.cuda.Event(enable_timing=True)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x.copy_(host, non_blocking=True)
        loaded.record()
    torch.cuda.current_stream().wait_event(loaded)
    assert (x + 1).tolist() == [2.0] * 4 and loaded.query()
    torch.accelerator.synchronize()


def test_streams_and_events_of_torch_itself(on_cuda):
    side, loaded = torch.Stream(device="cuda"), torch.Event("cuda", enable_timing=False)
    with side:
        x = torch.ones(4, device="cuda")
        loaded.record()
    loaded.wait()
    assert x.tolist() == [1.0] * 4
    x.record_stream(side)


def test_a_missing_wait_is_reported():
    with simgpu.as_cuda(on_race="collect"):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            x = torch.ones(4, device="cuda")
        x.sum()
        assert [each.first.name for each in simgpu.races()] == ["fill_"]


def test_a_memory_pool_is_apart(on_cuda):
    pool = torch.cuda.MemPool()
    with torch.cuda.use_mem_pool(pool):
        inside = torch.ones(500, device="cuda")
    address = inside.data_ptr()
    del inside
    outside = torch.ones(500, device="cuda")
    with torch.cuda.use_mem_pool(pool):
        again = torch.ones(500, device="cuda")
    assert again.data_ptr() == address != outside.data_ptr()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool.id):
        result = outside + 1
    graph.replay()
    assert result.tolist() == [2.0] * 500


def test_a_seed_fixes_the_numbers(on_cuda):
    torch.manual_seed(3)
    first = torch.rand(4, device="cuda").tolist()
    torch.cuda.manual_seed_all(3)
    assert torch.rand(4, device="cuda").tolist() == first


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("memory_summary", lambda: torch.cuda.memory_summary()),
        ("ExternalStream", lambda: torch.cuda.ExternalStream(1)),
        ("MemPool", lambda: torch.cuda.MemPool(allocator=object())),
        ("cudart", lambda: torch.cuda.cudart()),
        ("accelerator.memory_stats", lambda: torch.accelerator.memory_stats()),
        ("autocast", lambda: torch.autocast("cuda")),
        ("compile", lambda: torch.compile(torch.nn.Linear(1, 1))),
        ("handle", lambda: torch.cuda.current_stream().cuda_stream),
        ("address", lambda: torch.ones(2, device="cuda").__cuda_array_interface__),
        ("pickling", lambda: torch.save(torch.ones(2, device="cuda"), "/dev/null")),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(name, call):
    with simgpu.as_cuda(), pytest.raises(NotImplementedError, match=name):
        call()


@pytest.mark.parametrize("device", ["cuda:1", torch.device("cuda", 1)])
def test_there_is_one_device(device):
    with simgpu.as_cuda(), pytest.raises(RuntimeError, match="cuda:1"):
        torch.zeros(4, device=device)


def test_everything_is_put_back():
    names = {
        each: getattr(each, name)
        for each, name in ((torch.cuda, "Stream"), (torch, "zeros"), (torch.Tensor, "to"), (torch, "Event"))
    }
    with simgpu.as_cuda(), pytest.raises(RuntimeError, match="nested"), simgpu.as_cuda():
        pass
    assert names[torch.cuda] is torch.cuda.Stream and names[torch] is torch.Event
    assert names[torch.Tensor] is torch.Tensor.to
    assert not torch.cuda.is_available() and torch.zeros(2, device="sim").device.type == "sim"
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(4, device="cuda")
