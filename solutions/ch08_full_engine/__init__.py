"""Chapter 8, the full engine: everything together, and what a service needs.

Read in this order: prefix_blocks, culprit, managed_engine, text_stream, metrics, packed_slot, step_graphs,
full_engine, gate, engine_thread, server.
"""

from ch08_full_engine.culprit import CulpritSearch
from ch08_full_engine.engine_thread import EngineThread
from ch08_full_engine.full_engine import FullEngine
from ch08_full_engine.gate import Gate
from ch08_full_engine.managed_engine import ManagedEngine, StreamedOutput
from ch08_full_engine.metrics import Metrics
from ch08_full_engine.packed_slot import PackedSlot
from ch08_full_engine.prefix_blocks import PrefixBlockManager, PrefixScheduler
from ch08_full_engine.server import Server
from ch08_full_engine.step_graphs import MixedSlot, StepGraphs
from ch08_full_engine.text_stream import TextStream, held_back

__all__ = [
    "CulpritSearch",
    "EngineThread",
    "FullEngine",
    "Gate",
    "ManagedEngine",
    "Metrics",
    "MixedSlot",
    "PackedSlot",
    "PrefixBlockManager",
    "PrefixScheduler",
    "Server",
    "StepGraphs",
    "StreamedOutput",
    "TextStream",
    "held_back",
]
