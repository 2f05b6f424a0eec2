"""Chapter 4, events: the engine on three streams says what must come first. Right again, and no faster."""

from ch04_events.event_engine import EventEngine, SlotEvents

__all__ = ["EventEngine", "SlotEvents"]
