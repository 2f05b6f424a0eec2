"""What works in an actor: an engine of its own, which answers several slices of rows at a time.

A batch that is handed in, waited for, and followed by the next one *drains* the engine at each batch's end: its rows end
one by one, and the last of them runs alone. A continuous-batching engine need not: it takes rows at any time. So several
calls are inside at once, each in a thread of the actor's, and each waits for its own rows; when a row ends, one of
another slice has its place in the next step.
"""

import json
import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from transformers import PreTrainedTokenizerBase

from ch02_continuous_batching import FinishReason, RequestOutput, SamplingParams
from ch08_full_engine import FullEngine, Server
from ch10_serving.offline_job import Recipe
from toolkit.errors import UserError
from toolkit.prompts import encode, parse_line

PATIENCE = 300.0  # seconds without a token of any request, after which an engine counts as hung
log = logging.getLogger(__name__)


def end_process(reason: str) -> None:
    """End this process at once. Ray starts another one, and has it do what this one has not finished."""
    log.critical("this engine's process ends: %s", reason)
    os._exit(1)


class OfflineEngine:
    """Answers rows; called from several threads at a time.

    Args:
        make: makes an engine and its tokenizer.
        prompts: the file's name, for messages.
        places: rows that may be inside at a time, of all calls together. More than the engine runs in a step, so that
            there is always a next one.
        give_up: called with a reason when nothing can be expected of this engine any more.
        patience: seconds.
    """

    def __init__(
        self,
        make: Callable[[], tuple[FullEngine, PreTrainedTokenizerBase | None]],
        prompts: str,
        recipe: Recipe,
        places: int,
        give_up: Callable[[str], None] = end_process,
        patience: float = PATIENCE,
    ) -> None:
        self.prompts, self.recipe, self.give_up, self.patience = prompts, recipe, give_up, patience
        self.engine, tokenizer = make()
        if tokenizer is None:
            raise UserError(f"model {recipe.model} has no tokenizer, so it cannot read prompts; take tiny or default")
        self.tokenizer = tokenizer
        self.server = Server(self.engine, places)
        self.num_outputs = 0  # of all calls; that it grows is what counts

    def __call__(self, batch: dict[str, Sequence[Any]]) -> dict[str, list[bytes]]:
        """What Ray Data calls: columns in, columns out."""
        return {"answer": self.answer(int(batch["row"][0]), [int(line) for line in batch["line"]], batch["text"])}

    def answer(self, first_row: int, lines: Sequence[int], texts: Sequence[bytes]) -> list[bytes]:
        """One line for each row, in order, without newlines:

            {"line": 7, "id": ..., "text": "...", "finish_reason": "length", "tokens": 32}
            {"line": 8, "error": "prompts.jsonl:8: not JSON (...)"}

        "id" is there if the row has one. A row that cannot be answered fails alone.

        Args:
            first_row: number of the first of these rows, from 0. lines: number of each one's line.
            texts: what the lines hold.
        """
        answers: list[dict[str, Any]] = []
        ended: SimpleQueue[tuple[dict[str, Any], RequestOutput]] = SimpleQueue()
        running = 0
        for row, (line, text) in enumerate(zip(lines, texts, strict=True), start=first_row):
            answer: dict[str, Any] = {"line": line}
            answers.append(answer)
            try:
                self.submit(row, f"{self.prompts}:{line}", text, answer, ended)
                running += 1
            except UserError as error:
                answer["error"] = str(error)
        for _ in range(running):
            answer, output = self.next_end(ended)
            if output.finish_reason is FinishReason.ERROR:
                answer["error"] = f"{self.prompts}:{answer['line']}: {output.error}"
            else:
                assert output.finish_reason is not None
                reason, tokens = output.finish_reason.value, len(output.output_ids)
                answer |= {"text": output.text, "finish_reason": reason, "tokens": tokens}
        if self.engine.stopped:
            self.give_up(self.engine.stopped)
        return [json.dumps(answer, ensure_ascii=False).encode() for answer in answers]

    def submit(
        self, row: int, where: str, text: bytes, answer: dict[str, Any], ended: SimpleQueue[tuple[Any, RequestOutput]]
    ) -> None:
        """Hand a row to the engine; its last output will be in `ended`. Raises UserError if it cannot be answered."""
        try:
            decoded = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from None
        prompt = parse_line(decoded, where)
        answer |= {name: value for name, value in json.loads(decoded).items() if name == "id"}
        params = SamplingParams(self.recipe.max_tokens)
        token_ids = encode(prompt, self.tokenizer, where)
        try:
            self.server.submit(token_ids, params, partial(self.take, answer, ended))
        except UserError as error:
            raise UserError(f"{where}: {str(error).partition(': ')[2] or error}") from None

    def take(self, answer: dict[str, Any], ended: SimpleQueue[tuple[Any, RequestOutput]], output: RequestOutput) -> None:
        self.num_outputs += 1
        if output.finish_reason is not None:
            ended.put((answer, output))

    def next_end(
        self, ended: SimpleQueue[tuple[dict[str, Any], RequestOutput]]
    ) -> tuple[dict[str, Any], RequestOutput]:
        """The next row of a call that has ended; gives up on an engine that hangs."""
        while True:
            before = self.num_outputs
            try:
                return ended.get(timeout=self.patience)
            except Empty:
                if self.num_outputs == before:
                    self.give_up(f"no token in {self.patience:.0f} s")
