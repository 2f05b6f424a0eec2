"""The engine: add requests, call `step` until all are finished.

A step (`advance`) is three functions, and every later chapter keeps them:

    prepare   host: schedule the rows and pack their tensors
    launch    copy the inputs to the device, run the forward, leave the sampled ids there
    commit    wait for the ids, append them to their requests, finish those that are done

Here they run strictly one after the other, so the device idles during prepare and commit, and the host during the
forward. The asynchronous chapters replace how launch copies and in which order the three are called.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching.all_or_nothing import Undo, all_or_nothing
from ch02_continuous_batching.batch import Batch, pack
from ch02_continuous_batching.block_manager import BlockManager
from ch02_continuous_batching.config import EngineConfig
from ch02_continuous_batching.entrance import Entrance
from ch02_continuous_batching.generate import generate
from ch02_continuous_batching.model_runner import ModelRunner
from ch02_continuous_batching.request import FinishReason, Request, RequestOutput, SamplingParams, last_output
from ch02_continuous_batching.scheduler import Row, Scheduler
from toolkit.eos import eos_ids
from toolkit.models.supported import served_length
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


class Engine:
    """A synchronous engine with continuous batching.

    Args:
        model: a Llama-family causal language model; it is switched to paged attention.
        tokenizer: needed for stop strings and for text in the outputs; token ids alone work without.
        timeline: records what host and device do when.
        limits: the fields of EngineConfig, by name.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        timeline: Timeline | NoTimeline = NO_TIMELINE,
        **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
    ) -> None:
        self.tokenizer, self.timeline = tokenizer, timeline
        self.config = EngineConfig(**limits)
        self.max_length = served_length(model, self.config.max_length)  # refuses a model that it would serve wrong
        self.config.check_memory(model, self.max_length)
        self.blocks = BlockManager(self.config.num_blocks, self.config.block_size)
        self.scheduler = self.make_scheduler()
        self.entrance = Entrance(self.config, self.max_length, model.config.vocab_size, tokenizer is not None)
        self.eos_ids = eos_ids(model)
        self.requests: dict[str, Request] = {}  # by name, those that have not had their last output
        self.outputs: list[RequestOutput] = []  # what the next `step` returns before its own
        self.undo, self.torn = Undo(), False  # see all_or_nothing.py
        self.num_requests = self.num_steps = 0
        self.set_up_device(model)

    def make_scheduler(self) -> Scheduler:
        return Scheduler(self.blocks, self.config.max_rows, self.config.token_budget, self.config.policy)

    def set_up_device(self, model: PreTrainedModel) -> None:
        """Allocate what the engine needs on the device."""
        self.runner = ModelRunner(model, self.config.num_blocks, self.config.block_size)

    def check_request(self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams) -> list[int]:
        """Refuse what can never be served, before it is queued. Returns the prompt, copied; see `Entrance.check`."""
        return self.entrance.check(request_id, prompt_ids, params, self.requests)

    def add_request(self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams) -> Request:
        """Queue a prompt. Raises UserError for one that can never be served, see `check_request`."""
        prompt = self.check_request(request_id, prompt_ids, params)
        request = Request(request_id, prompt, params, arrival=self.num_requests)
        self.num_requests += 1
        self.requests[request_id] = request
        self.scheduler.add(request)
        return request

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running, or has an output that was not returned."""
        return bool(self.outputs or self.scheduler.waiting or self.scheduler.running)

    def step(self) -> list[RequestOutput]:
        """`advance`, all or nothing: it returns its outputs, or raises and has changed nothing that counts."""
        return all_or_nothing(self)

    def advance(self) -> list[RequestOutput]:
        """Run one step to its end. Returns what it brought; nothing if there was nothing to do."""
        batch = self.prepare()
        if batch is None:
            return []
        return self.commit(batch, self.launch(batch))

    def restart(self) -> None:
        """Forget what is half done or on its way: requests wait or run as before, and nothing of them is computed."""
        self.scheduler.restart(sorted(self.requests.values(), key=lambda request: request.arrival))
        self.torn = False

    def prepare(self) -> Batch | None:
        """Host: choose the rows of the next step and pack their inputs. None if nothing can run."""
        with self.timeline.host("prepare", step=self.num_steps):
            rows = self.scheduler.schedule()
            return self.make_batch(rows) if rows else None

    def make_batch(self, rows: list[Row]) -> Batch:
        """Pack scheduled rows into the batch of the next step."""
        batch = Batch(self.num_steps, *pack(rows, self.blocks))
        self.num_steps += 1
        return batch

    def launch(self, batch: Batch) -> Tensor:
        """Queue the batch on the device: inputs in, forward. Returns the sampled ids there, (samples,) int64."""
        with self.timeline.host("launch", step=batch.step):
            with self.timeline.device("copy in", lane="h2d", step=batch.step):
                inputs = batch.inputs.to(self.runner.model.device)
            with self.timeline.device("forward", lane="compute", step=batch.step):
                return self.runner.forward(inputs)

    def commit(self, batch: Batch, sampled_ids: Tensor) -> list[RequestOutput]:
        """Host: wait for the sampled ids and hand each to its request. See `commit_tokens`."""
        with self.timeline.host("wait", step=batch.step):
            token_ids: list[int] = sampled_ids.tolist()  # blocks until the device is done
        with self.timeline.host("commit", step=batch.step):
            return self.commit_batch(batch, token_ids)

    def commit_batch(self, batch: Batch, token_ids: list[int]) -> list[RequestOutput]:
        """`commit_tokens`, in a way that can be taken back, and after rows for which there is no token have failed."""
        self.undo.note(batch)
        for request in batch.requests_without_token(token_ids):
            self.fail(request, "the model gave no finite logit for the next token")
        return self.commit_tokens(batch, token_ids)

    def fail(self, request: Request, error: str) -> None:
        """End a running request by itself. Its last output comes with this step; rows of it are dropped at commit."""
        self.scheduler.finish(request)
        request.finish_reason = FinishReason.ERROR
        self.outputs.append(self._output(request, error=error))

    def commit_tokens(self, batch: Batch, token_ids: list[int]) -> list[RequestOutput]:
        """Append each sampled token to its request, finish the requests that are done, and return the rows' outputs.

        `token_ids` has one entry per entry of `batch.sampling_rows`, in that order.

        A row whose epoch is not the request's any more is dropped: the request has finished or was preempted since.
        For the others: one pending sample less, the token is appended, `request.finish_reason` is set (`finish_reason`
        decides), a request with a reason is finished (`scheduler.finish`), and then `_output` makes the output.
        """
        outputs: list[RequestOutput] = []
        for row, token_id in zip(batch.sampling_rows, token_ids, strict=True):
            # BEGIN SOLUTION 2.5
            request = row.request
            if row.epoch != request.epoch:
                continue
            request.pending_samples -= 1
            request.output_ids.append(token_id)
            request.finish_reason = self.finish_reason(request)
            if request.finish_reason is not None:
                self.scheduler.finish(request)
            outputs.append(self._output(request, token_id))
            # END SOLUTION
        return outputs

    def finish_reason(self, request: Request) -> FinishReason | None:
        """Why the request ends with its newest token, or None if it goes on.

        An end-of-sequence token (`self.eos_ids`, perhaps several) counts first unless ignored, then a stop string in
        `_text`, then the length limit.
        """
        # BEGIN SOLUTION 2.5
        if request.output_ids[-1] in self.eos_ids and not request.params.ignore_eos:
            return FinishReason.EOS
        if request.params.stop and any(stop in self._text(request) for stop in request.params.stop):
            return FinishReason.STOP
        if len(request.output_ids) >= request.params.max_tokens:
            return FinishReason.LENGTH
        return None
        # END SOLUTION

    def _text(self, request: Request) -> str:
        """The output's text so far, special tokens left out; "" without a tokenizer."""
        if self.tokenizer is None:
            return ""
        return str(self.tokenizer.decode(request.output_ids, skip_special_tokens=True))

    def _output(self, request: Request, *new_token_ids: int, error: str = "") -> RequestOutput:
        """What the step brought `request`; with the complete result if it has finished."""
        if request.finish_reason is None:
            return RequestOutput(request.request_id, new_token_ids)
        del self.requests[request.request_id]
        return last_output(request, new_token_ids, self._text(request), error)

    def generate(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[RequestOutput]:
        """Run a list of prompts to their ends. See generate.py."""
        return generate(self, prompts, params)
