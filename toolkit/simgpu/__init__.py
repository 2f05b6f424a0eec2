"""draft"""
from toolkit.simgpu.backend import register
register()
from toolkit.simgpu.boxes import launch, plain_module, sleep
from toolkit.simgpu.clock import Costs, Span
from toolkit.simgpu.control import *
from toolkit.simgpu.errors import CaptureError, DeviceError, Race, RaceError
from toolkit.simgpu.events import Event
from toolkit.simgpu.graphs import CUDAGraph, graph, graph_pool_handle, is_current_stream_capturing
from toolkit.simgpu.streams import Stream, StreamContext, current_stream, default_stream, set_stream, stream, synchronize
