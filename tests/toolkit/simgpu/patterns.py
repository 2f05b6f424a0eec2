"""PyTorch's documented ways to use streams and graphs, each right and in its usual wrong form.

Written for torch.cuda, as in PyTorch's documentation, and nothing here knows of the simulator. Every function takes
`wrong` and returns numbers that are the same on the CPU, when it is right.
"""

import torch
from torch import nn

N = 4096


def host_tensor(value):
    return torch.full((N,), float(value)).pin_memory()


def side_stream(wrong):
    """CUDA semantics, *CUDA streams*: a side stream that does not wait for what was made on the default one."""
    a = torch.full((N,), 2.0, device="cuda")
    side = torch.cuda.Stream()
    if not wrong:
        side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        b = a * 3
    torch.cuda.current_stream().wait_stream(side)
    return b.sum().item()


def result_of_a_side_stream(wrong):
    """CUDA semantics, *CUDA streams*: a result that is used before the side stream is done."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        b = torch.full((N,), 2.0, device="cuda") * 3
    if not wrong:
        torch.cuda.current_stream().wait_stream(side)
    return b.sum().item()


def record_stream(wrong):
    """torch.Tensor.record_stream: memory of one stream, used on another, freed by the first."""
    side = torch.cuda.Stream()
    x = torch.full((N,), 5.0, device="cuda")
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        y = x * 2
    if not wrong:
        x.record_stream(side)
    del x
    z = torch.full((N,), 7.0, device="cuda")  # the memory of x, if the allocator thinks that it is free
    torch.cuda.current_stream().wait_stream(side)
    return y.sum().item() + z.sum().item()


class Prefetcher:
    """The data prefetcher of NVIDIA's Apex examples, from which most others descend."""

    def __init__(self, loader, wrong):
        self.loader, self.wrong = iter(loader), wrong
        self.stream = torch.cuda.Stream()
        self.preload()

    def preload(self):
        self.batch = next(self.loader, None)
        if self.batch is not None:
            with torch.cuda.stream(self.stream):
                self.batch = self.batch.cuda(non_blocking=True).mul(2)

    def next(self):
        if self.wrong != "wait":
            torch.cuda.current_stream().wait_stream(self.stream)
        batch = self.batch
        if batch is not None and self.wrong != "record_stream":
            batch.record_stream(torch.cuda.current_stream())
        self.preload()
        return batch


def prefetching_loader(wrong):
    """A training loop with a prefetching loader."""
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(torch.arange(24.0).reshape(8, 3), batch_size=2, pin_memory=True)
    model = nn.Linear(3, 1).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    prefetcher, total = Prefetcher(loader, wrong), 0.0
    while (batch := prefetcher.next()) is not None:
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        del batch
        total += loss.item() if wrong != "record_stream" else 0.0  # .item() waits, and hides that mistake
    return total


def overlapped_copies(wrong):
    """Copies in, work and copies out on three streams, with two buffers of each."""
    h2d, compute, d2h = (torch.cuda.Stream() for _ in range(3))
    host_in, host_out = [host_tensor(i) for i in range(6)], [host_tensor(0) for _ in range(6)]
    inputs, outputs = ([torch.empty(N, device="cuda") for _ in range(2)] for _ in range(2))
    loaded, done, stored = ([torch.cuda.Event() for _ in range(2)] for _ in range(3))
    torch.cuda.synchronize()
    for step in range(6):
        turn = step % 2
        with torch.cuda.stream(h2d):
            if wrong != "overwritten":
                h2d.wait_event(done[turn])
            inputs[turn].copy_(host_in[step], non_blocking=True)
            loaded[turn].record()
        with torch.cuda.stream(compute):
            if wrong != "not loaded":
                compute.wait_event(loaded[turn])
            compute.wait_event(stored[turn])
            torch.mul(inputs[turn], 10, out=outputs[turn])
            done[turn].record()
        with torch.cuda.stream(d2h):
            d2h.wait_event(done[turn])
            host_out[step].copy_(outputs[turn], non_blocking=True)
            stored[turn].record()
    if wrong != "read early":
        torch.cuda.synchronize()
    return sum(each.sum().item() for each in host_out)


def pinned_buffer_used_again(wrong):
    """`non_blocking=True` from one pinned buffer that is filled again for the next batch."""
    host, copied, total = torch.zeros(N).pin_memory(), torch.cuda.Event(), []
    for step in range(3):
        if not wrong:
            copied.synchronize()
        host.fill_(step)
        total.append(host.to("cuda", non_blocking=True))
        copied.record()
    return torch.stack(total).sum().item()


