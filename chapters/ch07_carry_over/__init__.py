"""Chapter 7, carry-over: tokens go from one batch into the next on the device. All requests in every batch, no gap.

Read in this order: carry, carry_scheduler, carry_packer, build.
"""

from ch07_carry_over.carry import KEEP, CarryInputs, apply_carry, carry_index
from ch07_carry_over.carry_packer import CarryPacker, carry_padding, carry_step, link
from ch07_carry_over.carry_scheduler import CarryScheduler

__all__ = [
    "KEEP",
    "CarryInputs",
    "CarryPacker",
    "CarryScheduler",
    "apply_carry",
    "carry_index",
    "carry_padding",
    "carry_step",
    "link",
]
