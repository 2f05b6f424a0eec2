"""What works in an actor: an engine of its own, which answers several slices of rows at a time.

If one batch is handed in and waited for before the next one, the engine *drains* at each batch's end: its rows end one
by one, and the last of them runs alone. A continuous-batching engine takes rows at any time, so it need not drain.
Several calls are inside at once, each in a thread of the actor, and each waits for its own rows; when a row ends, one
of another slice takes its place in the next step.
"""

import json
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from transformers import PreTrainedTokenizerBase

from ch02_continuous_batching import FinishReason, RequestOutput, SamplingParams
from ch08_full_engine import FullEngine, Server
from ch10_serving.offline_job import Recipe
from ch10_serving.watchdog import PATIENCE, Watchdog
from toolkit.errors import UserError
from toolkit.prompts import encode, parse_line

Answer = dict[str, Any]  # what becomes one line of the answers' file
Ended = SimpleQueue[tuple[Answer, RequestOutput]]


class OfflineEngine:
    """Answers rows; called from several threads at a time.

    Args:
        make: makes an engine and its tokenizer.
        prompts: the file's name, for messages.
        places: rows that may be inside at a time, of all calls together.
        patience: see Watchdog.
    """

    def __init__(
        self,
        make: Callable[[], tuple[FullEngine, PreTrainedTokenizerBase | None]],
        prompts: str,
        recipe: Recipe,
        places: int,
        patience: float = PATIENCE,
    ) -> None:
        self.prompts, self.recipe = prompts, recipe
        engine, tokenizer = make()
        if tokenizer is None:
            raise UserError(f"model {recipe.model} has no tokenizer, so it cannot read prompts; take tiny or default")
        self.tokenizer = tokenizer
        self.server = Server(engine, places)
        self.watchdog = Watchdog(self.server, patience)

    def __call__(self, rows: dict[str, Sequence[Any]]) -> dict[str, list[bytes]]:
        """What Ray Data calls: columns in, columns out."""
        return {"answer": self.answer([int(line) for line in rows["line"]], rows["text"])}

    def answer(self, lines: Sequence[int], texts: Sequence[bytes]) -> list[bytes]:
        """One line for each row, in order, without newlines:

            {"line": 7, "id": ..., "text": "...", "finish_reason": "length", "tokens": 32}
            {"line": 8, "error": "prompts.jsonl:8: not JSON (...)"}

        "id" is there if the row has one. A row that cannot be answered fails alone.

        Args:
            lines: number of each row's line in the file. texts: what the lines hold.
        """
        answers: list[Answer] = [{"line": line} for line in lines]
        ended: Ended = SimpleQueue()
        running = 0
        for answer, text in zip(answers, texts, strict=True):
            try:
                self.submit(answer, text, ended)
                running += 1
            except UserError as error:
                answer["error"] = str(error)
        for _ in range(running):
            answer, output = ended.get()
            if output.finish_reason in (FinishReason.ERROR, FinishReason.CANCELLED):
                answer["error"] = f"{self.prompts}:{answer['line']}: {output.error}"
            else:
                assert output.finish_reason is not None
                reason, tokens = output.finish_reason.value, len(output.output_ids)
                answer |= {"text": output.text, "finish_reason": reason, "tokens": tokens}
        return [json.dumps(answer, ensure_ascii=False).encode(errors="replace") for answer in answers]

    def submit(self, answer: Answer, text: bytes, ended: Ended) -> None:
        """Hand a row to the engine; its last output will be in `ended`. Raises UserError if it cannot be answered."""
        where = f"{self.prompts}:{answer['line']}"
        try:
            decoded = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{where}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8"
            ) from None
        prompt = parse_line(decoded, where)
        answer |= {name: value for name, value in json.loads(decoded).items() if name == "id"}
        token_ids = encode(prompt, self.tokenizer, where)

        def take(output: RequestOutput) -> None:
            if output.finish_reason is not None:
                ended.put((answer, output))

        try:
            self.server.submit(token_ids, SamplingParams(self.recipe.max_tokens), take)
        except UserError as error:
            raise UserError(f"{where}: {str(error).partition(': ')[2] or error}") from None
