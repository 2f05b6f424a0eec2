"""The engine of chapter 8 in one file: everything that `FullEngine` consists of, from front to back.

Generated from the chapters by `python -m toolkit.commands.one_file`, to be read once in about an hour; nothing
imports it. Each block says which chapter and which file it comes from; there the docstrings have more than the first
paragraph that is left of them here. The lesson of chapter 8 has questions about this file.

Chapter 9's engine gives the same tokens and is faster with many requests: it swaps scheduler, packer, IO buffers,
request book, texts and metrics for parts that work on arrays. Loop, executor and forward are these here.
"""

import copy
import itertools
import logging
import operator
import re
from array import array
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cached_property, partial
from hashlib import blake2b
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import torch
from numpy.typing import DTypeLike
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from toolkit import device
from toolkit.captures import captures_cleanly
from toolkit.checked import INT32_MAX, INT64_MAX, real_number, shown, truth, whole_number
from toolkit.device import DEVICE, accelerator, host_work, is_simulated, name_tensors, new_stream, write_host
from toolkit.eos import eos_ids
from toolkit.errors import UserError
from toolkit.forward import Forward, Sizes, Tensors
from toolkit.garbage import no_collection
from toolkit.models.compiled import compile_forward
from toolkit.models.supported import served_length
from toolkit.paged_attention import PagedBatch, PagedKVCache, attention_kernel_name, use_paged_attention
from toolkit.percentile import percentile
from toolkit.timeline import NO_SPAN, NO_TIMELINE, NoTimeline, Timeline
from toolkit.timeline.recording import WAIT

# ==== chapter 2: request.py ===========================================================================================
# A request and its life: waiting, running, finished.


@dataclass(frozen=True)
class SamplingParams:
    """How one request's tokens are chosen, and when to stop."""

    max_tokens: int = 16
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        at_least_1 = "a request generates at least 1 token"
        checked = {
            "max_tokens": whole_number("max_tokens", self.max_tokens, 1, INT64_MAX, at_least_1),
            "temperature": real_number("temperature", self.temperature, "use 0 for greedy, or a positive number"),
            "top_k": whole_number(
                "top_k", self.top_k, 0, INT64_MAX, "use 0 for no limit, or a positive number of tokens"
            ),
            "top_p": real_number("top_p", self.top_p, "it is a probability above 0 and at most 1"),
            "seed": whole_number("seed", self.seed, 0, 2**64 - 1, "use 0 or a positive number below 2**64"),
            "stop": stop_strings(self.stop),
            "ignore_eos": truth("ignore_eos", self.ignore_eos),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the way to set a field of a frozen dataclass
        if self.temperature < 0:
            raise UserError(f"temperature is {self.temperature}; use 0 for greedy, or a positive number")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}; it is a probability above 0 and at most 1")


def stop_strings(stop: object) -> tuple[str, ...]:
    """The stop strings as a tuple: a list is copied, one string is one of them, and None is none."""
    if stop is None:
        return ()
    strings = (stop,) if isinstance(stop, str) else stop
    if not isinstance(strings, list | tuple):
        raise UserError(f"stop is {shown(stop)}; use a string, or a list of strings")
    for string in strings:
        if not isinstance(string, str):
            raise UserError(f"stop holds {shown(string)}; a stop string is a string")
        if not string:
            raise UserError("an empty stop string would end every request at once; leave it out")
    return tuple(strings)


PLACEHOLDER = 0  # a valid token id: it may be looked up, but nothing may depend on it


class RequestStatus(Enum):
    WAITING = "waiting"  # in the scheduler's queue, owns no blocks
    RUNNING = "running"  # owns blocks
    FINISHED = "finished"  # owns no blocks, will never run again


class FinishReason(Enum):
    LENGTH = "length"  # max_tokens reached
    EOS = "eos"  # the model ended the sequence
    STOP = "stop"  # a stop string appeared
    CANCELLED = "cancelled"  # the caller took it back (chapter 8)
    ERROR = "error"  # it could not be served to its end


@dataclass(eq=False)  # compared by identity: two requests may well carry the same text
class Request:
    """One prompt on its way through the engine."""

    request_id: str
    prompt_ids: list[int] = field(repr=False)  # what is long is left out where a request is printed
    params: SamplingParams = field(repr=False)
    arrival: int
    status: RequestStatus = RequestStatus.WAITING
    finish_reason: FinishReason | None = None
    output_ids: list[int] = field(default_factory=list, repr=False)
    block_table: list[int] = field(default_factory=list, repr=False)
    num_computed_tokens: int = 0
    pending_samples: int = 0
    epoch: int = 0

    @property
    def num_tokens(self) -> int:
        """Tokens known to the host: prompt and committed output."""
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def num_uncomputed_tokens(self) -> int:
        """Known tokens that no launched step has computed: the whole prompt at first, 1 in decode, 0 in flight."""
        return self.num_tokens - self.num_computed_tokens

    def token_ids(self, start: int, end: int) -> list[int]:
        """The tokens at positions start to end - 1, prompt and output taken as one sequence."""
        prompt_length = len(self.prompt_ids)
        output = self.output_ids[max(start - prompt_length, 0) : max(end - prompt_length, 0)]
        known = self.prompt_ids[start:end] + output
        return known + [PLACEHOLDER] * (end - start - len(known))


@dataclass(frozen=True)
class RequestOutput:
    """What one step brought one request."""

    request_id: str
    new_token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    output_ids: tuple[int, ...] = ()
    text: str = ""
    error: str = ""
    new_text: str = ""


# ==== chapter 2: block_manager.py =====================================================================================
# Who owns which block of the KV cache.


