"""The command stepahead-run: the engine's answers to a file of prompts, one JSON object a line, as they end.

    stepahead-run [--model NAME] [--prompts FILE] [--tokens N]

Greedy, at most N new tokens per prompt. On CUDA where there is a GPU, else on the simulated one.
"""

import json
import sys
import time

import torch

from ch02_continuous_batching import SamplingParams
from ch09_persistent_batch import PersistentEngine
from toolkit.commands.prompt_options import parse_arguments
from toolkit.errors import UserError, exit_cleanly
from toolkit.models import load_model
from toolkit.prompts import load_prompts

MAX_ROWS = 32
BLOCK_SIZE = 16


def run() -> None:
    options = parse_arguments("stepahead-run", "Generate an answer to each prompt; JSON Lines on stdout, as they end.")
    loaded = load_model(options.model, device="cuda" if torch.cuda.is_available() else "cpu")
    if loaded.tokenizer is None:
        raise UserError(f"model {options.model} has no tokenizer, so it cannot read prompts; take tiny or default")
    prompts = load_prompts(
        options.prompts,
        loaded.tokenizer,
        max_context=loaded.model.config.max_position_embeddings,
        new_tokens=options.tokens,
    )
    longest = max(len(prompt.token_ids) for prompt in prompts) + options.tokens
    engine = PersistentEngine(
        loaded.model,
        loaded.tokenizer,
        max_rows=MAX_ROWS,
        num_blocks=MAX_ROWS * (longest // BLOCK_SIZE + 1),
        block_size=BLOCK_SIZE,
    )
    for number, prompt in enumerate(prompts):
        engine.add_request(str(number), prompt.token_ids, SamplingParams(max_tokens=options.tokens))
    new_tokens, start = 0, time.perf_counter()
    while engine.has_work:
        for output in engine.step():
            new_tokens += len(output.new_token_ids)
            if output.finish_reason is not None:
                number = int(output.request_id)
                answer = {"number": number, "prompt": prompts[number].text, "text": output.text}
                print(json.dumps(answer | {"finish_reason": output.finish_reason.value}), flush=True)
    seconds = time.perf_counter() - start
    print(f"{loaded.description}: {new_tokens} tokens in {seconds:.1f} s", file=sys.stderr)


def main() -> None:
    exit_cleanly(run)
