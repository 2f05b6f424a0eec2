"""What the measurements of chapters 3 and up share: the accelerator, loads for it, and engines to compare with.

Without a GPU the same measurements are taken on the simulated one. Its recordings say so in every row and lie in a
folder of their own, figures/data/simulated/. They are the same on every machine.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from toolkit import device
from toolkit.commands.decoding import Load, Served
from toolkit.eos import eos_ids
from toolkit.errors import UserError
from toolkit.forward import Forward, Sizes, Tensors
from toolkit.models import load_model
from toolkit.recordings import Row
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline

RUNS = 5  # of everything that depends on luck
ROUNDS = 3  # of everything whose speeds are compared on a GPU
Result = TypeVar("Result")


def recorded_on(chosen: torch.device) -> torch.device | str:
    """Where these chapters' recordings are made: the GPU, or in words the simulated one.

    Raises:
        UserError: --device cpu on a machine with a GPU, where the simulated one is refused.
    """
    if device.is_simulated():
        return "simulated GPU"
    if chosen.type != "cuda":
        raise UserError(
            "this chapter records the accelerator; for the simulated one hide the GPU: CUDA_VISIBLE_DEVICES="
        )
    return chosen


def clock() -> str:
    """What each row says of its times."""
    return "simulated" if device.is_simulated() else "cuda"


def open_load(name: str = "8b", *, requests: int = 32, new_tokens: int = 40) -> Load:
    """The load for a measurement: on a GPU of a named shape with random weights.

    On the simulated GPU a tiny model computes, for fewer tokens; the times are those that the forward declares.
    """
    if device.is_simulated():
        torch.set_num_threads(1)
        return Load(load_model("tiny").model, requests, prompt_len=8, new_tokens=min(new_tokens, 16))
    model = load_model(name, device="cuda").model
    load = Load(model, requests, prompt_len=24, new_tokens=new_tokens)
    # Without a Triton kernel the attention copies a row's whole block table: let it be no wider than it has to be.
    model.config.max_position_embeddings = load.prompt_len + load.new_tokens
    return load


def in_turns(runs: Mapping[str, Callable[[], Result]], ms: Callable[[Result], float]) -> dict[str, Result]:
    """Run everything a few times, in turns, and keep of each the run that took the median time.

    A host is now quicker and now slower, all the more when others use it too. In turns, that hits everything alike. On
    the simulated GPU one round is enough: every round would be the same.

    Args:
        runs: by name, what makes one run.
        ms: the time of a run, by which the median is chosen.
    """
    results: dict[str, list[Result]] = {name: [] for name in runs}
    for _ in range(1 if device.is_simulated() else ROUNDS):
        for name, run in runs.items():
            results[name].append(run())
    return {name: sorted(mine, key=ms)[len(mine) // 2] for name, mine in results.items()}


def ms_per_step(served: Served) -> float:
    """What the median of several runs of an engine is taken of."""
    return served.ms_per_step


def numbers(served: Served) -> Row:
    """The figures of a run, as part of a row."""
    return {
        "steps": served.steps,
        "idle_share": round(served.recording.idle_share(), 4),
        "host_ms_per_step": round(served.recording.host_ms_per_step(), 4),
        "ms_per_step": round(served.ms_per_step, 4),
        "tokens_per_s": round(served.tokens_per_second, 2),
        "clock": clock(),
    }


def policies(unlucky: bool) -> list[str]:
    """A policy of the simulated GPU for each run. A lucky one does everything at once, as long as nothing is slow."""
    return [f"random:{seed}" if unlucky else "eager" for seed in range(RUNS)]


def engine_with(executor: Callable[..., Any]) -> Callable[..., Any]:
    """Chapter 4's `build`, but for the executor: a class that takes the arguments of that chapter's."""
    from ch02_continuous_batching import (
        BlockManager,
        Engine,
        Entrance,
        Observers,
        Packer,
        Parts,
        RequestBook,
        Scheduler,
        Texts,
    )
    from ch03_streams import BufferPool, BufferSizes, HostPrices, IOBuffers, allocate_cache, model_step, padding

    def build(
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        timeline: Timeline | NoTimeline = NO_TIMELINE,
        **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
    ) -> Engine[IOBuffers]:
        entrance = Entrance.of(model, tokenizer, limits)
        config = entrance.config
        observers = Observers(timeline, HostPrices())
        blocks = BlockManager(config.num_blocks, config.block_size)
        scheduler = Scheduler(blocks, config.max_rows, config.token_budget, config.policy)
        book = RequestBook(scheduler, Texts(tokenizer), eos_ids(model))
        forward = Forward(partial(model_step, model), allocate_cache(model, config))
        pool = BufferPool([IOBuffers(padding(BufferSizes.of(entrance)), device.DEVICE)])
        return Engine(Parts(entrance, scheduler, Packer(blocks), executor(pool, forward, observers), book, observers))

    return build


def one_stream_engine() -> Callable[..., Any]:
    """The engine to compare with: the same parts, but all work is on one stream, and the host waits for it."""
    from ch02_continuous_batching import Batch
    from ch03_streams import IOBuffers, StreamExecutor

    class OneStreamExecutor(StreamExecutor):
        def queue(self, batch: Batch, buffers: IOBuffers) -> None:
            with device.accelerator.stream(self.compute):
                self.copy_in(batch, buffers)
                self.run(batch, buffers)
                self.copy_out(batch, buffers)

        def wait(self, batch: Batch, buffers: IOBuffers) -> Sequence[int]:
            self.compute.synchronize()
            return super().wait(batch, buffers)

    return engine_with(OneStreamExecutor)


# What eager launches cost on the virtual clock. No measurement: round figures of the kind seen with 8B models.
SIMULATED_KERNELS = 1600
SIMULATED_LAUNCH_MS = 0.025  # the host's time for one kernel, Python included


@contextmanager
def opened(forward: Any) -> Iterator[None]:  # noqa: ANN401 (a Forward, whose methods are replaced)
    """While this lasts, the forward is launched kernel by kernel."""
    original = forward.launch
    if device.is_simulated():
        forward.launch = _launch_kernels
    else:
        forward.launch = lambda inputs, output, sizes: _without_graphs(forward, original, inputs, output, sizes)
    try:
        yield
    finally:
        del forward.launch


def _launch_kernels(inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
    python_ms = SIMULATED_LAUNCH_MS - device.accelerator.Costs().launch_ms
    for _ in range(SIMULATED_KERNELS):
        device.host_work(python_ms, "launch of a kernel")
        device.launch("kernel", lambda ids: None, writes=[output], cost_ms=sizes.cost_ms / SIMULATED_KERNELS)


def _without_graphs(forward: Forward, launch: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401
    graphs, forward.graphs = forward.graphs, {}
    try:
        launch(*arguments)
    finally:
        forward.graphs = graphs
