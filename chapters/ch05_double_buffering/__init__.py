"""Chapter 5, double buffering: two slots, so that the host prepares one batch while the device computes the other."""

from ch05_double_buffering.double_buffered_engine import DoubleBufferedEngine, HalfBatchScheduler

__all__ = ["DoubleBufferedEngine", "HalfBatchScheduler"]
