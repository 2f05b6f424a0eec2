"""Chapter 8, the full engine: everything together, and what a service needs.

Read in this order: prefix_blocks, text_stream, streamed_texts, service_book, spans, metrics, packed_buffers,
step_graphs, culprit, build, full_engine, admission_gate, engine_thread, server.
"""

from ch08_full_engine.admission_gate import AdmissionGate
from ch08_full_engine.culprit import CulpritSearch
from ch08_full_engine.engine_thread import EngineThread
from ch08_full_engine.full_engine import FullEngine
from ch08_full_engine.metrics import Metrics
from ch08_full_engine.packed_buffers import PackedBuffers
from ch08_full_engine.prefix_blocks import PrefixBlockManager, PrefixScheduler
from ch08_full_engine.server import Server
from ch08_full_engine.service_book import ServiceBook
from ch08_full_engine.step_graphs import StepGraphs
from ch08_full_engine.streamed_texts import StreamedTexts
from ch08_full_engine.text_stream import TextStream, held_back

__all__ = [
    "AdmissionGate",
    "CulpritSearch",
    "EngineThread",
    "FullEngine",
    "Metrics",
    "PackedBuffers",
    "PrefixBlockManager",
    "PrefixScheduler",
    "Server",
    "ServiceBook",
    "StepGraphs",
    "StreamedTexts",
    "TextStream",
    "held_back",
]
