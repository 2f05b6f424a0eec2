"""The settings of transformers' continuous batching: the quickest that its code offers, read in releases 5.17 and 5.23.

- The best attention kernel to be had (`flash_for_transformers`), and CUDA graphs wherever it needs no mask.
- Padded sizes. A graph is captured for every pair of padded query tokens and padded cached tokens, at its first use.
  Small intervals compute less padding, large ones capture less. Equal requests get small ones: their sizes repeat from
  run to run. A ragged load meets ever new sizes, and capturing is what would cost most: the library's own ones.
- Memory for every request, so that it never has to preempt, and no prefix cache: the prompts have nothing in common.
- Steps of as many rows and as many tokens as ours.
"""

from inspect import signature
from typing import Any

from transformers.generation.configuration_utils import CompileConfig, ContinuousBatchingConfig

from toolkit.commands.bench.cases import Case
from toolkit.commands.bench.engine_runner import EngineSpec
from toolkit.commands.bench.flash_for_transformers import Attention

PAGE = 256  # tokens; what its kernels with a block table need
KV_INTERVAL = {"equal": 4096, "article": 32768}  # padding of the cached tokens; ragged: the library's own


def settings(case: Case, who: EngineSpec, attention: Attention) -> ContinuousBatchingConfig:
    """The configuration for a case. Names differ a little between releases."""
    blocks_each = 2 + case.longest // PAGE
    page = "page_size" if "page_size" in signature(ContinuousBatchingConfig).parameters else "block_size"
    limits: dict[str, Any] = {
        page: PAGE,
        "num_blocks": case.rows * blocks_each,
        "max_batch_tokens": case.token_budget,
        "max_requests_per_batch": case.rows,
        "max_blocks_per_request": blocks_each + blocks_each % 2 if attention.decode_path else 0,
        "allow_block_sharing": False,
        "safety_margin": 0.0,
        "use_async_batching": who.asynchronous,
    }
    if attention.graphs:
        limits["use_cuda_graph"] = True
    if attention.graphs and case.workload in KV_INTERVAL:
        limits["q_padding_interval_size"] = case.rows
        limits["kv_padding_interval_size"] = KV_INTERVAL[case.workload]
    if who.compiled:
        # Its `default_compile_level` leaves out the path that packed FlashAttention takes, so that is named here.
        compiling = CompileConfig(mode="default", fullgraph=False, dynamic=True)
        limits["varlen_compile_config"] = compiling
        limits["decode_compile_config"] = compiling if attention.decode_path else None
    return ContinuousBatchingConfig(**limits)
