"""Short contexts, short tables: graphs with a narrow block table for batches in which every context is short.

A graph reads as many columns of the block table as were captured, however short the contexts are. So each bucket of
rows is captured at two widths, and a batch takes the narrower one that holds it.

A true story: vLLM filed the graph of a step cut into three or more parts under the size of the first two, and asked for
it under the size of all.
https://github.com/vllm-project/vllm/issues/43145
"""

from dataclasses import replace
from functools import partial

from torch import Tensor

from ch06_graphs import GraphForward, bucket_for, bucket_sizes, decode_step, graph_key
from ch08_full_engine.museum.build import graph_engine
from toolkit.forward import Sizes, Tensors


class TwoWidths(GraphForward):
    """Chapter 6's forward, with graphs of two widths.

    Attributes:
        widths: the captured numbers of columns, in rising order.
    """

    def capture_all(self, inputs: Tensors, output: Tensor, full: Sizes) -> None:
        self.buckets = bucket_sizes(full.rows)
        self.widths = [-(-full.width // 16), full.width]
        for rows in reversed(self.buckets):
            for width in reversed(self.widths):
                sizes = replace(decode_step(full, rows, greedy=True), width=width)
                self.graphs[self.key(output, sizes)] = self.capture(inputs, output, sizes)

    def launch(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
        if not (sizes.is_decode and sizes.greedy):
            self.step(inputs, output, sizes)
            return
        rows, width = bucket_for(sizes.rows, self.buckets), bucket_for(sizes.width, self.widths)
        self.graphs[self.key(output, replace(sizes, rows=rows, width=width))].replay()

    def key(self, output: Tensor, sizes: Sizes) -> tuple[int | bool, ...]:
        """What tells the graphs apart."""
        # BEGIN SOLUTION 8.13
        # BUG return graph_key(output, sizes)
        return (*graph_key(output, sizes), sizes.width)
        # END SOLUTION


build = partial(graph_engine, forward=TwoWidths)
