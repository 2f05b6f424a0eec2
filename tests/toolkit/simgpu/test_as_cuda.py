"""Programs written for torch.cuda, unchanged, on the simulated GPU."""

import pickle
import threading

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


@pytest.mark.usefixtures("no_garbage")
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
        ("compile", lambda: torch.compile(torch.nn.Linear(1, 1))),
        ("handle", lambda: torch.cuda.current_stream().cuda_stream),
        ("address", lambda: torch.ones(2, device="cuda").__cuda_array_interface__),
        ("pickling", lambda: pickle.dumps(torch.ones(2, device="cuda"))),
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


def loading(model):
    """A DataLoader with workers, whose threads pin the batches."""
    data = torch.utils.data.DataLoader(torch.arange(24.0).reshape(8, 3), batch_size=2, pin_memory=True, num_workers=1)
    for batch in data:
        assert batch.is_pinned()
        model(batch.cuda(non_blocking=True)).sum().backward()


def checkpointed(model):
    x = torch.ones(2, 3, device="cuda", requires_grad=True)
    torch.utils.checkpoint.checkpoint(lambda x: model(x).relu(), x, use_reentrant=False).sum().backward()
    assert x.grad is not None


def fused_optimizer(model):
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(2, 3, device="cuda")).sum().backward()
    optimizer.step()


def whole_step_in_a_graph(model):
    """CUDA semantics, *Whole-network capture*."""
    optimizer = torch.optim.Adam(model.parameters(), capturable=True)
    x, side, graph = torch.ones(2, 3, device="cuda"), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            model(x).sum().backward()
            optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        model(x).sum().backward()
        optimizer.step()
    before = model.weight.tolist()
    graph.replay()
    assert model.weight.tolist() != before


def scaled_gradients(model):
    scaler, optimizer = torch.amp.GradScaler("cuda"), torch.optim.SGD(model.parameters(), lr=0.1)
    scaler.scale(model(torch.ones(2, 3, device="cuda")).sum()).backward()
    scaler.step(optimizer)
    scaler.update()


def normalised(model):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Dropout(0.1)).cuda()
    network(torch.ones(2, 1, 4, 4, device="cuda")).sum().backward()


@pytest.mark.parametrize(
    "program", [loading, checkpointed, fused_optimizer, whole_step_in_a_graph, scaled_gradients, normalised]
)
def test_what_training_programs_do(program):
    with simgpu.as_cuda("lazy"):
        model = torch.nn.Linear(3, 2).cuda()
        program(model)
        assert all(torch.isfinite(each).all() for each in model.parameters())


def test_an_operation_for_gpus_only_is_refused_where_it_is_called():
    with simgpu.as_cuda("lazy"), pytest.raises(NotImplementedError, match="lstm|rnn"):
        torch.nn.LSTM(2, 2).cuda()(torch.ones(1, 1, 2, device="cuda"))


def test_several_host_threads_may_use_it():
    """They count as one: nothing is reported between them, and nothing is lost."""
    with simgpu.as_cuda("random:1"):
        x, failed = torch.zeros(4, device="cuda"), []

        def add():
            try:
                for _ in range(50):
                    x.add_(1)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=add) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert x.tolist() == [200.0] * 4 and not failed
