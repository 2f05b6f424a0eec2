"""vLLM behind the bench's interface: its offline engine, `LLM.generate`, in a process of its own.

It is no requirement of this repository: if you have it, name the Python that it runs with. It gets the shape's
config.json and makes up its weights, so its tokens say nothing, and are not compared. Kernels, CUDA graphs,
compiling and the tokens of a step are left to its own defaults. What is set: as many rows as the case has, a KV cache
that holds them all, so that nothing is ever preempted and other engines fit on the same GPU, no prefix cache (the
prompts have nothing in common, but each run has the same ones), and asynchronous scheduling on or off.

An engine takes half a minute and more to start, so one serves every case that fits into it.
"""

import json
import re
from dataclasses import replace
from typing import Any

import torch

from toolkit.commands.bench.activity import share_of_trace
from toolkit.commands.bench.cases import Case
from toolkit.commands.bench.engine_runner import EngineSpec, NotHere
from toolkit.commands.bench.floor import cache_bytes_per_token, skeleton, weight_bytes
from toolkit.commands.bench.measured import Activity, Run
from toolkit.commands.bench.vllm_process import VllmError, VllmProcess, VllmPython
from toolkit.garbage import release_memory
from toolkit.models.shapes import SHAPES

START_SECONDS, RUN_SECONDS = 300.0, 600.0
WARM_UP_TOKENS = 128
SETTLE_STEPS, PROFILED_STEPS, WATCHED_TOKENS = 16, 48, 192
SHORTEST_LIMIT = 2048  # tokens of a request: all cases but the article's, so that compiled code is found again
SPARE_TOKENS = 16  # of each row's cache, a block: it plans a step ahead
WORKSPACE = 3 * 2**30  # bytes beside weights and cache, about: CUDA's context, activations, graphs

CONFIG_KEYS = (  # of a shape, and called the same in every release of transformers
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "hidden_act",
    "rms_norm_eps",
    "attention_bias",
    "mlp_bias",
    "bos_token_id",
    "eos_token_id",
)


def vllm_config(name: str) -> dict[str, Any]:
    """A named shape as the config.json that vLLM reads."""
    config = SHAPES[name].to_dict()
    return {key: config[key] for key in CONFIG_KEYS if key in config} | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "rope_theta": config["rope_parameters"]["rope_theta"],
    }


class VllmEngine:
    """See `EngineRunner`."""

    def __init__(self, who: EngineSpec, vllm: VllmPython) -> None:
        self.who, self.vllm = who, vllm
        self.attention = ""
        self.details: dict[str, str] = {}
        self.process: VllmProcess | None = None
        self.rows = self.longest = self.tokens = 0  # of a batch, of a request, in the cache

    def prepare(self, case: Case) -> None:
        """Start an engine if none is there that the case fits into, and let it run for a moment."""
        fits = case.longest <= self.longest and case.rows * (case.longest + SPARE_TOKENS) <= self.tokens
        if self.process is None or case.rows > self.rows or not fits:
            self.close()
            try:
                self.start(case)
            except VllmError as error:
                if self.vllm.required:
                    raise
                raise NotHere(str(error)) from None
        self.run(replace(case, new_tokens=min(WARM_UP_TOKENS, case.new_tokens)))

    def start(self, case: Case) -> None:
        """Start an engine for a case. Raises VllmError, also if the other engines have left too little memory."""
        self.rows, self.longest = case.rows, max(case.longest, SHORTEST_LIMIT)
        self.tokens = max(case.rows * (case.longest + SPARE_TOKENS), self.longest)
        model = skeleton(case.model)
        cache = self.tokens * cache_bytes_per_token(model)
        arguments = {
            "load_format": "dummy",
            "skip_tokenizer_init": True,
            "dtype": "bfloat16",
            "seed": 0,
            "max_num_seqs": self.rows,
            "max_model_len": self.longest,
            "kv_cache_memory_bytes": cache,
            "gpu_memory_utilization": self.share(weight_bytes(model) + cache),
            "enable_prefix_caching": False,
            "disable_log_stats": True,
            "async_scheduling": self.who.asynchronous,
        }
        self.process = VllmProcess(self.vllm.path, self.vllm.folder / f"{self.who}-{case.model}.log")
        made = self.process.ask(
            "start",
            START_SECONDS,
            folder=str(self.vllm.folder / case.model),
            config=vllm_config(case.model),
            processes=self.who.processes,
            cache_tokens=case.rows * case.longest,
            arguments=arguments,
        )
        self.details = {"version": made["version"], "options": made["options"]}
        self.attention = attention_in(self.process.log.read_text(encoding="utf-8", errors="replace"))

    def share(self, held: int) -> float:
        """The bytes of weights and cache as a share of the GPU's memory. Raises VllmError if too little is free.

        vLLM takes this share for a limit that it checks at its start; the cache's size it is told in bytes.
        """
        if not torch.cuda.is_available():
            return 0.5  # there is none to be shared, as the process will say
        release_memory()  # what the other engines keep in reserve
        free, total = torch.cuda.mem_get_info()
        if held + WORKSPACE > free:
            raise VllmError(
                f"it needs {(held + WORKSPACE) / 2**30:.0f} GiB of the GPU's memory and {free / 2**30:.0f} are free; "
                "name fewer engines or rows"
            )
        return round(held / total, 4)

    def ask(self, do: str, case: Case, **arguments: object) -> dict[str, Any]:
        assert self.process is not None, "prepare first"
        prompts = [item.prompt_ids for item in case.items]
        return self.process.ask(do, RUN_SECONDS, prompts=prompts, new_tokens=case.new_tokens, **arguments)

    def run(self, case: Case) -> Run:
        """See vllm_child.py for where the moments are taken; they count from the call of `generate`."""
        made = self.ask("run", case)
        return Run(made["outputs"], made["stamps"], [0.0] * len(case.items), made["steps"])

    def activity(self, case: Case) -> Activity:
        """All rows decode, and the profiler of vLLM's process looks at some steps. Its forwards have no markers."""
        trace = self.vllm.folder / "trace.json"
        short = replace(case, new_tokens=min(WATCHED_TOKENS, case.new_tokens))
        self.ask("watch", short, settle=SETTLE_STEPS, steps=PROFILED_STEPS, trace=str(trace))
        share = share_of_trace(json.loads(trace.read_text(encoding="utf-8"))["traceEvents"])
        trace.unlink()
        return Activity(kernel_active=share)

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None


def attention_in(log: str) -> str:
    """The attention kernel that vLLM says it has chosen; the log is where it says so, in one process and in two."""
    backend = re.search(r"Using (\w+) attention backend", log)
    version = re.search(r"Using FlashAttention version (\d+)", log)
    name = backend[1] if backend else "vLLM's own choice"
    return name + (f", version {version[1]}" if version else "")
