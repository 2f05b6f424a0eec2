"""A packer over seats, without an engine."""

import torch

from ch03_streams import BufferSizes
from ch07_carry_over import carry_padding
from ch08_full_engine.packed_buffers import num_bytes, views
from ch09_persistent_batch import ArrayPacker, Seats
from tests.ch09_persistent_batch.seated import BLOCK_SIZE


def sizes(rows: int) -> BufferSizes:
    return BufferSizes(tokens=4 * rows, rows=rows, width=16, trash_block=64, block_size=BLOCK_SIZE)


class Buffers:
    """What a packer has to know of its IO buffers: padding, and where each input lies in one piece of memory."""

    def __init__(self, rows: int) -> None:
        separate = carry_padding(sizes(rows))
        self.padding_buffer = torch.zeros(num_bytes(separate), dtype=torch.uint8)
        self.padding = views(self.padding_buffer, separate)
        for name, values in separate.items():
            self.padding[name].copy_(values)


def packer_for(seats: Seats, rows: int = 8) -> ArrayPacker:
    """With room for so many rows, and for four times as many tokens."""
    return ArrayPacker(seats, BLOCK_SIZE, Buffers(rows))  # type: ignore[arg-type]
