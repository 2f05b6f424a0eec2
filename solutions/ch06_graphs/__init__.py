"""Chapter 6, graphs and memory pools: the forward opened. One launch a step, two sets of graphs in the memory of one.

Read in this order: buckets, graph_forward, build; loans is about memory outside the graphs' pool.
"""

from ch06_graphs.buckets import bucket_for, bucket_sizes, decode_step
from ch06_graphs.graph_forward import GraphForward, graph_key, on_accelerator
from ch06_graphs.loans import Loans

__all__ = ["GraphForward", "Loans", "bucket_for", "bucket_sizes", "decode_step", "graph_key", "on_accelerator"]
