"""Chapter 5's engine with the box opened: every decode step is one launch of a graph.

Nothing else changes: three streams, three events, two slots, two half batches in turns. All replays and all eager
prefill steps go to the one compute stream (`run_forward` of chapter 3), which is one of the two reasons why the graphs
may share a pool.
"""

import copy

from torch import Tensor
from transformers import PreTrainedModel

from ch05_double_buffering import DoubleBufferedEngine
from ch06_graphs.graph_forward import GraphForward
from toolkit.device import DEVICE


class GraphEngine(DoubleBufferedEngine):
    """Two batches in flight, each in a slot of its own, each slot with its own graphs.

    Args as for `Engine`. A model in host memory is copied to the accelerator, the simulated one too: what is captured
    are the model's operations there.
    """

    def set_up_device(self, model: PreTrainedModel) -> None:
        if model.device.type != DEVICE:
            model = copy.deepcopy(model).to(DEVICE)  # type: ignore[arg-type] # as the library annotates it
        super().set_up_device(model)

    def make_box(self, storage: Tensor) -> GraphForward:
        return GraphForward(self.forward, storage)