class BlockManager:
    """Hands out the blocks of the KV cache and takes them back."""

    num_shared_tokens = 0

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.free_blocks: deque[int] = deque(range(num_blocks))

    @property
    def num_free_blocks(self) -> int:
        return len(self.free_blocks)

    def blocks_for(self, num_tokens: int) -> int:
        """Number of blocks that hold `num_tokens` token positions."""
        return -(-num_tokens // self.block_size)  # rounded up

    def num_missing_blocks(self, request: Request, num_tokens: int) -> int:
        """How many more blocks `request` needs to hold its first `num_tokens` positions (0 or more)."""
        return max(self.blocks_for(num_tokens) - len(request.block_table), 0)

    def can_allocate(self, request: Request, num_tokens: int) -> bool:
        """Whether `allocate` with the same arguments would succeed."""
        return self.num_missing_blocks(request, num_tokens) <= self.num_free_blocks

    def allocate(self, request: Request, num_tokens: int) -> None:
        """Extend `request.block_table` so that it holds the request's first `num_tokens` positions."""
        if not self.can_allocate(request, num_tokens):
            raise RuntimeError(
                f"request {request.request_id} needs more blocks than the {self.num_free_blocks} free ones"
            )
        for _ in range(self.num_missing_blocks(request, num_tokens)):
            request.block_table.append(self.free_blocks.popleft())

    def free(self, request: Request) -> None:
        """Take back all blocks of `request` and leave its block table empty. Freeing twice changes nothing."""
        self.free_blocks.extend(request.block_table)
        request.block_table.clear()

    def forget(self) -> None:
        """From now on no request gets a block as it was written. None does, before chapter 8."""

    def take_all_back(self) -> None:
        """Every block is free again, whichever request owned it."""
        self.free_blocks = deque(range(self.num_blocks))

    def slot(self, request: Request, position: int) -> int:
        """Where token `position` is in the cache, counted in positions from block 0: block * block_size + offset."""
        block = request.block_table[position // self.block_size]
        return block * self.block_size + position % self.block_size


# ==== chapter 2: random_numbers.py ====================================================================================
# A random number for each sampled token that depends on the request's seed and the token's position alone.


Integers = TypeVar("Integers", int, np.ndarray)

MASK = 2**64 - 1  # Python's integers grow; numpy's uint64 wrap around by themselves
GOLDEN_RATIO = 0x9E3779B97F4A7C15


def mix(x: Integers) -> Integers:
    """64 bits in, 64 bits out that show no trace of them: the last steps of splitmix64."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def uniform_number(seed: Integers, position: Integers) -> "float | np.ndarray":
    """A number in [0, 1), the same for the same arguments; numbers of other seeds or positions look unrelated."""
    return (mix(mix(seed + GOLDEN_RATIO & MASK) + position & MASK) >> 40) / 2**24


# ==== chapter 2: sampler.py ===========================================================================================
# From logits to one token per row.


NO_TOKEN = -1  # no token of any vocabulary
LARGEST_SCALED = 1e37  # a tenth of what float32 can hold, about


def sample_greedy(logits: Tensor) -> Tensor:
    """The most likely token of each row, of several the first; NO_TOKEN for a row without any."""
    return _most_likely(logits)[0]


def sample(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Draw one token per row from its own distribution."""
    best, largest, numbers = _most_likely(logits.float())
    certain = (temperature == 0) | largest.isinf()  # greedy, or won by +inf, or nothing to draw: `best` has them all
    # Divided by less than this, the largest logit would leave float32; and between inf and inf no order is left. By
    # this much the next smaller number is already so far below it that its probability is 0.
    least = largest.abs() / LARGEST_SCALED
    scaled = numbers / torch.where(certain, 1, torch.maximum(temperature, least))[:, None]
    ordered, token = scaled.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(ordered.shape[1], dtype=torch.int64, device=logits.device)
    too_far = (top_k[:, None] > 0) & (rank >= top_k[:, None])
    probability = ordered.masked_fill(too_far, float("-inf")).softmax(dim=-1)
    mass_before = probability.cumsum(dim=-1) - probability
    probability = probability.masked_fill((mass_before >= top_p[:, None]) & (rank > 0), 0)
    line = probability.cumsum(dim=-1)
    chosen = torch.searchsorted(line, uniform[:, None] * line[:, -1:], right=True)
    # Behind the tokens that are left the line should be flat. A GPU sums in parallel, and there it may still creep up.
    last = ((probability > 0).sum(dim=-1, keepdim=True) - 1).clamp_min(0)
    drawn = token.gather(1, torch.minimum(chosen, last))[:, 0]
    return torch.where(certain, best, drawn)


def _most_likely(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's most likely token (or NO_TOKEN) and its logit, both (rows,), and the logits with -inf for nan."""
    numbers = logits.nan_to_num(nan=float("-inf"), posinf=float("inf"), neginf=float("-inf"))
    token = numbers.argmax(dim=-1)
    largest = numbers.gather(1, token[:, None])[:, 0]
    return torch.where(largest == float("-inf"), NO_TOKEN, token), largest, numbers


# ==== chapter 2: scheduler.py =========================================================================================
# Which tokens of which requests run in the next step.


Policy = Literal["fcfs", "prefill_first"]


@dataclass(frozen=True)
class Row:
    """One request's share of a step: its tokens at positions start to start + num_tokens - 1."""

    request: Request
    epoch: int
    start: int
    num_tokens: int
    samples: bool


class Scheduler:
    """First come, first served, under a budget of tokens, rows and KV blocks."""

    def __init__(self, blocks: BlockManager, max_rows: int, token_budget: int, policy: Policy = "fcfs") -> None:
        self.blocks = blocks
        self.max_rows = max_rows
        self.token_budget = token_budget
        self.policy = policy
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.tokens_in_step = 0

    def add(self, request: Request) -> None:
        """Put a request into the waiting queue, at its place by arrival: a new one comes last."""
        insort(self.waiting, request, key=lambda waiting: waiting.arrival)

    def schedule(self) -> list[Row]:
        """Choose the rows of the next step, allocate their blocks, and count their tokens as computed."""
        rows: list[Row] = []
        self.tokens_in_step = 0
        if self.policy == "fcfs":
            self._serve_running(list(self.running), rows)
            self._admit_waiting(rows)
        else:
            unfinished_prompts = [r for r in self.running if r.num_uncomputed_tokens > 1]
            decoding = [r for r in self.running if r.num_uncomputed_tokens <= 1]
            self._serve_running(unfinished_prompts, rows)
            self._admit_waiting(rows)
            self._serve_running(decoding, rows)
        return rows

    def rows_limit(self) -> int:
        """How many rows the step may have. Chapter 5 halves it."""
        return self.max_rows

    def _serve_running(self, requests: list[Request], rows: list[Row]) -> None:
        """Append a row for each of `requests` that has tokens to compute, as far as budget and blocks reach."""
        for request in requests:
            if len(rows) == self.rows_limit():
                return
            if request.status is not RequestStatus.RUNNING:
                continue  # preempted a moment ago, to make room for an earlier one
            num_tokens = self.num_tokens_for(request)
            if num_tokens > 0 and self.make_room(request, num_tokens, rows):
                self._append_row(request, num_tokens, rows)

    def _admit_waiting(self, rows: list[Row]) -> None:
        """Let waiting requests in, in their order, while there are budget, rows and free blocks for them."""
        while self.waiting and len(self.running) < self.max_rows and len(rows) < self.rows_limit():
            if not self._admit(self.waiting[0], rows):
                return

    def _admit(self, request: Request, rows: list[Row]) -> bool:
        """Let the next waiting request in and append its row, or return False if it has to wait on."""
        num_tokens = self.num_tokens_for(request)
        # Its whole prompt must fit, and one more block for each running request, or it would be thrown out soon.
        spare = self.blocks.num_free_blocks - self.blocks.num_missing_blocks(request, request.num_tokens)
        if num_tokens == 0 or spare < len(self.running):
            return False
        self.waiting.popleft()
        request.status = RequestStatus.RUNNING
        insort(self.running, request, key=lambda running: running.arrival)
        self.blocks.allocate(request, request.num_computed_tokens + num_tokens)
        self._append_row(request, num_tokens, rows)
        return True

    def _append_row(self, request: Request, num_tokens: int, rows: list[Row]) -> None:
        rows.append(self._row(request, num_tokens))
        self.tokens_in_step += num_tokens  # a running sum: adding up all rows for every row takes long

    def num_tokens_for(self, request: Request) -> int:
        """How many tokens of `request` the step can still compute (0 or more)."""
        budget_left = self.token_budget - self.tokens_in_step
        return min(request.num_uncomputed_tokens, budget_left)

    def _row(self, request: Request, num_tokens: int) -> Row:
        """Make the row for the next `num_tokens` tokens of `request`, and note on the request that it is on its way."""
        start = request.num_computed_tokens
        samples = start + num_tokens == request.num_tokens
        request.num_computed_tokens += num_tokens
        request.pending_samples += int(samples)
        return Row(request, request.epoch, start, num_tokens, samples)

    def make_room(self, request: Request, num_tokens: int, rows: list[Row]) -> bool:
        """Allocate blocks for the next `num_tokens` tokens of a running request, preempting others if it must."""
        total_tokens = request.num_computed_tokens + num_tokens
        while not self.blocks.can_allocate(request, total_tokens):
            scheduled = {id(row.request) for row in rows}
            victims = [r for r in self.running if r.arrival > request.arrival and id(r) not in scheduled]
            if not victims:
                return False
            self.preempt(victims[-1])
        self.blocks.allocate(request, total_tokens)
        return True

    def preempt(self, request: Request) -> None:
        """Take a running request's blocks away and let it wait (see `add`), to be recomputed later."""
        self.blocks.free(request)
        self.running.remove(request)
        self.add(request)
        request.status = RequestStatus.WAITING
        request.epoch += 1
        request.num_computed_tokens = 0
        request.pending_samples = 0

    def finish(self, request: Request) -> None:
        """Take a running request's blocks back for good. Rows of it that are in flight will be dropped at commit."""
        self.blocks.free(request)
        self.running.remove(request)
        request.status = RequestStatus.FINISHED
        request.epoch += 1
        request.pending_samples = 0

    def written(self, rows: Sequence[Row]) -> None:
        """These rows' keys and values are in the cache; chapter 8 gives full blocks names now."""

    def restart(self, requests: Sequence[Request]) -> None:
        """Queue these, in order of arrival, as each one's status says, with nothing computed (see undo.py)."""
        self.waiting = deque(request for request in requests if request.status is RequestStatus.WAITING)
        self.running = [request for request in requests if request.status is RequestStatus.RUNNING]
        for request in requests:
            request.block_table.clear()
            request.num_computed_tokens, request.pending_samples, request.epoch = 0, 0, request.epoch + 1
        self.blocks.take_all_back()


# ==== chapter 2: batch.py =============================================================================================
# From the scheduler's rows to the tensors that the model reads: one packed, ragged batch.


@dataclass(frozen=True)
class BatchInputs:
    """What one step of the model and the sampler reads. On the host when packed; `to` copies it to a device."""

    input_ids: Tensor
    position_ids: Tensor
    slot_mapping: Tensor
    query_start_loc: Tensor
    seq_lens: Tensor
    block_table: Tensor
    logits_indices: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    uniform: Tensor
    num_decode_rows: int
    max_query_length: int
    greedy: bool

    @property
    def sizes(self) -> Sizes:
        """How much of its IO buffers the batch will use (chapter 3)."""
        rows, width = self.block_table.shape
        return Sizes(
            tokens=self.input_ids.shape[0],
            rows=rows,
            samples=self.logits_indices.shape[0],
            width=width,
            num_decode_rows=self.num_decode_rows,
            max_query_length=self.max_query_length,
            greedy=self.greedy,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def to(self, device: torch.device) -> "BatchInputs":
        """The same inputs with every tensor copied to `device`."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class Batch:
    """One step, as it was scheduled. It never changes: while it is in flight, requests may finish or be preempted."""

    step: int
    rows: Sequence[Row]
    inputs: BatchInputs

    @cached_property
    def sampling_rows(self) -> Sequence[Row]:
        """The rows that yield a token, in the order of the sampled ids."""
        return tuple(row for row in self.rows if row.samples)

    def requests_without_token(self, token_ids: Sequence[int]) -> list[Request]:
        """Of the requests that the sampled ids still count for, those that got NO_TOKEN."""
        if NO_TOKEN not in token_ids:
            return []
        rows = [row for row, token in zip(self.sampling_rows, token_ids, strict=True) if token == NO_TOKEN]
        return [row.request for row in rows if row.epoch == row.request.epoch]


def host_tensor(values: Sequence[Any], dtype: DTypeLike) -> Tensor:
    """The same as torch.tensor(values) in a quarter of the time: a step makes a dozen of them, and numpy is quicker."""
    return torch.from_numpy(np.array(values, dtype))


def pack_tokens(rows: Sequence[Row], blocks: BlockManager) -> tuple[list[int], ...]:
    """The six index lists of a packed batch, see BatchInputs."""
    input_ids: list[int] = []
    position_ids: list[int] = []
    slot_mapping: list[int] = []
    query_start_loc: list[int] = [0]
    seq_lens: list[int] = []
    logits_indices: list[int] = []
    for row in rows:
        end = row.start + row.num_tokens
        input_ids += row.request.token_ids(row.start, end)
        position_ids += range(row.start, end)
        slot_mapping += [blocks.slot(row.request, position) for position in range(row.start, end)]
        query_start_loc.append(len(input_ids))
        seq_lens.append(end)
        if row.samples:
            logits_indices.append(len(input_ids) - 1)
    return input_ids, position_ids, slot_mapping, query_start_loc, seq_lens, logits_indices


class Packer:
    """Puts the rows of a step into packed tensors on the host."""

    def __init__(self, blocks: BlockManager) -> None:
        self.blocks = blocks

    def pack(self, step: int, rows: Sequence[Row], previous: Batch | None) -> Batch:
        """The batch of a step."""
        ordered = tuple(sorted(rows, key=lambda row: row.num_tokens > 1))
        return Batch(step, ordered, self.inputs(ordered))

    def inputs(self, rows: Sequence[Row]) -> BatchInputs:
        """The inputs of rows in packed order."""
        input_ids, position_ids, slot_mapping, query_start_loc, seq_lens, logits_indices = pack_tokens(
            rows, self.blocks
        )

        block_tables = [row.request.block_table for row in rows]
        widest = max(map(len, block_tables))

        sampling = [row for row in rows if row.samples]
        params = [row.request.params for row in sampling]
        uniform = [
            uniform_number(p.seed, row.start + row.num_tokens) if p.temperature else 0.0
            for row, p in zip(sampling, params, strict=True)
        ]
        return BatchInputs(
            input_ids=host_tensor(input_ids, np.int64),
            position_ids=host_tensor(position_ids, np.int64),
            slot_mapping=host_tensor(slot_mapping, np.int64),
            query_start_loc=host_tensor(query_start_loc, np.int32),
            seq_lens=host_tensor(seq_lens, np.int32),
            block_table=host_tensor([table + [0] * (widest - len(table)) for table in block_tables], np.int32),
            logits_indices=host_tensor(logits_indices, np.int64),
            temperature=host_tensor([p.temperature for p in params], np.float32),
            top_k=host_tensor([p.top_k for p in params], np.int64),
            top_p=host_tensor([p.top_p for p in params], np.float32),
            uniform=host_tensor(uniform, np.float32),
            num_decode_rows=sum(row.num_tokens == 1 for row in rows),
            max_query_length=max(row.num_tokens for row in rows),
            greedy=all(p.temperature == 0 for p in params),
        )


# ==== chapter 2: config.py ============================================================================================
# The limits that an engine runs under.


@dataclass(frozen=True)
class EngineConfig:
    """The limits of an engine."""

    num_blocks: int = 256
    block_size: int = 16
    max_rows: int = 16
    token_budget: int = 256
    policy: Policy = "fcfs"
    max_length: int | None = None

    @classmethod
    def of(cls, limits: Mapping[str, Any]) -> "EngineConfig":
        """The limits by name. Raises UserError also for a name that is none."""
        names = [field.name for field in fields(cls)]
        unknown = [name for name in limits if name not in names]
        if unknown:
            raise UserError(f"{unknown[0]} is no limit of an engine; there are {', '.join(names)}")
        return cls(**limits)

    def __post_init__(self) -> None:
        for name in ("num_blocks", "block_size", "max_rows", "token_budget", "max_length"):
            limit = getattr(self, name)
            if limit is not None or name != "max_length":
                advice = f"an engine needs at least 1, and at most {INT32_MAX}"
                object.__setattr__(self, name, whole_number(name, limit, 1, INT32_MAX, advice))
        if self.policy not in get_args(Policy):
            raise UserError(f"policy is {self.policy!r}; take one of {', '.join(get_args(Policy))}")

    def check_memory(self, model: PreTrainedModel, max_length: int) -> None:
        """Refuse a KV cache, or a step's block table, that is larger than all the memory of the model's device."""
        on_gpu = model.device.type == "cuda"
        memory = torch.cuda.mem_get_info(model.device)[1] if on_gpu else psutil.virtual_memory().total
        cache = self.num_blocks * PagedKVCache.block_bytes(model, self.block_size)
        # Rows of 4-byte block numbers, as many as the pool or the longest request has.
        tables = 4 * self.max_rows * min(self.num_blocks, -(-max_length // self.block_size))
        for limits, needed in (
            (f"num_blocks {self.num_blocks} and block_size {self.block_size}", cache),
            (f"max_rows {self.max_rows}", tables),
            (f"token_budget {self.token_budget}", 24 * self.token_budget),  # three int64 for each packed token
        ):
            if needed > memory:
                raise UserError(f"{limits} need {needed >> 30} GiB, and {model.device} has {memory >> 30}; take fewer")


# ==== chapter 2: entrance.py ==========================================================================================
# The entrance of the engine: what a caller hands over is converted, checked and copied here, and never read again.


@dataclass(frozen=True)
class Entrance:
    """What can be served at all."""

    config: EngineConfig
    max_length: int
    vocab_size: int
    has_tokenizer: bool

    @classmethod
    def of(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, limits: Mapping[str, Any]
    ) -> "Entrance":
        """The entrance of an engine for this model."""
        config = EngineConfig.of(limits)
        max_length = served_length(model, config.max_length)
        config.check_memory(model, max_length)
        return cls(config, max_length, model.config.vocab_size, tokenizer is not None)

    def check(
        self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams, in_use: Container[str]
    ) -> list[int]:
        """The prompt as a list of its own, of Python's ints."""
        if not isinstance(request_id, str):
            raise UserError(f"a request's name is a string; this one is {shown(request_id)}")
        if request_id in in_use:
            raise UserError(f"request {request_id}: this name is in use; take another one, or wait for its end")
        # By its name, for a notebook in which this file was edited and loaded again has two classes of it.
        if type(params).__name__ != SamplingParams.__name__:
            raise UserError(f"request {request_id}: params is {shown(params)}; make it with SamplingParams(...)")
        try:
            prompt = self._token_ids(prompt_ids)
            self._check_length(len(prompt), params.max_tokens)
        except UserError as error:
            raise UserError(f"request {request_id}: {error}") from None
        if params.stop and not self.has_tokenizer:
            raise UserError(f"request {request_id}: stop strings need a tokenizer, and the engine was given none")
        return prompt

    def _token_ids(self, prompt_ids: Iterable[int]) -> list[int]:
        if isinstance(prompt_ids, str | bytes | bytearray | Mapping | set | frozenset):
            raise UserError(f"the prompt is {shown(prompt_ids)}; it is a list of token ids, as a tokenizer makes it")
        try:
            # No more than could be served, since an iterator may never end.
            given = list(itertools.islice(prompt_ids, self.max_length + 1))
        except Exception as error:  # what cannot be iterated over, or raises while it is
            kind = type(error).__name__
            raise UserError(f"the prompt is {shown(prompt_ids)}, which yields no token ids ({kind})") from None
        advice = "a prompt is a list of token ids, as the model's own tokenizer makes it"
        try:
            tokens = list(map(operator.index, given))
        except Exception:  # a TypeError, or whatever an object of the caller's raises: look for the first that does
            tokens = [whole_number("a token of the prompt", token, 0, INT64_MAX, advice) for token in given]
        unknown = next((token for token in tokens if not 0 <= token < self.vocab_size), None)
        if unknown is not None:
            raise UserError(f"token {shown(unknown)} is none of the model's 0 to {self.vocab_size - 1}; {advice}")
        return tokens

    def _check_length(self, prompt_length: int, max_tokens: int) -> None:
        if prompt_length == 0:
            raise UserError("the prompt has no tokens; give it at least one")
        if prompt_length > self.max_length:
            raise UserError(f"more than {self.max_length} prompt tokens exceed the context of {self.max_length}")
        needs = f"{prompt_length} prompt tokens and {max_tokens} new ones"
        if prompt_length + max_tokens > self.max_length:
            raise UserError(f"{needs} exceed the context of {self.max_length}; shorten one of them")
        pool = self.config.num_blocks * self.config.block_size
        if prompt_length + max_tokens > pool:
            raise UserError(f"{needs} can never fit the KV cache of {pool} tokens; shorten it or add blocks")


# ==== chapter 2: compute.py ===========================================================================================
# What a step computes: the model's forward over the paged cache, then the sampler.


@torch.no_grad()
def run_model(model: PreTrainedModel, inputs: BatchInputs, cache: PagedKVCache) -> Tensor:
    """One forward and one sampled token for each row that samples. All tensors on the same device."""
    paged = PagedBatch(
        cache=cache,
        block_table=inputs.block_table,
        slot_mapping=inputs.slot_mapping,
        query_start_loc=inputs.query_start_loc,
        seq_lens=inputs.seq_lens,
        num_decode_rows=inputs.num_decode_rows,
        max_query_length=inputs.max_query_length,
    )
    logits = model(
        input_ids=inputs.input_ids[None],
        position_ids=inputs.position_ids[None],
        use_cache=False,
        logits_to_keep=inputs.logits_indices,  # the vocabulary is wide: only rows that sample pay for it
        paged=paged,
    ).logits[0]
    if inputs.greedy:
        return sample_greedy(logits)
    return sample(logits, inputs.temperature, inputs.top_k, inputs.top_p, inputs.uniform)


# ==== chapter 2: observers.py =========================================================================================
# Who looks on while an engine works, and changes nothing: timelines, metrics, the virtual clock's prices.


class Observer:
    """Is told what an engine does. Derive from it and override what you want to know."""

    def host(self, phase: str, *, step: int) -> AbstractContextManager[object]:
        """A phase of the host's work on a step, from its beginning to its end: "prepare", "launch", "commit"; or
        "wait", in which the host only waits for the device."""
        return NO_SPAN

    def device(self, name: str, *, lane: str, step: int) -> AbstractContextManager[object]:
        """Work that is queued on the device's current stream: "copy in", "forward", "copy out"."""
        return NO_SPAN

    def work(self, phase: str, *, rows: int) -> None:
        """The phase that is going on deals with so many rows."""

    def added(self, request: Request) -> None:
        """A request has come."""

    def committed(self, batch: Batch) -> None:
        """A batch is through, and each of its tokens is with its request."""

    def stepped(self, scheduler: Scheduler, outputs: Sequence[RequestOutput], *, idle: bool) -> None:
        """A step is over. `outputs` is what it returns; `idle` means that there is nothing left to do."""


class Observers:
    """Tells each of them, in the order given; a span of the timeline lies within those of the others."""

    def __init__(self, timeline: Timeline | NoTimeline, *others: Observer) -> None:
        self.timeline, self.others = timeline, others

    @property
    def others(self) -> tuple[Observer, ...]:
        return self._others

    @others.setter
    def others(self, others: tuple[Observer, ...]) -> None:
        self._others = others
        methods = {name: method for name, method in vars(Observer).items() if not name.startswith("_")}
        self.told = {
            name: [other for other in others if getattr(type(other), name) is not method]
            for name, method in methods.items()
        }

    def host(self, phase: str, *, step: int) -> AbstractContextManager[object]:
        spans = [other.host(phase, step=step) for other in self.told["host"]]
        return _together([*spans, self.timeline.host(phase, step=step)])

    def device(self, name: str, *, lane: str = "compute", step: int) -> AbstractContextManager[object]:
        spans = [other.device(name, lane=lane, step=step) for other in self.told["device"]]
        return _together([*spans, self.timeline.device(name, lane=lane, step=step)])

    def work(self, phase: str, *, rows: int) -> None:
        for other in self.told["work"]:
            other.work(phase, rows=rows)

    def added(self, request: Request) -> None:
        for other in self.told["added"]:
            other.added(request)

    def committed(self, batch: Batch) -> None:
        for other in self.told["committed"]:
            other.committed(batch)

    def stepped(self, scheduler: Scheduler, outputs: Sequence[RequestOutput], *, idle: bool) -> None:
        for other in self.told["stepped"]:
            other.stepped(scheduler, outputs, idle=idle)


def _together(spans: Sequence[AbstractContextManager[object]]) -> AbstractContextManager[object]:
    """One context for all of them. There are seven in a step, so the usual case, none or one that counts, is quick."""
    real = [span for span in spans if span is not NO_SPAN]
    if len(real) < 2:
        return real[0] if real else NO_SPAN
    return _nested(real)


@contextmanager
def _nested(spans: Sequence[AbstractContextManager[object]]) -> Iterator[None]:
    with ExitStack() as stack:
        for span in spans:
            stack.enter_context(span)
        yield


# ==== chapter 2: executor.py ==========================================================================================
# The device's side of a step.


Handle = TypeVar("Handle")


class Executor(Protocol[Handle]):
    """What runs batches on a device; the engine knows no more of it."""

    def launch(self, batch: Batch) -> Handle:
        """Put a batch on the device."""
        ...

    def wait(self, batch: Batch, handle: Handle, /) -> Sequence[int]:
        """Wait for a launched batch; its sampled ids, one for each of its `sampling_rows`."""
        ...

    def drain(self) -> None:
        """Wait until nothing is queued on the device any more. Raises nothing."""
        ...


class DirectExecutor:
    """Copies the inputs to the device and calls the model, one kernel after the other, on the default stream."""

    def __init__(self, model: PreTrainedModel, config: EngineConfig, observers: Observers) -> None:
        use_paged_attention(model)
        self.model, self.observers = model, observers
        self.cache = PagedKVCache.allocate(model, config.num_blocks, config.block_size)

    def launch(self, batch: Batch) -> Tensor:
        """Inputs in, forward. Returns the sampled ids on the device, (samples,) int64."""
        with self.observers.host("launch", step=batch.step):
            with self.observers.device("copy in", lane="h2d", step=batch.step):
                inputs = batch.inputs.to(self.model.device)
            with self.observers.device("forward", step=batch.step):
                return run_model(self.model, inputs, self.cache)

    def wait(self, batch: Batch, ids: Tensor) -> list[int]:
        token_ids: list[int] = ids.tolist()  # blocks until the device is done
        return token_ids

    def drain(self) -> None:
        """On one stream, whatever is still queued comes before all that is queued later: there is no need to wait."""


# ==== chapter 2: texts.py =============================================================================================
# The text of each request, for stop strings and for its last output.


class Texts:
    """Decodes all tokens of a request whenever its text is asked for. Chapter 8 continues the text instead."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self.tokenizer = tokenizer

    def open(self, request: Request) -> None:
        """A request has come. This chapter keeps nothing for it."""

    def so_far(self, request: Request) -> str:
        """The text of the request's output so far, special tokens left out."""
        if self.tokenizer is None:
            return ""
        return str(self.tokenizer.decode(request.output_ids, skip_special_tokens=True))

    def new(self, request: Request) -> str:
        """The text that has become certain since this was last asked. In this chapter it all comes at the end."""
        return ""

    def close(self, request: Request) -> tuple[str, str, str]:
        """The request has ended."""
        text = self.so_far(request)
        ends = [text.index(stop) for stop in request.params.stop if stop in text]
        text = text[: min(ends, default=len(text))]
        return text, text, ""

    def restart(self, requests: Iterable[Request]) -> None:
        """A step was taken back: these requests are open, with the tokens that they have now."""


# ==== chapter 2: undo.py ==============================================================================================
# What it takes to take a step back: a step is all or nothing, whatever is raised in it, at whichever line.


@dataclass
class Undo:
    """What a step has changed. Nothing is copied for it: a row says how many tokens its request had."""

    outputs: tuple[RequestOutput, ...]
    committed: Batch | None = None
    ended: list[Request] = field(default_factory=list)


# ==== chapter 2: request_book.py ======================================================================================
# The request book: a request is entered when it is added, and struck out with its last output.


class RequestBook:
    """All requests that have not had their last output."""

    def __init__(self, scheduler: Scheduler, texts: Texts, eos_ids: set[int]) -> None:
        self.scheduler, self.texts, self.eos_ids = scheduler, texts, eos_ids
        self.requests: dict[str, Request] = {}
        self.outputs: list[RequestOutput] = []
        self.num_requests = 0
        self.undo: Undo | None = None

    def add(self, request_id: str, prompt: list[int], params: SamplingParams) -> Request:
        """Enter a request that was checked, and queue it."""
        request = self.new_request(request_id, prompt, params)
        self.texts.open(request)
        self.num_requests += 1
        self.requests[request_id] = request
        self.scheduler.add(request)
        return request

    def new_request(self, request_id: str, prompt: list[int], params: SamplingParams) -> Request:
        return Request(request_id, prompt, params, arrival=self.num_requests)

    def gather(self, brought: Sequence[RequestOutput]) -> Sequence[RequestOutput]:
        """All that a step returns: the `outputs`, and what its batch has brought."""
        return [*self.outputs, *brought]

    def commit(self, batch: Batch, token_ids: Sequence[int]) -> Sequence[RequestOutput]:
        """A batch is through. Requests for which it has no token fail; the others' tokens go to `commit_tokens`."""
        if self.undo is not None:
            self.undo.committed = batch
        for request in batch.requests_without_token(token_ids):
            self.fail(request, "the model gave no finite logit for the next token")
        self.scheduler.written(batch.rows)
        return self.commit_tokens(batch, token_ids)

    def commit_tokens(self, batch: Batch, token_ids: Sequence[int]) -> Sequence[RequestOutput]:
        """Append each sampled token to its request, finish the requests that are done, and return the rows' outputs."""
        outputs: list[RequestOutput] = []
        for row, token_id in zip(batch.sampling_rows, token_ids, strict=True):
            request = row.request
            if row.epoch != request.epoch:
                continue
            request.pending_samples -= 1
            request.output_ids.append(token_id)
            request.finish_reason = self.finish_reason(request)
            if request.finish_reason is not None:
                self.scheduler.finish(request)
            outputs.append(self._output(request, token_id))
        return outputs

    def finish_reason(self, request: Request) -> FinishReason | None:
        """Why the request ends with its newest token, or None if it goes on."""
        if request.output_ids[-1] in self.eos_ids and not request.params.ignore_eos:
            return FinishReason.EOS
        if request.params.stop and any(stop in self._text(request) for stop in request.params.stop):
            return FinishReason.STOP
        if len(request.output_ids) >= request.params.max_tokens:
            return FinishReason.LENGTH
        return None

    def _text(self, request: Request) -> str:
        """The output's text so far, special tokens left out; "" without a tokenizer."""
        return self.texts.so_far(request)

    def _output(self, request: Request, token_id: int) -> RequestOutput:
        """What a committed token brings its request; with the complete result if that has finished."""
        if request.finish_reason is None:
            return RequestOutput(request.request_id, (token_id,), new_text=self.texts.new(request))
        return self.last_output(request, (token_id,))

    def last_output(self, request: Request, new_token_ids: tuple[int, ...] = (), error: str = "") -> RequestOutput:
        """The terminal output of a request that has its `finish_reason`; from now on its name is free."""
        name, reason = request.request_id, request.finish_reason
        if reason is None:
            raise RuntimeError(f"request {name} has no finish_reason yet, so this cannot be its last output")
        if self.requests.get(name) is not request:
            raise RuntimeError(f"request {name} has had its last output already")
        if self.undo is not None:
            self.undo.ended.append(request)
        del self.requests[name]
        text, new_text, text_error = self.texts.close(request)
        ids = tuple(request.output_ids)
        return RequestOutput(name, new_token_ids, reason, ids, text, error or text_error, new_text)

    def fail(self, request: Request, error: str) -> None:
        """End a running request by itself. Its last output comes with this step; rows of it are dropped at commit."""
        self.scheduler.finish(request)
        request.finish_reason = FinishReason.ERROR
        self.outputs.append(self.last_output(request, error=error))

    def take_back(self) -> None:
        """Take outputs, tokens and ends of the step that is going on back; `restart` has to follow."""
        undo = self.undo
        if undo is None:
            return
        self.outputs = list(undo.outputs)
        for row in undo.committed.sampling_rows if undo.committed is not None else ():
            # Of a row that was dropped there is no token to take back.
            self.shorten(row.request, row.start + row.num_tokens - len(row.request.prompt_ids))
        for request in undo.ended:
            self.requests[request.request_id] = request
        undo.committed, undo.ended = None, []

    def shorten(self, request: Request, num_output_ids: int) -> None:
        """Let a request have no more than so many tokens of output."""
        del request.output_ids[num_output_ids:]

    def restart(self) -> None:
        """Nothing is computed or on its way any more; who has not had a last output waits or runs as before."""
        requests = sorted(self.requests.values(), key=lambda request: request.arrival)
        for request in requests:
            request.finish_reason = None
            if request.status is RequestStatus.FINISHED:
                request.status = RequestStatus.RUNNING
        self.texts.restart(requests)
        self.scheduler.restart(requests)


# ==== chapter 2: engine.py ============================================================================================
# The engine: add requests, call `step` until all are finished.


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
    """Continuous batching, synchronous."""

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
        """Undo the step that is going on: requests wait or run as before, and nothing of them is computed."""
        self.executor.drain()
        self.in_flight.clear()
        self.book.take_back()
        self.book.restart()

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[RequestOutput]:
        """Run a list of prompts to their ends."""
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


# ==== chapter 3: io_buffers.py ========================================================================================
# IO buffers: the tensors through which one batch enters and leaves the device, and the events that order its way.


# Torch's default dtype and device are the caller's to choose; these tensors are what they are in any case.
INT64: Any = {"dtype": torch.int64, "device": "cpu"}
INT32: Any = {"dtype": torch.int32, "device": "cpu"}
FLOAT32: Any = {"dtype": torch.float32, "device": "cpu"}


@dataclass(frozen=True)
class BufferSizes:
    """How large IO buffers are."""

    tokens: int
    rows: int
    width: int
    trash_block: int
    block_size: int

    @classmethod
    def of(cls, entrance: Entrance) -> "BufferSizes":
        """The sizes that are enough for every batch of an engine. The trash block lies behind the manager's blocks."""
        config = entrance.config
        return cls(
            tokens=max(config.token_budget, config.max_rows),  # a decode step of all rows fits in any case
            rows=config.max_rows,
            width=min(-(-entrance.max_length // config.block_size), config.num_blocks),
            trash_block=config.num_blocks,
            block_size=config.block_size,
        )


def padding(sizes: BufferSizes) -> dict[str, Tensor]:
    """The values of each input where no row uses it: decode rows of one token each, in the trash block."""
    tokens, rows = sizes.tokens, sizes.rows
    return {
        "input_ids": torch.zeros(tokens, **INT64),
        "position_ids": torch.zeros(tokens, **INT64),
        "slot_mapping": torch.full((tokens,), sizes.trash_block * sizes.block_size, **INT64),
        "query_start_loc": torch.arange(rows + 1, **INT32),
        "seq_lens": torch.ones(rows, **INT32),
        "block_table": torch.full((rows, sizes.width), sizes.trash_block, **INT32),
        "logits_indices": torch.arange(rows, **INT64),
        "temperature": torch.zeros(rows, **FLOAT32),
        "top_k": torch.zeros(rows, **INT64),
        "top_p": torch.ones(rows, **FLOAT32),
        "uniform": torch.zeros(rows, **FLOAT32),
    }


class IOBuffers:
    """Host and device side of a batch's inputs and of its sampled ids."""

    def __init__(self, padding: dict[str, Tensor], device: str) -> None:
        self.padding = padding
        self.host_inputs: dict[str, Tensor] = {}
        self.device_inputs: dict[str, Tensor] = {}
        self.allocate_inputs(device)
        self.forward_inputs = dict(self.device_inputs)
        rows = padding["block_table"].shape[0]
        self.device_ids = torch.zeros(rows, dtype=torch.int64, device=device)
        self.host_ids = torch.zeros(rows, dtype=torch.int64, device="cpu", pin_memory=True)
        self.h2d_done: Any = accelerator.Event()  # of either accelerator, which have no common class
        self.compute_done: Any = accelerator.Event()
        self.d2h_done: Any = accelerator.Event()

    def allocate_inputs(self, device: str) -> None:
        """Make `host_inputs` and `device_inputs`: for each of `padding` a tensor of its shape, dtype and values."""
        for name, values in self.padding.items():
            self.host_inputs[name] = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
            self.host_inputs[name].copy_(values)
            self.device_inputs[name] = values.to(device)

    def record_streams(self, *streams: Any) -> None:  # noqa: ANN401 (of either accelerator, without a common class)
        """Tell the allocator which streams use the device's side."""
        for tensor in (*self.forward_inputs.values(), self.device_ids):
            for stream in streams:
                tensor.record_stream(stream)

    def name_for(self, batch: int) -> None:
        """From now on the buffers belong to this batch. Only reports of the simulated GPU say so."""
        device_ids, host_ids = {"sampled ids": self.device_ids}, {"sampled ids": self.host_ids}
        for tensors in (self.host_inputs, self.device_inputs, device_ids, host_ids):
            name_tensors(tensors, of=f"the buffers of batch {batch}")

    @property
    def full_decode(self) -> Sizes:
        """The decode step that uses every row of the buffers."""
        rows, width = self.padding["block_table"].shape
        return Sizes(rows, rows, rows, width, num_decode_rows=rows, max_query_length=1, greedy=True)

    def load(self, inputs: BatchInputs) -> None:
        """Host: write a packed batch into the pinned input tensors, and padding behind it."""
        for name, values in inputs.tensors().items():
            write_host(self.host_inputs[name], self.padding[name])
            write_host(self.host_inputs[name], values)

    def copy_in(self) -> None:
        """Queue the copies of all inputs, pinned host to device, on the current stream. The host does not wait."""
        for name, host in self.host_inputs.items():
            self.device_inputs[name].copy_(host, non_blocking=True)

    def copy_out(self) -> None:
        """Queue the copy of the sampled ids, device to pinned host, on the current stream. The host does not wait."""
        self.host_ids.copy_(self.device_ids, non_blocking=True)

    def read_ids(self, samples: int) -> Sequence[int]:
        """Host: the sampled ids as they are in the pinned tensor at this moment. Waits for nothing."""
        return self.host_ids[:samples].tolist()


def cut(tensors: Tensors, sizes: Sizes) -> BatchInputs:
    """The batch in its buffers' device tensors, as views: what `sizes` says of each, without the padding behind it."""
    samples = slice(sizes.samples)
    return BatchInputs(
        input_ids=tensors["input_ids"][: sizes.tokens],
        position_ids=tensors["position_ids"][: sizes.tokens],
        slot_mapping=tensors["slot_mapping"][: sizes.tokens],
        query_start_loc=tensors["query_start_loc"][: sizes.rows + 1],
        seq_lens=tensors["seq_lens"][: sizes.rows],
        block_table=tensors["block_table"][: sizes.rows, : sizes.width],
        # Clamped, since in this chapter an older batch may still be there: an index too large would kill CUDA.
        logits_indices=tensors["logits_indices"][samples].clamp_max(sizes.tokens - 1),
        temperature=tensors["temperature"][samples],
        top_k=tensors["top_k"][samples],
        top_p=tensors["top_p"][samples],
        uniform=tensors["uniform"][samples],
        num_decode_rows=sizes.num_decode_rows,
        max_query_length=sizes.max_query_length,
        greedy=sizes.greedy,
    )


# ==== chapter 3: host_prices.py =======================================================================================
# What the host's work costs on the virtual clock. On a real GPU real time passes by itself, and this does nothing.


# Round figures in ms: for each step, and for each of its rows.
PER_STEP = {"prepare": 0.8, "commit": 0.5}
PER_ROW = 0.04


class HostPrices(Observer):
    """Declares the host's work to the simulated GPU."""

    def __init__(self, per_row: float = PER_ROW) -> None:
        self.per_row = per_row

    def work(self, phase: str, *, rows: int) -> None:
        host_work(PER_STEP[phase] + self.per_row * rows, phase)


# ==== chapter 3: buffer_pool.py =======================================================================================
# The IO buffers of an executor, and which of them a batch goes through.


class BufferPool:
    """Holds the IO buffers. With one batch at a time, one of them is enough; chapter 5 has two."""

    def __init__(self, buffers: Sequence[IOBuffers]) -> None:
        self.buffers = buffers

    def buffers_for(self, batch: Batch) -> IOBuffers:
        """The buffers for a new batch. Asked once for each batch."""
        return self.buffers[0]


# ==== chapter 3: stream_executor.py ===================================================================================
# An executor with three streams: fast, and wrong.


def allocate_cache(model: PreTrainedModel, config: EngineConfig) -> Tensor:
    """A KV cache on the accelerator for a model, which is switched to paged attention. (See PagedKVCache.storage.)"""
    use_paged_attention(model)
    storage = PagedKVCache.allocate(model, config.num_blocks + 1, config.block_size, DEVICE).storage
    name_tensors({"keys and values": storage}, of="the KV cache")
    return storage


def model_step(model: PreTrainedModel, tensors: Tensors, storage: Tensor, sizes: Sizes) -> Tensor:
    """What one launch of the forward computes: the model and the sampler of chapter 2 over the tensors of IO buffers.
    """
    return run_model(model, cut(tensors, sizes), PagedKVCache(storage))


class StreamExecutor:
    """Runs batches over three streams, with nothing to order them."""

    def __init__(self, pool: BufferPool, forward: Forward, observers: Observers) -> None:
        self.pool, self.forward, self.observers = pool, forward, observers
        with no_collection():
            for buffers in pool.buffers:
                forward.capture_all(buffers.forward_inputs, buffers.device_ids, buffers.full_decode)
        self.h2d, self.compute, self.d2h = new_stream("h2d"), new_stream("compute"), new_stream("d2h")
        for buffers in pool.buffers:
            buffers.record_streams(self.h2d, self.compute, self.d2h)
        forward.storage.record_stream(self.compute)
        accelerator.synchronize()  # what was made on the default stream is there before any other stream uses it

    def launch(self, batch: Batch) -> IOBuffers:
        """Write the batch into IO buffers, then queue copies in, forward and copy out, each on its stream."""
        buffers = self.pool.buffers_for(batch)
        with self.observers.host("launch", step=batch.step):
            buffers.name_for(batch.step)
            buffers.load(batch.inputs)
            self.queue(batch, buffers)
        return buffers

    def queue(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue this executor's `copy_in`, `run`, `copy_out` (see below) in this order, each on its own stream."""
        with accelerator.stream(self.h2d):
            self.copy_in(batch, buffers)
        with accelerator.stream(self.compute):
            self.run(batch, buffers)
        with accelerator.stream(self.d2h):
            self.copy_out(batch, buffers)

    def copy_in(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue the copies of the inputs on the current stream."""
        with self.observers.device("copy in", lane="h2d", step=batch.step):
            buffers.copy_in()

    def run(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue the forward on the current stream."""
        with self.observers.device("forward", lane="compute", step=batch.step):
            self.forward.launch(buffers.forward_inputs, buffers.device_ids, batch.inputs.sizes)

    def copy_out(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue the copy of the sampled ids on the current stream."""
        with self.observers.device("copy out", lane="d2h", step=batch.step):
            buffers.copy_out()

    def wait(self, batch: Batch, buffers: IOBuffers) -> Sequence[int]:
        """The sampled ids as they are in the buffers' pinned tensor at this moment. This chapter waits for nothing."""
        return buffers.read_ids(len(batch.sampling_rows))

    def drain(self) -> None:
        with suppress(Exception):  # the error that led here says more
            accelerator.synchronize()


# ==== chapter 4: event_executor.py ====================================================================================
# Events put the three streams in order.


class EventExecutor(StreamExecutor):
    """Runs batches over three streams, ordered by the three events of their IO buffers."""

    def queue(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue copies in, forward and copy out on their streams, each behind what it needs and behind nothing else."""
        with self.h2d:
            self.copy_in(batch, buffers)
            buffers.h2d_done.record(self.h2d)
        with self.compute:
            self.compute.wait_event(buffers.h2d_done)
            self.run(batch, buffers)
            buffers.compute_done.record(self.compute)
        with self.d2h:
            self.d2h.wait_event(buffers.compute_done)
            self.copy_out(batch, buffers)
            buffers.d2h_done.record(self.d2h)

    def wait(self, batch: Batch, buffers: IOBuffers) -> Sequence[int]:
        """Host: wait until the sampled ids are in the pinned host tensor of these buffers, and for nothing else."""
        buffers.d2h_done.synchronize()
        return buffers.read_ids(len(batch.sampling_rows))


# ==== chapter 5: pipelined_engine.py ==================================================================================
# Two batches in flight: while the device computes batch N, the host prepares batch N + 1 and launches it.


class PipelinedEngine(Engine[IOBuffers]):
    """Continuous batching with several batches in flight, each in IO buffers of its own."""

    def __init__(self, parts: Parts[IOBuffers], max_in_flight: int = 2) -> None:
        super().__init__(parts)
        self.max_in_flight = max_in_flight

    def advance(self) -> Sequence[RequestOutput]:
        """Launch the next batch, if there is one; then commit the oldest batch in flight, if it is time."""
        batch = self.prepare()
        if batch is not None:
            self.in_flight.append((batch, self.executor.launch(batch)))
        if len(self.in_flight) == self.max_in_flight or (batch is None and self.in_flight):
            return self.commit(*self.in_flight.popleft())
        return []


# ==== chapter 5: buffer_ring.py =======================================================================================
# IO buffers for two batches in flight, used in turns.


class BufferRing(BufferPool):
    """IO buffers for as many batches as may be in flight."""

    def buffers_for(self, batch: Batch) -> IOBuffers:
        """The buffers for a new batch, one of `self.buffers`: those that no batch in flight uses."""
        return self.buffers[batch.step % len(self.buffers)]


# ==== chapter 6: buckets.py ===========================================================================================
# Which batch sizes a graph is captured for.


def bucket_sizes(max_rows: int) -> list[int]:
    """The sizes to capture, in rising order: the powers of two below max_rows, and max_rows itself."""
    sizes = [1]
    while sizes[-1] < max_rows:
        sizes.append(min(2 * sizes[-1], max_rows))
    return sizes


def bucket_for(rows: int, sizes: Sequence[int]) -> int:
    """The bucket for a batch: the smallest of `sizes` (rising) that has room for `rows` rows (1 to the largest)."""
    return next(size for size in sizes if size >= rows)


def decode_step(full: Sizes, rows: int, greedy: bool) -> Sizes:
    """What is captured for a bucket: `rows` rows of one token each, which all sample."""
    return replace(full, tokens=rows, rows=rows, samples=rows, num_decode_rows=rows, greedy=greedy)


# ==== chapter 6: graph_forward.py =====================================================================================
# What the one launch of chapters 3 to 5 hides: the forward as captured graphs.


def on_accelerator(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself if it is on the accelerator, else a copy that is: what is captured are its operations there."""
    if model.device.type == DEVICE:
        return model
    there: PreTrainedModel = copy.deepcopy(model).to(DEVICE)  # type: ignore[arg-type] # as the library annotates it
    return there


def graph_key(output: Tensor, sizes: Sizes) -> tuple[int | bool, ...]:
    """What tells the graphs apart: everything that is fixed by a capture, and not the same for all of them."""
    return output.data_ptr(), sizes.rows, sizes.greedy


class GraphForward(Forward):
    """Runs a forward from static device tensors into a static device tensor: decode steps as graphs, others eagerly."""

    def __init__(self, forward: Callable[[Tensors, Tensor, Sizes], Tensor], storage: Tensor) -> None:
        super().__init__(forward, storage)
        self.buckets: list[int] = []
        self.pool = accelerator.graph_pool_handle()
        self.capturing = new_stream("capture")

    def step(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
        """One forward, launched operation by operation on the current stream; a capture records these operations."""
        output[: sizes.samples].copy_(self.forward(inputs, self.storage, sizes))

    @captures_cleanly
    def capture(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> Any:  # noqa: ANN401 (a graph of either kind)
        """Record one step as a graph, on the stream `capturing`, with memory from `pool`."""
        self.capturing.wait_stream(accelerator.current_stream())
        with accelerator.stream(self.capturing):
            self.step(inputs, output, sizes)
        graph = accelerator.CUDAGraph()
        with accelerator.graph(graph, pool=self.pool, stream=self.capturing):
            self.step(inputs, output, sizes)
        return graph

    def capture_all(self, inputs: Tensors, output: Tensor, full: Sizes) -> None:
        """Capture the decode steps of one of the IO buffers: every bucket, greedy and sampled. Called once for each."""
        self.buckets = bucket_sizes(full.rows)
        for rows in reversed(self.buckets):
            for greedy in (True, False):
                sizes = decode_step(full, rows, greedy)
                self.graphs[graph_key(output, sizes)] = self.capture(inputs, output, sizes)

    def launch(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
        """Queue the forward of a batch on the current stream."""
        if sizes.is_decode:
            captured = replace(sizes, rows=bucket_for(sizes.rows, self.buckets))
            self.graphs[graph_key(output, captured)].replay()
        else:
            self.step(inputs, output, sizes)


# ==== chapter 7: carry.py =============================================================================================
# Carry-over: a token goes from one batch into the next on the device, before the host has seen it.


KEEP = -1


@dataclass(frozen=True)
class CarryInputs(BatchInputs):
    """The inputs of a batch, and which of its tokens come from the batch before."""

    carry_index: Tensor


def carry_index(rows: Sequence[Row], previous: Batch | None) -> list[int]:
    """For each packed token of a batch: KEEP, or which sampled id of the previous batch it is."""
    sampled = {} if previous is None else {(r.request, r.epoch): i for i, r in enumerate(previous.sampling_rows)}
    index: list[int] = []
    for row in rows:
        for position in range(row.start, row.start + row.num_tokens):
            known = position < row.request.num_tokens
            index.append(KEEP if known else sampled[row.request, row.epoch])
    return index


def apply_carry(input_ids: Tensor, carry_index: Tensor, previous_ids: Tensor) -> Tensor:
    """Replace placeholders by the tokens that the previous batch has sampled, on the device."""
    # -1 must not be looked up, even though where() drops the result: here it would quietly mean the last id, and in
    # other lookups (gather, index_select, an embedding) CUDA ends the process.
    return torch.where(carry_index >= 0, previous_ids[carry_index.clamp_min(0)], input_ids)


# ==== chapter 7: carry_packer.py ======================================================================================
# Carry-over in a batch's way through the engine: packed with a map, computed with the other batch's ids.


class CarryPacker(Packer):
    """Packs one input more: the carry index."""

    def pack(self, step: int, rows: Sequence[Row], previous: Batch | None) -> Batch:
        batch = super().pack(step, rows, previous)
        index = host_tensor(carry_index(batch.rows, previous), np.int64)
        return replace(batch, inputs=CarryInputs(**vars(batch.inputs), carry_index=index))


def carry_padding(sizes: BufferSizes) -> dict[str, Tensor]:
    """Chapter 3's padding, and that of the carry index."""
    return padding(sizes) | {"carry_index": torch.full((sizes.tokens,), KEEP, dtype=torch.int64, device="cpu")}


def link(first: IOBuffers, second: IOBuffers) -> list[IOBuffers]:
    """Let the forward of either's batch read the ids that the batch before it has sampled, in the other's tensor."""
    first.forward_inputs["previous_ids"] = second.device_ids
    second.forward_inputs["previous_ids"] = first.device_ids
    return [first, second]


def carry_step(model: PreTrainedModel, tensors: Tensors, storage: Tensor, sizes: Sizes) -> Tensor:
    """What one launch of the forward computes: the carried tokens are filled in first. See chapter 3's model_step."""
    inputs = cut(tensors, sizes)
    # A row may have sampled NO_TOKEN (-1), which the embedding must not see. Its request ends when the host reads
    # that, and what its row in this batch computes is dropped: any token will do.
    previous_ids = tensors["previous_ids"].clamp_min(0)
    carried = apply_carry(inputs.input_ids, tensors["carry_index"][: sizes.tokens], previous_ids)
    return run_model(model, replace(inputs, input_ids=carried), PagedKVCache(storage))


# ==== chapter 7: carry_scheduler.py ===================================================================================
# A scheduler for tokens that are still in flight: all requests in every batch, and no gap between the batches.


class CarryScheduler(Scheduler):
    """Schedules tokens that are still in flight as if they were known: the device will fill them in."""

    def num_tokens_for(self, request: Request) -> int:
        """As in chapter 2, but a pending sample counts as one more token that can be computed."""
        if len(request.output_ids) + request.pending_samples >= request.params.max_tokens:
            return 0
        budget_left = self.token_budget - self.tokens_in_step
        return min(request.num_uncomputed_tokens + request.pending_samples, budget_left)

    def _row(self, request: Request, num_tokens: int) -> Row:
        """As in chapter 2, but the last token of a request may be a pending one: the row samples if it reaches it."""
        start = request.num_computed_tokens
        samples = start + num_tokens == request.num_tokens + request.pending_samples
        request.num_computed_tokens += num_tokens
        request.pending_samples += int(samples)
        return Row(request, request.epoch, start, num_tokens, samples)


# ==== chapter 8: culprit.py ===========================================================================================
# Which request makes steps fail, when the exception does not say: found by halves, before an innocent one ends.


class CulpritSearch(Observer):
    """Who is under suspicion, and whose turn it is."""

    max_failures = 2

    def __init__(self) -> None:
        self.failures: WeakKeyDictionary[Request, int] = WeakKeyDictionary()
        self.groups: list[list[Request]] = []

    def step_failed(self, involved: list[Request]) -> Request | None:
        """A step has failed with these requests in it. Returns the one that is at fault, as soon as that is certain."""
        for request in involved:
            self.failures[request] = self.failures.get(request, 0) + 1
        suspects = [request for request in involved if self.failures[request] >= self.max_failures]
        if len(involved) == 1 and suspects:
            return suspects[0]
        if suspects:
            if self.groups:
                self.groups.pop()
            half = -(-len(suspects) // 2)
            self.groups += [group for group in (suspects[half:], suspects[:half]) if group]
        return None

    def committed(self, batch: Batch) -> None:
        """A request that has got a token is cleared."""
        if self.failures:
            for row in batch.sampling_rows:
                self.failures.pop(row.request, None)

    def only_the_group(self, scheduler: Scheduler) -> AbstractContextManager[None]:
        """Inside, the scheduler serves no requests but those of the present group, if there is one."""
        self._let_go()
        return self._only(set(self.groups[-1]), scheduler) if self.groups else NO_SPAN

    @contextmanager
    def _only(self, group: set[Request], scheduler: Scheduler) -> Iterator[None]:
        for request in [request for request in scheduler.running if request not in group]:
            scheduler.preempt(request)  # of the group before
        held_back = [request for request in scheduler.waiting if request not in group]
        scheduler.waiting = deque(request for request in scheduler.waiting if request in group)
        try:
            yield
        finally:
            for request in held_back:
                if request not in scheduler.waiting:  # a restart may have brought it back already
                    scheduler.add(request)
            self._let_go()

    def _let_go(self) -> None:
        """Groups whose members have all got a token, or have ended, are innocent."""
        while self.groups and not any(map(self._is_suspect, self.groups[-1])):
            self.groups.pop()

    def _is_suspect(self, request: Request) -> bool:
        return request in self.failures and request.status is not RequestStatus.FINISHED


# ==== chapter 8: spans.py =============================================================================================
# The spans that the metrics open: a phase of the host's work, and a forward on the device.


class HostSpan(AbstractContextManager[None]):
    """Tells `then` how many ms have passed, unless something is raised."""

    def __init__(self, then: Callable[[float], None]) -> None:
        self.then = then
        self.start = 0.0

    def __enter__(self) -> None:
        self.start = device.now_ms()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.then(device.now_ms() - self.start)


class DeviceSpan(AbstractContextManager[None]):
    """Gives `then` two timing events around the work queued on the current stream, unless something is raised."""

    def __init__(self, then: Callable[[Any, Any], None], spare: list[Any]) -> None:
        self.then, self.spare = then, spare
        self.stream: Any = None  # looked up once: that takes longer than a record, too
        self.first: Any = None

    def __enter__(self) -> None:
        self.stream = device.accelerator.current_stream()
        self.first = self.event()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.then(self.first, self.event())

    def event(self) -> Any:  # noqa: ANN401 (of either kind)
        """A timing event, recorded now."""
        event = self.spare.pop() if self.spare else device.accelerator.Event(enable_timing=True)
        event.record(self.stream)
        return event


# ==== chapter 8: metrics.py ===========================================================================================
# What an engine says of itself: steps, tokens, queues, blocks, and where the time goes.


REMEMBERED = 10_000  # so many of the latest latencies are kept


@dataclass(slots=True)
class _Times:
    """Of an open request: when it was added, or got its latest token."""

    since: float
    has_token: bool = False


@dataclass
class Metrics(Observer):
    """Counters and latencies since the engine was made. Times in ms, on the virtual clock where the GPU is simulated.
    """

    steps: int = 0
    tokens: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    running: int = 0
    free_blocks: int = 0
    shared_tokens: int = 0
    host_ms: float = 0.0
    waiting_ms: float = 0.0
    device_ms: float = 0.0
    idle_ms: float = 0.0
    first_token_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    inter_token_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _open: dict[str, deque[_Times]] = field(default_factory=dict)  # by name, the oldest first: a name may come again
    _events: dict[int, tuple[Any, Any]] = field(default_factory=dict)  # around the forward of each step in flight
    _device_end: Any = None  # the event behind the latest committed forward
    _spare: list[Any] = field(default_factory=list)  # events that were read

    def added(self, request: Request) -> None:
        self._open.setdefault(request.request_id, deque()).append(_Times(device.now_ms()))

    def host(self, phase: str, *, step: int) -> AbstractContextManager[object]:
        return HostSpan(partial(self.spent, phase, step))

    def spent(self, phase: str, step: int, ms: float) -> None:
        """A phase of the host's work is over."""
        if phase == WAIT:
            self.waiting_ms += ms
            self.forward(*self._events.pop(step))
            for taken_back in [earlier for earlier in self._events if earlier < step]:
                del self._events[taken_back]
        else:
            self.host_ms += ms

    def device(self, name: str, *, lane: str, step: int) -> AbstractContextManager[object]:
        return DeviceSpan(partial(self.queued, step), self._spare) if name == "forward" else NO_SPAN

    def queued(self, step: int, start: Any, end: Any) -> None:  # noqa: ANN401 (events of either kind)
        """A step's forward is queued, with these timing events around it."""
        self._events[step] = start, end

    def stepped(self, scheduler: Scheduler, outputs: Sequence[RequestOutput], *, idle: bool) -> None:
        self.count_outputs(outputs, device.now_ms())
        self.waiting, self.running = len(scheduler.waiting), len(scheduler.running)
        self.free_blocks = scheduler.blocks.num_free_blocks
        self.shared_tokens = scheduler.blocks.num_shared_tokens
        if idle:
            self._device_end = None  # what the device idles from now on is not the engine's fault
            self._events.clear()  # after an error there may be some left

    def count_outputs(self, outputs: Sequence[RequestOutput], now: float) -> None:
        """Counts and latencies of what a step returns."""
        for output in outputs:
            self._output(output, now)

    def _output(self, output: RequestOutput, now: float) -> None:
        times = self._open.get(output.request_id)
        if times is None:  # an interrupt in here may cost a figure, and never more than that
            return
        if output.new_token_ids:
            request = times[0]
            (self.inter_token_ms if request.has_token else self.first_token_ms).append(now - request.since)
            request.since, request.has_token = now, True
            self.tokens += len(output.new_token_ids)
        if output.finish_reason is not None:
            self.finished[output.finish_reason.value] += 1
            if len(times) > 1:
                times.popleft()
            else:
                del self._open[output.request_id]

    def forward(self, start: Any, end: Any) -> None:  # noqa: ANN401 (events of either kind)
        """A step is committed; its forward ran between these two timing events."""
        self.steps += 1
        self.device_ms += start.elapsed_time(end)
        if self._device_end is not None:
            self.idle_ms += self._device_end.elapsed_time(start)
            self._spare.append(self._device_end)
        self._spare.append(start)
        self._device_end = end

    @property
    def idle_share(self) -> float | None:
        """The share of the time in which there was work and the device did none, 0 to 1; None before the first step."""
        total = self.device_ms + self.idle_ms
        return self.idle_ms / total if total else None

    def summary(self) -> dict[str, float | int | None]:
        """The figures that one would plot, by name; times in ms, per step where they say so."""
        per_step = max(self.steps, 1)
        return {
            "steps": self.steps,
            "tokens": self.tokens,
            **{f"finished_{reason}": count for reason, count in sorted(self.finished.items())},
            "waiting": self.waiting,
            "running": self.running,
            "free_blocks": self.free_blocks,
            "shared_tokens": self.shared_tokens,
            "host_ms_per_step": self.host_ms / per_step,
            "device_ms_per_step": self.device_ms / per_step,
            "idle_share": self.idle_share,
            **_percentiles("first_token_ms", self.first_token_ms),
            **_percentiles("inter_token_ms", self.inter_token_ms),
        }


def _percentiles(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Median and 99th percentile, as part of a summary; None as long as there are no values."""
    shares = {"p50": 0.5, "p99": 0.99}
    return {f"{name}_{key}": percentile(values, share) if values else None for key, share in shares.items()}


# ==== chapter 8: packed_buffers.py ====================================================================================
# All inputs of a batch in one piece of memory: one copy to the device instead of a dozen.


ALIGNMENT = 64  # bytes; each input begins at a multiple of it


def num_bytes(tensors: Mapping[str, Tensor]) -> int:
    """The size of a buffer that has room for all of `tensors`."""
    return sum(-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors.values())


def views(buffer: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parts of a buffer, (num_bytes(like),) uint8, one behind the other, with names, shapes and dtypes of `like`."""
    parts: dict[str, Tensor] = {}
    start = 0
    for name, tensor in like.items():
        parts[name] = buffer[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        start += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    return parts


class PackedBuffers(IOBuffers):
    """IO buffers whose inputs lie in one piece of memory on either side."""

    def allocate_inputs(self, device: str) -> None:
        separate = self.padding
        self.padding_buffer = torch.zeros(num_bytes(separate), dtype=torch.uint8, device="cpu")
        self.padding = views(self.padding_buffer, separate)
        for name, values in separate.items():
            self.padding[name].copy_(values)
        self.host_buffer = torch.empty(self.padding_buffer.shape, dtype=torch.uint8, device="cpu", pin_memory=True)
        self.host_buffer.copy_(self.padding_buffer)
        self.host_inputs = views(self.host_buffer, separate)
        self.device_buffer = self.padding_buffer.to(device)
        self.device_inputs = views(self.device_buffer, separate)

    def load(self, inputs: BatchInputs) -> None:
        """As in chapter 3. Where prompts are among the rows, those beyond the batch have no token (step_graphs.py)."""
        write_host(self.host_buffer, self.padding_buffer)
        for name, values in inputs.tensors().items():
            write_host(self.host_inputs[name], values)
        rows = inputs.seq_lens.shape[0]
        if inputs.num_decode_rows < rows:
            rest = self.host_inputs["query_start_loc"][rows + 1 :]
            write_host(rest, host_tensor([inputs.input_ids.shape[0]] * len(rest), np.int32))

    def copy_in(self) -> None:
        self.device_buffer.copy_(self.host_buffer, non_blocking=True)


# ==== chapter 8: prefix_blocks.py =====================================================================================
# Prefix sharing: requests that begin with the same tokens share the blocks in which these tokens' keys and values lie.


class PrefixBlockManager(BlockManager):
    """Hands out blocks, several times the same one if its content is shared."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self.owners: Counter[int] = Counter()
        self.block_of: dict[bytes, int] = {}
        self.name_of: dict[int, bytes] = {}
        self.reusable: dict[int, None] = {}  # a dict, for its order and for quick removal
        self.names: WeakKeyDictionary[Request, list[bytes]] = WeakKeyDictionary()
        self.num_shared_tokens = 0
        self.outdated: set[int] = set()

    @property
    def num_free_blocks(self) -> int:
        return len(self.free_blocks) + len(self.reusable)

    def block_names(self, request: Request, count: int) -> list[bytes]:
        """The names of the first `count` blocks of a request; all their tokens must be known to the host."""
        names = self.names.setdefault(request, [])
        for i in range(len(names), count):
            tokens = array("q", request.token_ids(i * self.block_size, (i + 1) * self.block_size))
            before = names[-1] if names else b""
            names.append(blake2b(before + tokens.tobytes(), digest_size=16).digest())
        return names[:count]

    def share_prefix(self, request: Request) -> None:
        """Give a request that owns nothing the blocks in which its first tokens lie already."""
        for name in self.block_names(request, (request.num_tokens - 1) // self.block_size):
            block = self.block_of.get(name)
            if block is None:
                break
            self.owners[block] += 1
            self.reusable.pop(block, None)
            request.block_table.append(block)
        request.num_computed_tokens = len(request.block_table) * self.block_size

    def allocate(self, request: Request, num_tokens: int) -> None:
        """As in chapter 2. When there are too few nameless blocks, the longest unused ones lose name and content."""
        missing = self.num_missing_blocks(request, num_tokens)
        if missing == 0:  # as in nearly every row of a decode step
            return
        if missing <= self.num_free_blocks:
            while len(self.free_blocks) < missing:
                block = next(iter(self.reusable))
                del self.reusable[block]
                del self.block_of[self.name_of.pop(block)]
                self.free_blocks.append(block)
        super().allocate(request, num_tokens)
        for block in request.block_table[len(request.block_table) - missing :]:
            self.owners[block] = 1
            self.outdated.discard(block)

    def mark_written(self, row: Row) -> None:
        """A row was committed: name the blocks that it filled, unless the same content has a block already."""
        if self.outdated and not self.outdated.isdisjoint(row.request.block_table):
            return
        first, end = row.start // self.block_size, (row.start + row.num_tokens) // self.block_size
        if first == end:
            return
        names = self.block_names(row.request, end)
        for i in range(first, end):
            block = row.request.block_table[i]
            if names[i] not in self.block_of:
                self.block_of[names[i]] = block
                self.name_of[block] = names[i]

    def free(self, request: Request) -> None:
        """Take back a request's blocks; those that others own stay theirs, named ones keep their content."""
        for block in reversed(request.block_table):
            self.owners[block] -= 1
            if self.owners[block] > 0:
                continue
            if block in self.name_of:
                self.reusable[block] = None
            else:
                self.free_blocks.append(block)
        request.block_table.clear()

    def take_all_back(self) -> None:
        """As in chapter 2. Named blocks keep their content: they were named when it was certainly written."""
        self.owners.clear()
        self.outdated.clear()
        self.name_of = {block: name for name, block in self.block_of.items()}
        self.reusable = dict.fromkeys(self.name_of)
        self.free_blocks = deque(block for block in range(self.num_blocks) if block not in self.reusable)

    def forget(self) -> None:
        """Take all names away: from now on no request gets a block that was written before."""
        self.outdated = {block for block, owners in self.owners.items() if owners > 0}
        self.free_blocks.extend(self.reusable)
        self.reusable.clear()
        self.block_of.clear()
        self.name_of.clear()


class PrefixScheduler(CarryScheduler):
    """Chapter 7's scheduler; a request is let in with the blocks that are there already."""

    blocks: PrefixBlockManager

    def written(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.epoch == row.request.epoch:
                self.blocks.mark_written(row)

    def _admit(self, request: Request, rows: list[Row]) -> bool:
        self.blocks.share_prefix(request)
        shared = request.num_computed_tokens
        if not super()._admit(request, rows):
            self.blocks.free(request)  # a waiting request owns nothing
            request.num_computed_tokens = 0
            return False
        self.blocks.num_shared_tokens += shared
        return True


# ==== chapter 8: text_stream.py =======================================================================================
# From token ids to text, as they come: incremental detokenising.


NO_CHARACTER = "\ufffd"  # what decoding writes for bytes that make no character, or none yet
LONGEST_WINDOW = 6  # tokens decoded at a time; a longer window takes longer, a shorter one is begun more often
BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


def held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop string (0 if none)."""
    longest = max(map(len, stop), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(each.startswith(text[-length:]) for each in stop):
            return length
    return 0


class PieceDecoder:
    """Decodes tokens one by one."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        # A few tokenizers take away spaces before punctuation, which their backend alone does not.
        self.cleans_up = tokenizer if getattr(tokenizer, "clean_up_tokenization_spaces", False) else None
        self.byte_fallback = "ByteFallback" in str(
            getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", "")
        )
        self.uncertain = ""
        # The tokens of some pieces (a word may look different where a text begins), and those that came since.
        self._window: list[int] = []
        self._text = ""
        self._num_old, self._old_text = 0, ""  # the pieces' part of both
        self._in_bytes = False  # whether the window ends within a run of byte tokens

    def step(self, backend: Tokenizer, token_id: int) -> str:
        """The text that has become certain with the next token: a piece, or "" if there is none yet."""
        self._window.append(token_id)
        text = self._decode(backend)
        if self.byte_fallback and BYTE_TOKEN.fullmatch(backend.id_to_token(token_id) or ""):
            self._in_bytes = True
        elif text != self._text:  # special tokens are left out, so they do not end a run
            self._in_bytes = False
        self._text = text
        new = text[len(self._old_text) :] if text.startswith(self._old_text) else ""
        if not new or self._in_bytes or new.endswith(NO_CHARACTER):
            self.uncertain = new.rstrip(NO_CHARACTER)
            return ""
        self.uncertain = ""
        if len(self._window) > LONGEST_WINDOW:  # begin another one, with this piece
            self._window = self._window[self._num_old :]
            self._text = self._decode(backend)
        self._num_old, self._old_text = len(self._window), self._text
        return new

    def _decode(self, backend: Tokenizer) -> str:
        return str((self.cleans_up or backend).decode(self._window, skip_special_tokens=True))


class TextStream:
    """The text of one request."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None, stop: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if tokenizer is not None and self.backend is None:
            raise UserError(f"{type(tokenizer).__name__} has no fast backend; text needs one, token ids do not")
        self.decoder: Any = PieceDecoder(tokenizer)
        self.stop = tuple(stop)
        self.text = ""
        self.pending = ""
        self.stopped = False
        self.error = ""
        self._num_taken = 0

    def take(self) -> str:
        """The part of `text` that was not taken before."""
        new = self.text[self._num_taken :]
        self._num_taken = len(self.text)
        return new

    def replay(self, token_ids: Sequence[int]) -> None:
        """Tokens whose text was taken before this stream was made: the next `take` gives what comes after them."""
        for token_id in token_ids:
            self.push(token_id)
        self.take()

    def push(self, token_id: int) -> None:
        """The next token. Sets `error` if the tokenizer cannot take it; bytes that make no character are no error."""
        if self.backend is None or self.stopped:
            return
        try:
            new = self.decoder.step(self.backend, token_id)
            # What is not certain may complete a stop string: then the request ends, and nothing can change it any more.
            if any(stop in self.pending + self.decoder.uncertain for stop in self.stop):
                new = self.decoder.uncertain
            self.push_text(new)
        except Exception as error:  # the tokenizers library raises a bare Exception
            self.error = f"no text for token {token_id}: {error}"

    def push_text(self, new: str) -> None:
        """Take the next piece of text. `text` grows by what is certain now; at a stop string, `stopped` is set."""
        self.pending += new
        found = [self.pending.index(stop) for stop in self.stop if stop in self.pending]
        if found:
            self.stopped = True
            self.text += self.pending[: min(found)]
            self.pending = ""
            return
        keep = held_back(self.pending, self.stop)
        self.text += self.pending[: len(self.pending) - keep]
        self.pending = self.pending[len(self.pending) - keep :]

    def finish(self, output_ids: Sequence[int]) -> None:
        """The request has ended: release what was held back; bytes that make no character become the sign for that."""
        if self.tokenizer is None or self.stopped or self.error:
            return
        try:
            whole = str(self.tokenizer.decode(list(output_ids), skip_special_tokens=True))
        except Exception as error:  # a tokenizer may raise anything
            self.error = f"no text for the last tokens: {error}"
            whole = ""
        known = self.text + self.pending
        if whole.startswith(known):
            self.push_text(whole[len(known) :])
        self.text += self.pending
        self.pending = ""


# ==== chapter 8: streamed_texts.py ====================================================================================
# The texts of all requests of an engine, continued with every token (text_stream.py) instead of decoded again.


class StreamedTexts(Texts):
    """Takes the place of chapter 2's Texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None) -> None:
        super().__init__(tokenizer)
        self.streams: dict[Request, TextStream] = {}

    def open(self, request: Request) -> None:
        self.streams[request] = TextStream(self.tokenizer, request.params.stop)

    def push(self, request: Request) -> TextStream:
        """Continue the text of a request with its newest token, and return it."""
        text = self.streams[request]
        text.push(request.output_ids[-1])
        return text

    def new(self, request: Request) -> str:
        return self.streams[request].take()

    def close(self, request: Request) -> tuple[str, str, str]:
        text = self.streams.pop(request)
        text.finish(request.output_ids)
        return text.text, text.take(), text.error

    def restart(self, requests: Iterable[Request]) -> None:
        self.streams.clear()
        for request in requests:
            self.open(request)
            self.streams[request].replay(request.output_ids)


# ==== chapter 8: service_book.py ======================================================================================
# A request book for a service: requests can be taken back, and text is handed out as it comes.


class ServiceBook(RequestBook):
    """Chapter 2's book, in which a request can be ended at any time."""

    texts: StreamedTexts

    def cancel(self, request_id: str) -> bool:
        """Take a request back, wherever it is. Its terminal output comes with the next step."""
        if not isinstance(request_id, str):
            raise UserError(f"cancel: a request's name is a string; this one is {shown(request_id)}")
        if request_id not in self.requests:
            return False
        self.end(self.requests[request_id], FinishReason.CANCELLED)
        return True

    def end(self, request: Request, reason: FinishReason, error: str = "") -> None:
        """End a waiting or running request at once, and leave its one terminal output (`last_output`) in `outputs`."""
        if request.status is RequestStatus.RUNNING:
            self.scheduler.finish(request)
        else:
            self.scheduler.waiting.remove(request)
            request.status = RequestStatus.FINISHED
            request.epoch += 1
        request.finish_reason = reason
        self.outputs.append(self.last_output(request, (), error))

    def fail(self, request: Request, error: str) -> None:
        self.end(request, FinishReason.ERROR, error)

    def finish_reason(self, request: Request) -> FinishReason | None:
        """As in chapter 2, but the text is continued, not made again. Trouble with a text ends its request alone."""
        if request.output_ids[-1] in self.eos_ids and not request.params.ignore_eos:
            return FinishReason.EOS
        text = self.texts.push(request)
        if text.error:
            return FinishReason.ERROR
        if text.stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if len(request.output_ids) >= request.params.max_tokens else None


# ==== chapter 8: step_graphs.py =======================================================================================
# Graphs for every step, not for decode alone.


SMALLEST_BUCKET = 16  # tokens; fewer would save next to nothing, since the weights are read all the same


class StepGraphs(GraphForward):
    """Chapter 6's graphs, and others for mixed steps of up to `token_budget` tokens."""

    def __init__(self, forward: Callable[[Tensors, Tensor, Sizes], Tensor], storage: Tensor, token_budget: int) -> None:
        super().__init__(forward, storage)
        self.token_buckets = [size for size in bucket_sizes(token_budget) if size >= SMALLEST_BUCKET]
        self.mixed_graphs: dict[tuple[int, int, bool], Any] = {}

    def capture_all(self, inputs: Tensors, output: Tensor, full: Sizes) -> None:
        for tokens in reversed(self.token_buckets):  # before the smaller decode steps: the largest comes first
            for greedy in (True, False):
                sizes = replace(full, tokens=tokens, num_decode_rows=0, max_query_length=tokens, greedy=greedy)
                self.mixed_graphs[output.data_ptr(), tokens, greedy] = self.capture(inputs, output, sizes)
        super().capture_all(inputs, output, full)

    def launch(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
        if sizes.is_decode or not self.token_buckets or sizes.tokens > self.token_buckets[-1]:
            super().launch(inputs, output, sizes)
            return
        tokens = bucket_for(sizes.tokens, self.token_buckets)
        self.mixed_graphs[output.data_ptr(), tokens, sizes.greedy].replay()


def quickest_forward(step: Callable[[Tensors, Tensor, Sizes], Tensor], storage: Tensor, token_budget: int) -> Forward:
    """The forward with the most graphs that this device and its attention can have. See GraphForward for the arguments.
    """
    if device.is_simulated():
        return Forward(step, storage)
    if attention_kernel_name(storage) == "plain torch":
        return GraphForward(step, storage)
    return StepGraphs(step, storage, token_budget)


# ==== chapter 8: build.py =============================================================================================
# Chapter 8's engine, put together: shared prefixes, a book for a service, quicker launches, and who looks on.


@dataclass(frozen=True)
class FullParts(Parts[IOBuffers]):
    """What the full engine is made of: the parts of every engine, and two that look on."""

    book: ServiceBook
    metrics: Metrics
    search: CulpritSearch


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    *,
    prefix_sharing: bool = True,
    compiled: bool = False,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> FullParts:
    """The parts of `FullEngine`, which see for the arguments."""
    if truth("compiled", compiled) and is_simulated():
        raise UserError("compiled: the simulated GPU has no compiler; leave it out, or use a machine with a GPU")
    shared = truth("prefix_sharing", prefix_sharing)
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    metrics, search = Metrics(), CulpritSearch()
    observers = Observers(timeline, HostPrices(), metrics, search)
    blocks = (PrefixBlockManager if shared else BlockManager)(config.num_blocks, config.block_size)
    make_scheduler = PrefixScheduler if shared else CarryScheduler
    scheduler = make_scheduler(blocks, config.max_rows, config.token_budget, config.policy)
    if compiled:
        compile_forward(model)
    book = ServiceBook(scheduler, StreamedTexts(tokenizer), eos_ids(model))
    forward = quickest_forward(partial(carry_step, model), allocate_cache(model, config), config.token_budget)
    pool = BufferRing(link(*(PackedBuffers(carry_padding(BufferSizes.of(entrance)), DEVICE) for _ in range(2))))
    executor = EventExecutor(pool, forward, observers)
    return FullParts(entrance, scheduler, CarryPacker(blocks), executor, book, observers, metrics, search)


# ==== chapter 8: full_engine.py =======================================================================================
# The full engine: everything of the course in one class, and an error is not the end of it.


class FullEngine(PipelinedEngine):
    """Continuous batching, asynchronous, with all that a service needs of an engine."""

    book: ServiceBook
    max_failures = CulpritSearch.max_failures

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        timeline: Timeline | NoTimeline = NO_TIMELINE,
        *,
        asynchronous: bool = True,
        prefix_sharing: bool = True,
        compiled: bool = False,
        build: Callable[..., FullParts] = build,
        **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
    ) -> None:
        max_in_flight = 2 if truth("asynchronous", asynchronous) else 1
        parts = build(model, tokenizer, timeline, prefix_sharing=prefix_sharing, compiled=compiled, **limits)
        super().__init__(parts, max_in_flight)
        self.metrics, self.search = parts.metrics, parts.search
        self.failures = 0
        self.stopped = ""

    def check_request(self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams) -> list[int]:
        """As in chapter 2. Raises UserError also when the engine has stopped."""
        if self.stopped:
            raise UserError(f"request {request_id}: {self.stopped}")
        return super().check_request(request_id, prompt_ids, params)

    def cancel(self, request_id: str) -> bool:
        """Take a request back, wherever it is; see `ServiceBook.cancel`."""
        self.settle()
        return self.book.cancel(request_id)

    def forget_prefixes(self) -> None:
        """Call this after the weights were changed in place: no later request shares what the old ones computed."""
        self.scheduler.blocks.forget()

    @property
    def has_work(self) -> bool:
        return bool(self.book.outputs) or self.torn or (not self.stopped and super().has_work)

    def advance(self) -> Sequence[RequestOutput]:
        """As in chapter 5, and whatever is raised in it is got over."""
        if self.stopped:
            return []
        try:
            with self.search.only_the_group(self.scheduler):
                outputs = super().advance()
            if outputs:
                self.failures = 0
            return outputs
        except Exception as error:  # whatever it is: no request may be lost over it
            self.take_back()
            with self.search.only_the_group(self.scheduler):  # once more, since all have restarted
                self.blame(error)
                self.recover(error)
            return []

    def blame(self, error: Exception) -> None:
        """Find out who is at fault, and see to it that `recover` ends this one and no other."""
        culprit = self.search.step_failed([*self.scheduler.running, *list(self.scheduler.waiting)[:1]])
        self.failures = 0 if culprit is None else self.max_failures - 1
        if culprit is not None:
            name = culprit.request_id
            logging.getLogger(__name__).error("request %s fails by itself, and ends", name, exc_info=error)

    def take_back(self) -> None:
        """As in chapter 2. If it was this step that stopped the engine, that is taken back with the requests' ends."""
        super().take_back()
        if self.book.requests:
            self.stopped = ""

    def device_is_usable(self) -> bool:
        """Wait for everything that is queued. After a sticky error that raises, as every call does from then on."""
        try:
            accelerator.synchronize()
        except RuntimeError:
            return False
        return True

    def recover(self, error: Exception) -> None:
        """A step has raised `error`. Forget what is in flight, and decide who goes on."""
        message = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        usable = self.device_is_usable()
        running, waiting = list(self.scheduler.running), list(self.scheduler.waiting)
        self.in_flight.clear()
        self.failures += 1
        for request in running:
            self.scheduler.preempt(request)
        if not usable:
            self.stopped = f"the device has failed ({message}); restart the process"
            failed = running + waiting
        else:
            failed = (running or waiting[:1]) if self.failures >= self.max_failures else []
        for request in failed:
            self.book.end(request, FinishReason.ERROR, message)
