"""Chapter 4, events: the executor on three streams says what must come first. Right again, and no faster.

Read in this order: event_executor, build; then tryout and repairs, the small programs to repair.
"""

from ch04_events.event_executor import EventExecutor

__all__ = ["EventExecutor"]
