"""The full engine: everything of the course in one class.

The loop has three phases. *Cold start*: the first batch is launched, and there is nothing to commit. *Steady state*:
launch N + 1, commit N. *Drain*: there is nothing left to launch, the last batch is committed. All three are the one
`advance` of chapter 5, and it starts with an empty queue as well as with a full one.

To the engine with cancelling and recovery (managed_engine) this adds shared prefixes, text as it comes, metrics and,
on a GPU, the graphs of chapter 6.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching import Batch, FinishReason, Request, RequestOutput, SamplingParams, Scheduler
from ch03_streams import IOSlot
from ch06_graphs import GraphForward
from ch08_full_engine.managed_engine import ManagedEngine, StreamedOutput
from ch08_full_engine.metrics import Metrics
from ch08_full_engine.prefix_blocks import PrefixBlockManager, PrefixScheduler
from ch08_full_engine.step_graphs import MixedSlot, StepGraphs
from ch08_full_engine.text_stream import TextStream
from toolkit import device
from toolkit.device import accelerator
from toolkit.errors import UserError
from toolkit.models.compiled import compile_forward
from toolkit.paged_attention import attention_kernel_name


class FullEngine(ManagedEngine):
    """Continuous batching, asynchronous, with all that a service needs of an engine.

    Args:
        prefix_sharing: whether requests share the blocks of a common beginning.
        compiled: run the model's layers through torch.compile, in place; GPU only. Takes some seconds once.
        The others are those of AsyncEngine.

    Attributes:
        metrics: see Metrics.
        texts: the text of each request that has not ended.
    """

    slot_class = MixedSlot

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *arguments: Any,  # noqa: ANN401 (those of AsyncEngine)
        prefix_sharing: bool = True,
        compiled: bool = False,
        **options: Any,  # noqa: ANN401
    ) -> None:
        if compiled and device.is_simulated():
            raise UserError("compiled: the simulated GPU has no compiler; leave it out, or use a machine with a GPU")
        self.prefix_sharing = prefix_sharing
        self.compiled = compiled
        self.metrics = Metrics()
        self.texts: dict[Request, TextStream] = {}
        self.forwards: deque[tuple[Any, Any]] = deque()  # of each batch in flight, the events around its forward
        super().__init__(model, tokenizer, *arguments, **options)

    def make_scheduler(self) -> Scheduler:
        scheduler = super().make_scheduler()
        if not self.prefix_sharing:
            return scheduler
        config = self.config
        self.blocks = PrefixBlockManager(config.num_blocks, config.block_size)
        return PrefixScheduler(self.blocks, config.max_rows, config.token_budget, config.policy)

    def set_up_device(self, model: PreTrainedModel) -> None:
        if self.compiled:
            compile_forward(model)
        super().set_up_device(model)

    def make_box(self, storage: Tensor) -> Any:  # noqa: ANN401 (see chapter 3)
        if device.is_simulated():  # it could run graphs too, operation by operation, but that takes very long
            return super().make_box(storage)
        if attention_kernel_name(storage) == "plain torch":
            return GraphForward(self.forward, storage)
        return StepGraphs(self.forward, storage, self.config.token_budget)

    def add_request(self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams) -> Request:
        prompt = self.check_request(request_id, prompt_ids, params)
        text = TextStream(self.tokenizer, params.stop)
        request = super().add_request(request_id, prompt, params)
        self.texts[request] = text
        self.metrics.added(request)
        return request

    def restart(self) -> None:
        super().restart()
        self.forwards.clear()
        for request in self.requests.values():
            self.texts[request] = text = TextStream(self.tokenizer, request.params.stop)
            text.replay(request.output_ids)
            self.metrics.restarted(request)

    def forget_prefixes(self) -> None:
        """Call this after the weights were changed in place: no later request shares what the old ones computed.

        Between two steps, and before the next request is added. Requests that run go on with the keys and values they
        have, so their answers are of both models; let the engine become idle first if that matters.
        """
        if isinstance(self.blocks, PrefixBlockManager):
            self.blocks.forget()

    # --- a step, with a look at the clock ---

    def advance(self) -> list[RequestOutput]:
        start, waited_before = device.now_ms(), self.metrics.waiting_ms
        outputs = super().advance()
        waited = self.metrics.waiting_ms - waited_before
        self.metrics.host_ms += device.now_ms() - start - waited
        self.metrics.waiting, self.metrics.running = len(self.scheduler.waiting), len(self.scheduler.running)
        self.metrics.free_blocks = self.blocks.num_free_blocks
        if not self.in_flight:
            self.forwards.clear()  # after an error there may be some left
        if not self.has_work:
            self.metrics.out_of_work()
        return outputs

    def run_forward(self, batch: Batch, slot: IOSlot) -> None:
        start, end = (accelerator.Event(enable_timing=True) for _ in range(2))
        start.record()
        super().run_forward(batch, slot)
        end.record()
        self.forwards.append((start, end))

    def wait_for(self, slot: IOSlot) -> None:
        start = device.now_ms()
        super().wait_for(slot)
        self.metrics.waiting_ms += device.now_ms() - start
        self.metrics.forward(*self.forwards.popleft())

    # --- tokens come in ---

    def commit_tokens(self, batch: Batch, token_ids: list[int]) -> list[RequestOutput]:
        if isinstance(self.blocks, PrefixBlockManager):
            self.metrics.shared_tokens = self.blocks.num_shared_tokens
            for row in batch.rows:
                if row.epoch == row.request.epoch:
                    self.blocks.mark_written(row)
        return super().commit_tokens(batch, token_ids)

    def finish_reason(self, request: Request) -> FinishReason | None:
        """As in chapter 2, but the text is continued, not made anew. Trouble with a text ends its request alone."""
        if request.output_ids[-1] in self.eos_ids and not request.params.ignore_eos:
            return FinishReason.EOS
        text = self.texts[request]
        text.push(request.output_ids[-1])
        if text.error:
            return FinishReason.ERROR
        if text.stopped:
            return FinishReason.STOP
        return FinishReason.LENGTH if len(request.output_ids) >= request.params.max_tokens else None

    def make_output(self, request: Request, token_id: int) -> RequestOutput:
        self.metrics.token(request, is_first=len(request.output_ids) == 1)
        if request.finish_reason is not None:
            return self.last_output(request, (token_id,))
        return StreamedOutput(request.request_id, (token_id,), new_text=self.texts[request].take())

    def last_output(self, request: Request, new_token_ids: tuple[int, ...], error: str = "") -> StreamedOutput:
        output = super().last_output(request, new_token_ids, error)
        text = self.texts.pop(request)
        text.finish(request.output_ids)
        self.metrics.ended(request)
        return replace(output, text=text.text, new_text=text.take(), error=error or text.error)
