"""This chapter's engine on a machine of given numbers: its scheduler, packer and book, and a device without a model.

Two parts are swapped. The executor queues a step of the machine on the simulated GPU, and an observer declares the
host's work to the virtual clock.
"""

from collections.abc import Sequence

from ch02_continuous_batching.batch import Batch, Packer
from ch02_continuous_batching.block_manager import BlockManager
from ch02_continuous_batching.config import EngineConfig
from ch02_continuous_batching.engine import Engine, Parts
from ch02_continuous_batching.entrance import Entrance
from ch02_continuous_batching.observers import Observer, Observers
from ch02_continuous_batching.request import SamplingParams
from ch02_continuous_batching.request_book import RequestBook
from ch02_continuous_batching.scheduler import Scheduler
from ch02_continuous_batching.texts import Texts
from toolkit import device
from toolkit.machine import Machine, Steps
from toolkit.timeline import NO_TIMELINE, Recording

PROMPT = [1, 2, 3, 4]


class MachineExecutor:
    """Runs no model: a step takes what the machine says, and each row's token is 0."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def launch(self, batch: Batch) -> None:
        self.steps.launch()

    def wait(self, batch: Batch, handle: None) -> list[int]:
        device.accelerator.synchronize()
        return [0] * len(batch.sampling_rows)

    def drain(self) -> None:
        device.accelerator.synchronize()


class MachinePrices(Observer):
    """Declares the machine's host work: once a step while it is prepared, and for each row while it is committed."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def work(self, phase: str, *, rows: int) -> None:
        device.host_work(self.machine.host_ms if phase == "prepare" else self.machine.row_ms * rows, phase)


def serve_on(machine: Machine, wanted: Sequence[int], max_rows: int) -> Recording:
    """Serve requests that ask for so many new tokens each, and return what the virtual clock saw.

    Raises:
        UserError: this process can use CUDA, and so has no simulated GPU.
    """
    steps = Steps(machine)
    length = len(PROMPT) + max(wanted)
    config = EngineConfig(num_blocks=len(wanted) * length, max_rows=max_rows, token_budget=max_rows * len(PROMPT))
    blocks = BlockManager(config.num_blocks, config.block_size)
    scheduler = Scheduler(blocks, config.max_rows, config.token_budget)
    engine = Engine(
        Parts(
            entrance=Entrance(config, max_length=length, vocab_size=len(PROMPT) + 1, has_tokenizer=False),
            scheduler=scheduler,
            packer=Packer(blocks),
            executor=MachineExecutor(steps),
            book=RequestBook(scheduler, Texts(None), eos_ids=set()),
            observers=Observers(NO_TIMELINE, MachinePrices(machine)),
        )
    )
    for number, tokens in enumerate(wanted):
        engine.add_request(str(number), PROMPT, SamplingParams(max_tokens=tokens))
    while engine.has_work:
        engine.step()
    return steps.recording()
