"""The engine: add requests, call `step` until all are finished.

A step (`advance`) is three functions, and every later chapter keeps them:

    prepare   host: schedule the rows and pack their tensors
    launch    the executor's: copy the inputs to the device, run the forward, leave the sampled ids there
    commit    wait for the ids, append them to their requests, finish those that are done

Here they run one after the other, so the device idles during prepare and commit, and the host during the forward.

The engine itself is the loop. What it loops over are its parts, and build.py puts them together.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Generic

from ch02_continuous_batching.batch import Batch, Packer
from ch02_continuous_batching.entrance import Entrance
from ch02_continuous_batching.executor import Executor, Handle
from ch02_continuous_batching.observers import Observers
from ch02_continuous_batching.request import Request, RequestOutput, SamplingParams
from ch02_continuous_batching.request_book import RequestBook
from ch02_continuous_batching.scheduler import Scheduler
from ch02_continuous_batching.undo import Undo
from toolkit.checked import shown
from toolkit.errors import UserError


@dataclass(frozen=True)
class Parts(Generic[Handle]):
    """What an engine is made of. A later chapter swaps one or two of them."""

    entrance: Entrance
    scheduler: Scheduler
    packer: Packer
    executor: Executor[Handle]
    book: RequestBook
    observers: Observers


class Engine(Generic[Handle]):
    """Continuous batching, synchronous.

    Attributes:
        in_flight: (batch, handle) of the launched batches that are not committed yet, oldest first. Empty between two
            steps, until chapter 5.
        num_steps: batches so far.
    """

    def __init__(self, parts: Parts[Handle]) -> None:
        self.entrance, self.observers = parts.entrance, parts.observers
        self.scheduler, self.packer, self.executor = parts.scheduler, parts.packer, parts.executor
        self.book = parts.book
        self.in_flight: deque[tuple[Batch, Handle]] = deque()
        self.num_steps = 0

    def check_request(self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams) -> list[int]:
        """Refuse what can never be served, before it is queued. Returns the prompt, copied; see `Entrance.check`."""
        return self.entrance.check(request_id, prompt_ids, params, self.book.requests)

    def add_request(self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams) -> Request:
        """Queue a prompt. Raises UserError for one that can never be served, see `check_request`."""
        request = self.book.add(request_id, self.check_request(request_id, prompt_ids, params), params)
        self.observers.added(request)
        return request

    @property
    def torn(self) -> bool:
        """Between two steps: whether one has raised, and not everything of it was taken back yet."""
        return self.book.undo is not None

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running, or has an output that was not returned."""
        queued = self.in_flight or self.scheduler.waiting or self.scheduler.running
        return bool(self.book.outputs or queued or self.torn)

    def step(self) -> Sequence[RequestOutput]:
        """`advance`, all or nothing: it returns its outputs, or raises and has changed nothing that counts."""
        self.settle()
        undo = self.book.undo = Undo(tuple(self.book.outputs))
        try:
            brought = self.advance()
            outputs = self.book.gather(brought) if self.book.outputs else brought
            idle = not (self.in_flight or self.scheduler.waiting or self.scheduler.running)
            self.observers.stepped(self.scheduler, outputs, idle=idle)
            self.book.outputs, self.book.undo = [], None
            return outputs
        except BaseException:
            self.book.undo = undo  # Ctrl-C may have come right before the return
            self.settle()
            raise

    def advance(self) -> Sequence[RequestOutput]:
        """Run one step to its end. Returns what it brought; nothing if there was nothing to do."""
        batch = self.prepare()
        if batch is None:
            return []
        return self.commit(batch, self.executor.launch(batch))

    def prepare(self) -> Batch | None:
        """Host: choose the rows of the next step and pack their inputs. None if nothing can run."""
        with self.observers.host("prepare", step=self.num_steps):
            rows = self.scheduler.schedule()
            if not rows:
                return None
            self.observers.work("prepare", rows=len(rows))
            previous = self.in_flight[-1][0] if self.in_flight else None
            batch = self.packer.pack(self.num_steps, rows, previous)
            self.num_steps += 1
            return batch

    def commit(self, batch: Batch, handle: Handle) -> Sequence[RequestOutput]:
        """Host: wait for the sampled ids of a launched batch and hand each to its request."""
        with self.observers.host("wait", step=batch.step):
            token_ids = self.executor.wait(batch, handle)
        with self.observers.host("commit", step=batch.step):
            self.observers.work("commit", rows=len(token_ids))
            outputs = self.book.commit(batch, token_ids)
            self.observers.committed(batch)
            return outputs

    def settle(self) -> None:
        """Get over a step that has raised, or, if a second Ctrl-C came meanwhile, over what is left of it."""
        if self.torn:
            self.take_back()
            self.book.undo = None

    def take_back(self) -> None:
        """Undo the step that is going on: requests wait or run as before, and nothing of them is computed.

        What is queued on the device comes to its end first, since it still uses buffers and blocks.
        """
        self.executor.drain()
        self.in_flight.clear()
        self.book.take_back()
        self.book.restart()

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[RequestOutput]:
        """Run a list of prompts to their ends.

        Requests that were added before are served meanwhile; their outputs come with the next `step`.

        Args:
            prompts: token ids, a list each.
            params: the same for all.

        Returns:
            each prompt's last output, in the order of the prompts.

        Raises:
            UserError: one of the prompts can never be served; then none was queued.
        """
        self.settle()
        if not isinstance(prompts, Sized) or isinstance(prompts, str):
            raise UserError(f"prompts is {shown(prompts)}; it is a list of prompts, each a list of token ids")
        book = self.book
        free_names = (name for name in map(str, itertools.count(book.num_requests)) if name not in book.requests)
        names = list(itertools.islice(free_names, len(prompts)))
        checked = [self.check_request(name, prompt, params) for name, prompt in zip(names, prompts, strict=True)]
        last: dict[str, RequestOutput | None] = dict.fromkeys(names)
        kept: list[RequestOutput] = []
        brought: list[RequestOutput] = []
        try:
            kept, book.outputs = book.outputs, []  # before our names exist: one of these may have been called the same
            for name, prompt in zip(names, checked, strict=True):
                self.add_request(name, prompt, params)
            while self.has_work:
                brought += self.step()
            last |= {output.request_id: output for output in brought if output.request_id in last}
            book.outputs = [*kept, *(output for output in brought if output.request_id not in last)]
        except BaseException:  # no list is returned, so what came must come with the steps to follow
            book.outputs = [*kept, *brought, *book.outputs]
            raise
        return [output for output in last.values() if output is not None]
