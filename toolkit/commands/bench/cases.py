"""What is asked of every engine: the same prompts, the same lengths, the same arrivals.

equal     all requests of one length, all there from the start; end-of-sequence tokens are ignored
ragged    lengths between 32 and 512, arriving over some seconds; a token whose number says so ends its sequence
mixed     three times as many requests as rows, all there from the start and of different lengths: the batch is full,
          and requests end and join all the time. What that costs the host is what it is measured for
article   the workload of the published measurement: 32 requests with 8,192 new tokens each
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from toolkit.workloads import WorkloadItem, fixed, ragged

WORKLOADS = ("equal", "ragged", "mixed", "article")
ROWS = 32  # requests in a batch, at most, where nothing else is asked for; of the equal workload all requests
TOKEN_BUDGET = 512  # tokens in a step, at most, for up to 128 rows; for more rows see `Case.token_budget`
PROMPT = 64
ARTICLE_TOKENS = 8192

RAGGED_REQUESTS = 64
RAGGED_LENGTHS = (32, 512)  # of prompts, and of outputs that no end-of-sequence token ends before
ARRIVALS_PER_SECOND = 16.0
EOS_ONE_IN = 512  # one token id in so many ends its sequence

MIXED_TOKENS = 256  # new tokens of the longest request; the shortest asks for a quarter, and so with their prompts

SMOKE_REQUESTS, SMOKE_TOKENS = 4, 12  # where there is no GPU: enough to see that everything runs


@dataclass(frozen=True)
class Case:
    """One workload for one model.

    Attributes:
        model: a name for `toolkit.models.load_model`.
        workload: one of WORKLOADS.
        new_tokens: of each request; where lengths differ the largest number.
        vocab_size: of the model; prompts are drawn from it.
        smoke: a small edition, where there is no GPU to be measured.
        batch: requests in a batch, at most; of the equal workload all requests.
    """

    model: str
    workload: str
    new_tokens: int
    vocab_size: int
    smoke: bool = False
    batch: int = ROWS

    @property
    def rows(self) -> int:
        """Requests in a batch, at most."""
        return SMOKE_REQUESTS if self.smoke else self.batch

    @property
    def token_budget(self) -> int:
        """Tokens in a step, at most: prompts are prefilled in chunks, beside a token of each row that decodes."""
        return max(TOKEN_BUDGET, 4 * self.rows)

    @property
    def lengths_differ(self) -> bool:
        return self.workload in ("ragged", "mixed")

    @cached_property
    def items(self) -> list[WorkloadItem]:
        """The requests in order of arrival."""
        if self.workload == "mixed":
            prompts, outputs = ((longest // 4, longest) for longest in (PROMPT, self.new_tokens))
            return ragged(3 * self.rows, prompts, outputs, vocab_size=self.vocab_size)
        if self.workload != "ragged":
            return fixed(self.rows, PROMPT, self.new_tokens, vocab_size=self.vocab_size)
        lengths = (4, self.new_tokens) if self.smoke else RAGGED_LENGTHS
        count = 2 * self.rows if self.smoke else RAGGED_REQUESTS
        return ragged(count, lengths, lengths, vocab_size=self.vocab_size)

    @cached_property
    def arrivals(self) -> list[float]:
        """Seconds from the start at which each request arrives; the same on every machine."""
        if self.workload != "ragged":
            return [0.0] * len(self.items)
        return poisson_arrivals(len(self.items), 200.0 if self.smoke else ARRIVALS_PER_SECOND)

    @property
    def eos_ids(self) -> set[int]:
        """The tokens that end a sequence; none but in the ragged workload."""
        return set(range(0, self.vocab_size, EOS_ONE_IN)) if self.workload == "ragged" else set()

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and output together."""
        return max(len(item.prompt_ids) + item.max_tokens for item in self.items)

    def __str__(self) -> str:
        return f"{self.model}, {self.workload}, {self.rows} rows, {self.new_tokens} new tokens"


def poisson_arrivals(count: int, per_second: float, *, seed: int = 0) -> list[float]:
    """The times, in seconds and in rising order, of `count` independent arrivals; the first at 0."""
    rng = random.Random(seed)
    times = [0.0]
    while len(times) < count:
        times.append(times[-1] + rng.expovariate(per_second))
    return times


def make_cases(
    models: Sequence[str],
    workloads: Sequence[str],
    new_tokens: Sequence[int],
    vocab_sizes: dict[str, int],
    rows: Sequence[int] = (ROWS,),
) -> list[Case]:
    """The cases in the order in which they are run.

    For one model the most rows and then the longest come first: what is built or captured on the way is there for the
    smaller ones. The ragged workload and the article's are run with the first model and the usual rows only.
    """
    loads = [("equal", tokens) for tokens in sorted(new_tokens, reverse=True)] + [("mixed", MIXED_TOKENS)]
    cases = []
    for model in models:
        sizes = product(sorted(rows, reverse=True), loads)
        cases += [
            Case(model, workload, tokens, vocab_sizes[model], batch=batch)
            for batch, (workload, tokens) in sizes
            if workload in workloads
        ]
        if "ragged" in workloads and model == models[0]:
            cases.append(Case(model, "ragged", RAGGED_LENGTHS[1], vocab_sizes[model]))
    if "article" in workloads:
        cases.append(Case(models[0], "article", ARTICLE_TOKENS, vocab_sizes[models[0]]))
    return cases
