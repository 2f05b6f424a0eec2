"""The naive synchronous loop: static batches over the model's ordinary KV cache.

Prompts are taken `batch_size` at a time and padded to the longest. One forward over the prompts (prefill) yields each
row's first token; then every forward computes one token per row (decode). A row that is done stays in the batch and
goes on computing until the last one is done: its results are thrown away, its work is not saved.

And after each forward the host asks for the tokens (`tolist`), so host and device take turns.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ch01_naive_loop.padding import pad_left, position_ids
from toolkit.checked import INT64_MAX, whole_number
from toolkit.eos import eos_ids
from toolkit.errors import UserError
from toolkit.models.supported import served_length
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


class NaiveEngine:
    """Greedy generation in static padded batches.

    Args:
        model: a causal language model of the transformers library, unchanged, of a family in toolkit.models.supported.
        batch_size: rows of a batch.
        timeline: records what host and device do when.
        on_tokens: called after each forward with the number of new tokens, for a progress bar.

    Attributes:
        num_steps: forwards so far.
        positions_computed: token positions that forwards computed so far, padding and finished rows included.
        positions_useful: those among them that were a real token of a row that was not done yet.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        batch_size: int = 16,
        timeline: Timeline | NoTimeline = NO_TIMELINE,
        on_tokens: Callable[[int], object] = lambda count: None,
    ) -> None:
        self.max_length = served_length(model)  # refuses a model that it, or a later engine, would serve wrong
        self.model = model
        self.batch_size = whole_number("batch_size", batch_size, 1, INT64_MAX, "a batch has at least 1 row")
        self.timeline = timeline
        self.on_tokens = on_tokens
        self.eos_ids = eos_ids(model)
        self.num_steps = 0
        self.positions_computed = 0
        self.positions_useful = 0

    @property
    def padding_share(self) -> float:
        """The share of computed positions that no request needed, 0 to 1; 0 before the first forward."""
        raise NotImplementedError("ch01 exercise 3: Count what padding wastes")

    def generate(
        self, prompts: Sequence[list[int]], max_tokens: Sequence[int], ignore_eos: bool = False
    ) -> list[list[int]]:
        """Generate for all prompts, batch after batch.

        Args:
            prompts: token ids, none empty.
            max_tokens: number of new tokens at most, one entry per prompt.
            ignore_eos: go on after the end-of-sequence token.

        Returns:
            the new tokens of each prompt, its end-of-sequence token included if there was one.

        Raises:
            UserError: a prompt is empty, is no list of the model's token ids, or does not fit its context, or a limit
                is no whole number; nothing was computed then.
        """
        last_id = self.model.config.vocab_size - 1
        for i, (prompt, limit) in enumerate(zip(prompts, max_tokens, strict=True)):
            whole_number(f"max_tokens of prompt {i}", limit, 0, INT64_MAX, "it is a number of tokens")
            for token in prompt:
                whole_number(f"a token of prompt {i}", token, 0, last_id, f"the model has the ids 0 to {last_id}")
            if not prompt:
                raise UserError(f"prompt {i} has no tokens; give it at least one")
            if len(prompt) + limit > self.max_length:
                raise UserError(
                    f"prompt {i}: {len(prompt)} prompt tokens and {limit} new ones exceed the model's context "
                    f"of {self.max_length}; shorten one of them"
                )
        outputs: list[list[int]] = []
        for first in range(0, len(prompts), self.batch_size):
            batch = slice(first, first + self.batch_size)
            outputs += self._generate_batch(list(prompts[batch]), list(max_tokens[batch]), ignore_eos)
        return outputs

    @torch.no_grad()
    def _generate_batch(self, prompts: list[list[int]], max_tokens: list[int], ignore_eos: bool) -> list[list[int]]:
        """Prefill, then decode until every row is done.

        The first forward takes the padded prompts; each later one takes one column, the rows' newest tokens. The
        mask grows by a column of ones per forward, and positions follow from it.
        """
        outputs: list[list[int]] = [[] for _ in prompts]
        with self.timeline.host("prepare", step=self.num_steps):
            input_ids, mask = pad_left(prompts, pad_id=0)
        cache = DynamicCache(config=self.model.config)
        while True:
            unfinished = [i for i, out in enumerate(outputs) if not self.is_done(out, max_tokens[i], ignore_eos)]
            if not unfinished:
                return outputs
            raise NotImplementedError("ch01 exercise 2: The decode loop and its end")
            self.on_tokens(len(unfinished))

    def is_done(self, output: list[int], max_tokens: int, ignore_eos: bool) -> bool:
        """Whether a row with these new tokens (none, at first) has reached its limit or ended its sequence.

        `self.eos_ids` are the tokens that end one, and may be several.
        """
        raise NotImplementedError("ch01 exercise 2: The decode loop and its end")

    def _forward(self, input_ids: Tensor, mask: Tensor, cache: DynamicCache, unfinished: list[int]) -> list[int]:
        """One forward over all rows. Returns each row's most likely next token.

        Args:
            input_ids: (rows, columns) int64 on the host; the whole prompts, or one column in decode.
            mask: (rows, length so far) int64 on the host, these columns included.
            cache: keys and values of the columns before; gets those of this forward appended.
            unfinished: the rows whose results are still wanted.
        """
        columns = input_ids.shape[1]
        self._count(mask[:, -columns:], unfinished)
        device, step = self.model.device, self.num_steps
        self.num_steps += 1
        with self.timeline.host("launch", step=step):
            with self.timeline.device("copy in", lane="h2d", step=step):
                positions = position_ids(mask)[:, -columns:].to(device)
                ids, all_mask = input_ids.to(device), mask.to(device)
            with self.timeline.device("forward", lane="compute", step=step):
                logits = self.model(
                    input_ids=ids,
                    attention_mask=all_mask,
                    position_ids=positions,
                    past_key_values=cache,
                    logits_to_keep=1,
                ).logits
                next_ids = logits[:, -1].argmax(dim=-1)
        with self.timeline.host("wait", step=step):
            return next_ids.tolist()  # blocks until the device is done

    def _count(self, new_mask: Tensor, unfinished: list[int]) -> None:
        """Count the positions of one forward.

        Args:
            new_mask: (rows, columns) int64; the columns of this forward, 1 for a token, 0 for padding. All of them are
                computed. In decode a row that is done has a 1 as well.
            unfinished: the rows whose results are still wanted.
        """
        raise NotImplementedError("ch01 exercise 3: Count what padding wastes")
