"""At how many rows the host becomes the bottleneck, worked out from two straight lines.

The host's work for a step and the forward both grow with the rows, from a start that does not. `toolkit.in_flight` runs
such steps on a virtual clock, to compare with.
"""

from dataclasses import dataclass
from math import floor


@dataclass(frozen=True)
class Lines:
    """What a step costs with n rows, in milliseconds: the host `host_ms + host_row_ms * n`, the forward alike.

    Copies, launches and waits cost nothing.
    """

    host_ms: float
    host_row_ms: float
    forward_ms: float
    forward_row_ms: float

    def host(self, rows: int) -> float:
        """The host's work for a step, in ms."""
        return self.host_ms + self.host_row_ms * rows

    def forward(self, rows: int) -> float:
        """The time of a forward, in ms."""
        return self.forward_ms + self.forward_row_ms * rows


def synchronous_ms(lines: Lines, rows: int) -> float:
    """How long a step takes, in ms, if the host waits for each forward before it goes on."""
    # BEGIN SOLUTION 9.8
    return lines.host(rows) + lines.forward(rows)
    # END SOLUTION


def asynchronous_ms(lines: Lines, rows: int) -> float:
    """How long a step takes, in ms, with two batches in flight, each of all rows (chapters 7 to 9)."""
    # BEGIN SOLUTION 9.8
    return max(lines.host(rows), lines.forward(rows))
    # END SOLUTION


def rows_to_cross(lines: Lines) -> int | None:
    """The fewest rows, at least 1, with which the host's work takes longer than the forward.

    Returns:
        None if it takes longer with no number of rows.
    """
    # BEGIN SOLUTION 9.8
    if lines.host(1) > lines.forward(1):
        return 1
    if lines.host_row_ms <= lines.forward_row_ms:
        return None
    return floor((lines.forward_ms - lines.host_ms) / (lines.host_row_ms - lines.forward_row_ms)) + 1
    # END SOLUTION
