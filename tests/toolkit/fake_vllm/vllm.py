"""Stands in for vLLM where there is none: as much of it as vllm_child.py uses, without a model.

A request's tokens are its prompt's last id and the numbers after it. Requests get their first token one after the
other, as if prompts were computed one a step. FAKE_VLLM, in the environment, says what goes wrong.
"""

import itertools
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

TROUBLE = os.environ.get("FAKE_VLLM", "")


class SamplingParams:
    def __init__(self, temperature, max_tokens, ignore_eos, detokenize):
        assert (temperature, ignore_eos, detokenize) == (0.0, True, False)
        self.max_tokens = max_tokens


class Core:
    """The client of the engine core: `get_output` is a step."""

    def __init__(self):
        self.requests, self.steps = {}, 0

    def shutdown(self):
        print("shut down", flush=True)

    def get_output(self):
        self.steps += 1
        if TROUBLE == "dies" and self.steps == 3:
            print(
                "Traceback (most recent call last):\n\nCUDA error: an illegal memory access",
                file=sys.stderr,
                flush=True,
            )
            os._exit(3)
        if TROUBLE == "hangs":
            time.sleep(60)
        if self.steps % 4 == 0:
            return SimpleNamespace(outputs=[])  # asynchronous: nothing has come yet
        time.sleep(0.001)
        brought = []
        for name, request in list(self.requests.items())[: self.steps]:
            token = request["first"] + request["made"]
            request["made"] += 1
            brought.append(SimpleNamespace(request_id=name, new_token_ids=[token]))
            if request["made"] == request["limit"]:
                del self.requests[name]
        return SimpleNamespace(outputs=brought[::-1])


class LLM:
    def __init__(self, model, **arguments):
        assert (Path(model) / "config.json").is_file()
        if TROUBLE == "refuses":
            raise ValueError("No available memory for the cache blocks.\nTry increasing gpu_memory_utilization.")
        print("INFO Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN', 'TRITON_ATTN'].")
        print("INFO Using FlashAttention version 3", flush=True)
        processes = 1 + int(os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"])
        blocks = arguments["kv_cache_memory_bytes"] // (16 * 512)  # a token of the tiny shape has 512 bytes
        config = SimpleNamespace(
            cache_config=SimpleNamespace(num_gpu_blocks=1 if TROUBLE == "small cache" else blocks, block_size=16),
            scheduler_config=SimpleNamespace(
                async_scheduling=arguments["async_scheduling"] and TROUBLE != "overrules",
                max_num_seqs=arguments["max_num_seqs"],
                max_num_batched_tokens=16384,
            ),
            compilation_config=SimpleNamespace(mode=3, cudagraph_mode=SimpleNamespace(name=f"FULL{processes}")),
            model_config=SimpleNamespace(max_model_len=arguments["max_model_len"]),
        )
        self.llm_engine = SimpleNamespace(engine_core=Core(), vllm_config=config)
        self.numbers = itertools.count()

    def generate(self, prompts, sampling, use_tqdm):
        core, asked = self.llm_engine.engine_core, []
        core.steps = 0
        for prompt in prompts:
            name, first = str(next(self.numbers)), prompt["prompt_token_ids"][-1]
            asked.append((name, first))
            core.requests[f"{name}-0a1b2c3d"] = {"first": first, "made": 0, "limit": sampling.max_tokens}
        if TROUBLE == "noise":
            print("vllm-child: {}\nno end of line", end="", flush=True)
            os.write(1, b"printed past Python\n")
        while core.requests:
            core.get_output()
        return [
            SimpleNamespace(
                request_id=name, outputs=[SimpleNamespace(token_ids=tuple(range(first, first + sampling.max_tokens)))]
            )
            for name, first in asked
        ]
