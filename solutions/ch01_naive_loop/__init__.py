"""Chapter 1, the naive synchronous loop: one padded batch at a time, all wait for the slowest."""

from ch01_naive_loop.naive_engine import NaiveEngine
from ch01_naive_loop.padding import pad_left, position_ids

__all__ = ["NaiveEngine", "pad_left", "position_ids"]
