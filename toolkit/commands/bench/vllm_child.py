"""vLLM's part of the comparison, in a process of its own: vLLM's interpreter runs this file as a script.

It imports nothing of this repository, since vLLM may live in another environment, with another Python and another
torch. Each line on stdin is a command in JSON, and is answered by one line on stdout that begins with MARK:

    start   build an engine                           -> version and options
    run     `LLM.generate` with all prompts at once   -> tokens, the moment of each, steps
    watch   the same, with some of its steps under the profiler, which writes a trace

When stdin ends, the caller is done or gone: the process ends, if need be in the middle of a run.

The moments. `generate` gives its outputs at the end, and to hand out each token as it comes would cost vLLM an object
for each. So `generate` runs as it is, and what is timed is `engine_core.get_output`, which it calls once a step: it
returns the new tokens of all requests, in one process by computing them, in two by waiting for the engine core's
message. The clock is read at its return, before the tokens are sorted into requests: in vLLM's favour, if at all.
"""

import gc
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

MARK = "vllm-child: "
END_SECONDS = 5.0  # for an orderly end
Message = dict[str, Any]


def private_stdout() -> Callable[[Message], None]:
    """Take stdout for the answers alone: what vLLM and its libraries print to it goes to stderr from now on."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(message: Message) -> None:
        channel.write(f"\n{MARK}{json.dumps(message)}\n")  # whatever was printed before may lack the end of its line
        channel.flush()

    return answer


def listen() -> "queue.Queue[Message | None]":
    """The commands, as a thread of its own reads them, and None at the end of stdin."""
    commands: queue.Queue[Message | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            commands.put(json.loads(line))
        commands.put(None)
        time.sleep(END_SECONDS)
        os.killpg(os.getpgrp(), signal.SIGKILL)  # this process leads a group, see vllm_process.py

    threading.Thread(target=read, daemon=True).start()
    return commands


class Child:
    """Holds the engine between commands."""

    llm: Any = None  # vLLM's LLM

    def start(self, folder: str, config: Message, processes: int, cache_tokens: int, arguments: Message) -> Message:
        """Build the engine, `LLM` with `arguments`.

        Args:
            folder: for the model's config.json; the same for each start, since vLLM finds compiled code by this name.
            config: what is written there. There are no weights; vLLM makes them up.
            processes: 1, or 2 for an engine core in a process of its own.
            cache_tokens: what the KV cache must have room for.
        """
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(processes - 1)
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # this process has threads
        for name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS"):
            os.environ.setdefault(name, "1")
        import torch

        if not torch.cuda.is_available():
            raise RuntimeError("it needs an NVIDIA GPU, and its torch sees none")
        from vllm import LLM

        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        self.llm = LLM(model=folder, **arguments)
        made = self.llm.llm_engine.vllm_config
        blocks, size = made.cache_config.num_gpu_blocks, made.cache_config.block_size
        if blocks and blocks * size < cache_tokens:  # it would preempt, and that is not what is compared
            raise RuntimeError(f"its KV cache has room for {blocks * size} tokens, and {cache_tokens} are needed")
        scheduler, compilation = made.scheduler_config, made.compilation_config
        if scheduler.async_scheduling != arguments["async_scheduling"]:
            raise RuntimeError(f"it overruled async_scheduling={arguments['async_scheduling']}")
        options = {
            "async_scheduling": scheduler.async_scheduling,
            "compilation": compilation.mode,
            "cuda_graphs": compilation.cudagraph_mode,
            "max_num_seqs": scheduler.max_num_seqs,
            "max_num_batched_tokens": scheduler.max_num_batched_tokens,
            "v2_runner": getattr(made, "use_v2_model_runner", None),
        }
        texts = (f"{name}={getattr(value, 'name', value)}" for name, value in options.items())
        return {"version": f"vllm {metadata.version('vllm')}, torch {torch.__version__}", "options": " ".join(texts)}

    def run(
        self, prompts: list[list[int]], new_tokens: int, each_step: Callable[[set[str]], None] = lambda begun: None
    ) -> Message:
        """Generate, greedily and to the full length; after each step tell `each_step` who has a token by then.

        Returns: `outputs`, each prompt's new tokens; `stamps`, their moments in seconds from the call; `steps`.
        """
        from vllm import SamplingParams

        sampling = SamplingParams(temperature=0.0, max_tokens=new_tokens, ignore_eos=True, detokenize=False)
        client = self.llm.llm_engine.engine_core
        plain, clock = client.get_output, time.perf_counter
        seen: list[tuple[float, Any]] = []
        begun: set[str] = set()

        def get_output() -> Any:  # noqa: ANN401 (vLLM's EngineCoreOutputs)
            brought = plain()
            seen.append((clock(), brought.outputs))
            if len(begun) < len(prompts):
                begun.update(output.request_id for output in brought.outputs)
            each_step(begun)
            return brought

        gc.collect()
        gc.freeze()  # as for the other engines: the collector looks at nothing older than the run
        client.get_output = get_output
        start = clock()
        try:
            results = self.llm.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
        finally:
            del client.get_output
        numbers = {result.request_id: number for number, result in enumerate(results)}
        stamps: list[list[float]] = [[] for _ in results]
        for moment, outputs in seen:
            for output in outputs:
                name = output.request_id  # the engine core's own: the request's, a hyphen and random letters
                number = numbers[name if name in numbers else name.rpartition("-")[0]]
                stamps[number] += [round(moment - start, 6)] * len(output.new_token_ids)
        return {
            "outputs": [list(result.outputs[0].token_ids) for result in results],
            "stamps": stamps,
            "steps": sum(bool(outputs) for _, outputs in seen),
        }

    def watch(self, prompts: list[list[int]], new_tokens: int, settle: int, steps: int, trace: str) -> Message:
        """Run; when all requests have decoded for `settle` steps, profile the next `steps` into the file `trace`."""
        import torch

        def profiler() -> Any:  # noqa: ANN401 (torch's, which may be any release)
            return torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])

        with profiler():  # its first use takes seconds
            torch.zeros(2**20, dtype=torch.float32, device="cuda").add_(1)
        watching, decoding = profiler(), 0

        def look(begun: set[str]) -> None:
            nonlocal decoding
            decoding += len(begun) == len(prompts)
            if decoding == settle:
                watching.start()
            elif decoding == settle + steps:
                torch.cuda.synchronize()
                watching.stop()

        self.run(prompts, new_tokens, look)
        if decoding < settle + steps:
            raise RuntimeError("the requests ended while the GPU was watched")
        watching.export_chrome_trace(trace)
        return {}


def main() -> None:
    answer, commands, child = private_stdout(), listen(), Child()
    try:
        answer({"version": metadata.version("vllm")})
    except metadata.PackageNotFoundError:
        answer({"error": f"{sys.executable} has no vLLM"})
    while (command := commands.get()) is not None:
        try:
            answer(getattr(child, command.pop("do"))(**command))
        except Exception as error:
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: " + str(error).strip().partition("\n")[0]})
    if child.llm is not None:
        child.llm.llm_engine.engine_core.shutdown()


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != here]  # it has names such as settings
    main()
