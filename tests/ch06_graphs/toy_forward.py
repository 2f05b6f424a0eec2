"""A forward of a few operations, whose sampled ids say which capture computed them; and a box around it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from toolkit.device import DEVICE, accelerator, is_simulated, new_stream
from toolkit.sealed_forward import Sizes, Tensors

ROWS = 4
FULL = Sizes(ROWS, ROWS, ROWS, width=2, num_decode_rows=ROWS, max_query_length=1, greedy=True)
TEMPORARY = 100_000  # float32 numbers per row that the forward needs on its way: what the pool is for


class Toy:
    """A box over two slots' tensors.

    Attributes:
        box: a GraphForward, not sealed yet.
        calls: (sizes, whether a graph was being captured, the current stream) for each call of the forward.
        inputs, outputs: of each slot. In `inputs` each slot has one tensor, `input_ids`.
        compute: the stream for launches.
    """

    def __init__(self, on_race: str = "raise", temporary: int = 8) -> None:
        from ch06_graphs import GraphForward

        if is_simulated():
            accelerator.reset("lazy", on_race=on_race)
        self.calls: list[tuple[Sizes, bool, Any]] = []
        self.temporary = temporary
        self.inputs = [{"input_ids": torch.arange(ROWS, device=DEVICE) + 10 * slot} for slot in range(2)]
        self.outputs = [torch.zeros(ROWS, dtype=torch.int64, device=DEVICE) for _ in range(2)]
        self.storage = torch.zeros(ROWS, device=DEVICE)
        self.box = GraphForward(self.forward, self.storage)
        self.compute = new_stream("compute")

    def forward(self, inputs: Tensors, storage: Tensor, sizes: Sizes) -> Tensor:
        """1000 * input + 10 * rows of the shape that computes it + 1 if sampled: (samples,) int64."""
        self.calls.append((sizes, accelerator.is_current_stream_capturing(), accelerator.current_stream()))
        ids = inputs["input_ids"][: sizes.samples]
        large = torch.ones(sizes.rows, self.temporary, device=DEVICE)
        rows = (large + large).mean(dim=1).long() * 0 + sizes.rows  # a use for the temporaries
        return ids * 1000 + rows[: sizes.samples] * 10 + (not sizes.greedy)

    def seal(self) -> "Toy":
        for inputs, output in zip(self.inputs, self.outputs, strict=True):
            self.box.seal(inputs, output, FULL)
        accelerator.synchronize()
        self.calls.clear()
        return self

    def launch(self, slot: int, rows: int, greedy: bool = True) -> None:
        """Queue a decode step of `rows` rows in a slot; its block table is narrower than the slot's."""
        from ch06_graphs import decode_step

        sizes = replace(decode_step(FULL, rows, greedy), width=1)
        try:
            with accelerator.stream(self.compute):
                self.box.launch(self.inputs[slot], self.outputs[slot], sizes)
        except KeyError as missing:
            pytest.fail(
                f"a decode step of {rows} rows asked for the graph {missing}, which was not captured; there are "
                f"{list(self.box.graphs)}. The key of a batch is that of its bucket: slot, rows of the bucket, greedy, "
                "and nothing that differs from batch to batch"
            )

    def ids(self, slot: int, rows: int, greedy: bool = True) -> list[int]:
        """Launch a step and wait for what it samples."""
        self.launch(slot, rows, greedy)
        accelerator.synchronize()
        return self.outputs[slot][:rows].tolist()


def expected_ids(slot: int, rows: int, captured_rows: int, greedy: bool = True) -> list[int]:
    """What the toy forward samples in a slot that holds its first inputs."""
    return [1000 * (row + 10 * slot) + 10 * captured_rows + (not greedy) for row in range(rows)]
