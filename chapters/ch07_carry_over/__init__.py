"""Chapter 7, carry-over: tokens go from one batch into the next on the device. All requests in every batch, no gap.

Read in this order: carry, async_engine.
"""

from ch07_carry_over.async_engine import AsyncEngine, CarryScheduler
from ch07_carry_over.carry import KEEP, apply_carry, carry_index

__all__ = ["KEEP", "AsyncEngine", "CarryScheduler", "apply_carry", "carry_index"]
