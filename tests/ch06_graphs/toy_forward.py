"""A forward of a few operations, whose sampled ids say which capture computed them; and a GraphForward around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.words import counted
from toolkit.device import DEVICE, accelerator, is_simulated, new_stream
from toolkit.forward import Sizes, Tensors

ROWS = 4
FULL = Sizes(ROWS, ROWS, ROWS, width=2, num_decode_rows=ROWS, max_query_length=1, greedy=True)
TEMPORARY = 100_000  # float32 numbers per row that the forward needs on its way: what the pool is for


class Toy:
    """A GraphForward over the tensors of two sets of IO buffers.

    Attributes:
        tested: a GraphForward, with nothing captured yet.
        calls: (sizes, whether a graph was being captured, the current stream) for each call of the forward, since the
            captures of `capture_all`.
        captures: the sizes captured by `capture_all`.
        inputs, outputs: of each set of buffers. In `inputs` each has one tensor, `input_ids`.
        compute: the stream for launches.
    """

    def __init__(self, on_race: str = "raise", temporary: int = 8) -> None:
        from ch06_graphs import GraphForward

        if is_simulated():
            accelerator.reset("lazy", on_race=on_race)
        self.calls: list[tuple[Sizes, bool, Any]] = []
        self.captures: list[Sizes] = []
        self.temporary = temporary
        self.inputs = [{"input_ids": torch.arange(ROWS, device=DEVICE) + 10 * number} for number in range(2)]
        self.outputs = [torch.zeros(ROWS, dtype=torch.int64, device=DEVICE) for _ in range(2)]
        self.storage = torch.zeros(ROWS, device=DEVICE)
        self.tested = GraphForward(self.forward, self.storage)
        self.compute = new_stream("compute")

    def forward(self, inputs: Tensors, storage: Tensor, sizes: Sizes) -> Tensor:
        """1000 * input + 10 * rows of the shape that computes it + 1 if sampled: (samples,) int64."""
        self.calls.append((sizes, accelerator.is_current_stream_capturing(), accelerator.current_stream()))
        ids = inputs["input_ids"][: sizes.samples]
        large = torch.ones(sizes.rows, self.temporary, device=DEVICE)
        rows = (large + large).mean(dim=1).long() * 0 + sizes.rows  # a use for the temporaries
        return ids * 1000 + rows[: sizes.samples] * 10 + (not sizes.greedy)

    def capture_all(self) -> "Toy":
        for inputs, output in zip(self.inputs, self.outputs, strict=True):
            self.tested.capture_all(inputs, output, FULL)
        accelerator.synchronize()
        self.captures = [sizes for sizes, capturing, _ in self.calls if capturing]
        self.calls.clear()
        return self

    def launch(self, number: int, rows: int, greedy: bool = True, samples: int | None = None) -> None:
        """Queue a decode step of `rows` rows in a set of IO buffers, of which `samples` sample (None: all).

        Its block table is narrower than theirs.
        """
        from ch06_graphs import decode_step

        samples = rows if samples is None else samples
        sizes = replace(decode_step(FULL, rows, greedy), width=1, samples=samples)
        with graphs_are_found(self.tested), accelerator.stream(self.compute):
            self.tested.launch(self.inputs[number], self.outputs[number], sizes)

    def check_ids(self, number: int, rows: int, greedy: bool = True, samples: int | None = None) -> None:
        """Launch a step; if its ids are wrong, say which graph has computed them."""
        for output in self.outputs:
            output.fill_(UNTOUCHED)
        accelerator.synchronize()
        self.launch(number, rows, greedy, samples)
        accelerator.synchronize()
        seen, other = (self.outputs[each][: samples or rows].tolist() for each in (number, 1 - number))
        bucket = next(size for size in (1, 2, 4) if size >= rows)
        right = expected_ids(number, samples or rows, bucket, greedy)
        assert seen == right, (
            f"set {number} of IO buffers, {counted(rows, 'row')} in the bucket of {bucket}, greedy={greedy}: the ids "
            f"should be {right}, seen {seen}. {self.cause(number, seen, other, bucket, greedy)}"
        )

    def cause(self, number: int, seen: list[int], other: list[int], bucket: int, greedy: bool) -> str:
        """What the ids say of the graph that computed them."""
        if seen == [UNTOUCHED] * len(seen):
            if other == seen:
                return f"They are what stood there before ({UNTOUCHED} everywhere): nothing ran"
            return (
                f"The graph that ran is bound to the other set's tensors: set {1 - number}'s ids were written. The "
                "address of the output belongs in the key"
            )
        by = "self.step" if self.calls else "a graph captured"
        written = [each for each in seen if each != UNTOUCHED]
        for rows in range(1, ROWS + 1):
            if written == expected_ids(number, len(written), rows, greedy):
                return (
                    f"They were computed by {by} for {counted(rows, 'row')}; the smallest bucket with room is {bucket}"
                )
            if written == expected_ids(number, len(written), rows, not greedy):
                return (
                    f"They were computed by {by} for {counted(rows, 'row')} and greedy={not greedy}. Greedy or "
                    "sampled is part of the key: it decides what is computed"
                )
        return "No capture of this step gives these: does a graph read what another one leaves in the pool?"


UNTOUCHED = -1


@contextmanager
def graphs_are_found(forward: Any, parts: str = "buffers, rows of the bucket, greedy") -> Iterator[None]:
    """Inside, a graph that is not found becomes a failure that says how its key differs from those there are.

    Args:
        parts: what a key is made of.
    """
    try:
        yield
    except KeyError as missing:
        key = missing.args[0]
        if isinstance(key, str):  # no key of a graph: a tensor's name, perhaps
            raise
        mine, others = named_parts(key), [named_parts(other) for other in forward.graphs]
        alike = max(others, key=lambda other: sum(a == b for a, b in zip(mine, other, strict=False)), default=[])
        differences = [f"{a} where that one has {b}" for a, b in zip(mine, alike, strict=False) if a != b]
        how = f"compared with the key most like its own, {', '.join(differences)}"
        if len(mine) != len(alike) or not differences:
            how = f"it looked for {str(key)[:120]}"
        pytest.fail(
            f"a decode step looked up a graph that is not there. There are {len(forward.graphs)}; {how}. The key of a "
            f"batch is that of its bucket: {parts}, and nothing that differs from batch to batch"
        )


def named_parts(key: Any) -> list[Any]:
    """What a key is made of; the fields of sizes in it become texts such as "rows=4"."""
    parts: list[Any] = []
    for part in key if isinstance(key, tuple) else (key,):
        parts += [f"{name}={value}" for name, value in vars(part).items()] if isinstance(part, Sizes) else [part]
    return parts


def expected_ids(number: int, rows: int, captured_rows: int, greedy: bool = True) -> list[int]:
    """What the toy forward samples in a set of buffers that holds its first inputs."""
    return [1000 * (row + 10 * number) + 10 * captured_rows + (not greedy) for row in range(rows)]
