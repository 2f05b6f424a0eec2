"""Temporaries that another stream still reads: kept alive until it is done with them.

The caching allocator goes by what the *host* does. When the last reference to a tensor is gone, its memory may go to
the next tensor of the same stream, although the device may be far from done with it. On one stream the order of the
queue makes that harmless. A reader on another stream is unknown to the allocator, unless `tensor.record_stream(reader)`
names it. This class keeps the tensor instead, as PyTorch's own collectives have done since 2025
(https://github.com/pytorch/pytorch/pull/148590).

The engine has no such temporaries: what its copies read is allocated once, in the IO buffers.
"""

from typing import Any

from torch import Tensor

from toolkit.device import accelerator


class Loans:
    """Tensors that are lent to streams other than their own. Nothing here makes the host wait.

    Attributes:
        lent: what is kept, in a form of your choice.
    """

    def __init__(self) -> None:
        self.lent: list[Any] = []

    def lend(self, tensor: Tensor, reader: Any) -> None:  # noqa: ANN401 (a stream of either accelerator)
        """Keep `tensor` until `reader` has done all that it has been given so far; call it behind the last use there.

        Work that is given to `reader` later does not prolong the loan.
        """
        # BEGIN SOLUTION 6.5
        done = accelerator.Event()
        done.record(reader)
        self.lent.append((done, tensor))
        # END SOLUTION

    def settle(self) -> None:
        """Let go of every tensor whose reader is done with it, in whatever order the readers get done; keep the others.

        Call it now and then, for instance once a step: it asks the device and never waits for it.
        """
        # BEGIN SOLUTION 6.5
        self.lent = [(done, tensor) for done, tensor in self.lent if not done.query()]
        # END SOLUTION
