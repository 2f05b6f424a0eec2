"""The prompts of a soak, and the right answer to each of them."""

import random
from collections import Counter
from typing import Any

import torch

from toolkit import device
from toolkit.models import load_model

LONGEST_ANSWER = 16


class Answers:
    """The prompts of the run, and what the library's `generate` answers; models in float32, twice the same weights."""

    def __init__(self) -> None:
        kind = "cpu" if device.is_simulated() else "cuda"
        library, self.model = (load_model("tiny", device=kind, dtype=torch.float32) for _ in range(2))
        self.tokenizer: Any = self.model.tokenizer
        rng = random.Random(0)
        beginnings = [[rng.randrange(3, 256) for _ in range(length)] for length in (4, 9, 16)]
        own = [[rng.randrange(3, 256) for _ in range(rng.randint(1, 14))] for _ in range(24)]
        self.prompts = [prompt if i % 4 == 3 else beginnings[i % 4] + prompt for i, prompt in enumerate(own)]
        self.whole = [self._generate(library.model, prompt) for prompt in self.prompts]
        self.eos_id = Counter(token for answer in self.whole for token in answer).most_common(1)[0][0]

    def _generate(self, model: Any, prompt: list[int]) -> list[int]:  # noqa: ANN401
        ids = torch.tensor([prompt], dtype=torch.int64, device=model.device)
        mask = torch.ones_like(ids)
        result = model.generate(
            ids, attention_mask=mask, max_new_tokens=LONGEST_ANSWER, do_sample=False, eos_token_id=None
        )
        answer: list[int] = result[0, len(prompt) :].tolist()
        return answer

    def stop_string(self, number: int, rng: random.Random) -> str:
        """A letter or sign of this answer; "" if the one drawn is no complete character by itself."""
        text = str(self.tokenizer.decode([rng.choice(self.whole[number])], skip_special_tokens=True))
        return text if text.isascii() else ""

    def right(self, number: int, params: Any) -> list[int]:  # noqa: ANN401 (SamplingParams)
        """The tokens that this prompt gets, up to its own end."""
        answer = self.whole[number][: params.max_tokens]
        for end in range(1, len(answer) + 1):
            text = str(self.tokenizer.decode(answer[:end], skip_special_tokens=True)) if params.stop else ""
            if any(stop in text for stop in params.stop):
                return answer[:end]
            if answer[end - 1] == self.eos_id and not params.ignore_eos:
                return answer[:end]
        return answer