def non_blocking_to_the_host(wrong):
    """PyTorch tutorial *A guide on good usage of non_blocking and pin_memory*: `.to("cpu", non_blocking=True)`."""
    x = torch.full((N,), 3.0, device="cuda")
    result = x.to("cpu", non_blocking=True)
    if not wrong:
        torch.cuda.synchronize()
    return result.sum().item()


def warm_up_before_capture(wrong):
    """CUDA semantics, *CUDA Graphs*: warm-up on a side stream, capture, replay with new inputs."""
    x, weight = torch.zeros(N, device="cuda"), torch.full((N,), 2.0, device="cuda")
    side = torch.cuda.Stream()
    if wrong != "before":
        side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            y = x * weight
        weight.add_(1)
    if wrong != "after":
        torch.cuda.current_stream().wait_stream(side)
    weight.sub_(1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x * weight
    x.copy_(host_tensor(4), non_blocking=True)
    graph.replay()
    return y.sum().item()


def graph_fed_from_another_stream(wrong):
    """A graph's static input, filled on a copy stream."""
    x, graph, h2d, total = torch.zeros(N, device="cuda"), torch.cuda.CUDAGraph(), torch.cuda.Stream(), 0.0
    with torch.cuda.graph(graph):
        y = x * 2
    for step in range(3):
        if wrong != "overwritten":
            h2d.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(h2d):
            x.copy_(host_tensor(step), non_blocking=True)
        if wrong != "not loaded":
            torch.cuda.current_stream().wait_stream(h2d)
        graph.replay()
        total += y.sum().item() if wrong != "overwritten" else 0
    return total


def graph_of_two_streams(wrong):
    """CUDA semantics, *Usage with ... multiple streams*: a capture that forks to a side stream and joins it again."""
    a, b = torch.full((N,), 1.0, device="cuda"), torch.full((N,), 2.0, device="cuda")
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.graph(graph):
        first = a + b
        side.wait_stream(torch.cuda.current_stream())
        if wrong == "fork":
            first.add_(1)  # behind the fork, so that nothing orders it and the side stream
        with torch.cuda.stream(side):
            second = first * 2
        third = a * 3
        if wrong != "join":
            torch.cuda.current_stream().wait_stream(side)
        elif wrong == "join":
            fourth = second + third
            torch.cuda.current_stream().wait_stream(side)
        if wrong != "join":
            fourth = second + third
    graph.replay()
    a.add_(1)
    graph.replay()
    return fourth.sum().item()


def two_graphs_of_one_pool(wrong):
    """CUDA semantics, *Sharing memory across captures*: graphs of one pool are replayed one after the other."""
    x, pool, graphs, results = torch.full((N,), 1.0, device="cuda"), torch.cuda.graph_pool_handle(), [], []
    out = [torch.zeros(N, device="cuda") for _ in range(2)]
    for target in out:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            target.copy_(x * 2 + 1)
        graphs.append(graph)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    graphs[0].replay()
    if not wrong:
        side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        graphs[1].replay()
    torch.cuda.current_stream().wait_stream(side)
    results = [each.sum().item() for each in out]
    return sum(results)


def backward_on_a_side_stream(wrong):
    """CUDA semantics, *Stream semantics of backward passes*."""
    weight, side = torch.full((N,), 1.0, device="cuda", requires_grad=True), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        (weight * 3).sum().backward()
    if not wrong:
        torch.cuda.current_stream().wait_stream(side)
    return weight.grad.sum().item()


# Each pattern, its usual wrong forms, and what the right one returns.
PATTERNS = [
    (side_stream, (True,), 6.0 * N),
    (result_of_a_side_stream, (True,), 6.0 * N),
    (record_stream, (True,), 17.0 * N),
    (prefetching_loader, ("wait", "record_stream"), None),
    (overlapped_copies, ("not loaded", "overwritten", "read early"), 150.0 * N),
    (pinned_buffer_used_again, (True,), 3.0 * N),
    (non_blocking_to_the_host, (True,), 3.0 * N),
    (warm_up_before_capture, ("before", "after"), 8.0 * N),
    (graph_fed_from_another_stream, ("not loaded", "overwritten"), 6.0 * N),
    (graph_of_two_streams, ("fork", "join"), 14.0 * N),
    (two_graphs_of_one_pool, (True,), 6.0 * N),
    (backward_on_a_side_stream, (True,), 3.0 * N),
]
