"""One model on several GPUs, and its answers compared with those of one GPU.

    torchrun --nproc-per-node 2 -m toolkit.commands.tensor_parallel [--model 1b] [--rows 16] [--tokens 32]

Greedy, in float32. On NVIDIA GPUs the ranks talk through NCCL, elsewhere through gloo, each on the CPU. The
transformers library needs the package accelerate for it (solutions/ch10_serving/requirements.txt).
"""

import argparse
import importlib.util
import os
import tempfile
from typing import Any

import torch
import torch.distributed as dist

from toolkit import course
from toolkit.errors import UserError, exit_cleanly
from toolkit.models import load_model
from toolkit.models.pretrained import quiet_library
from toolkit.models.share import join, load_share
from toolkit.paged_attention import PagedKVCache
from toolkit.workloads import fixed

BLOCK_SIZE = 16
PROMPT_LENGTH = 64
JOIN_EACH_STEP = 4  # so that there are steps with prompts and running rows in them


def main() -> int:
    options = parse_arguments()
    if importlib.util.find_spec("accelerate") is None:
        raise UserError("the package accelerate is not installed; run: pip install accelerate")
    course.use(os.environ.get("COURSE_CODE") or "solutions", fill=True)
    device = join()
    try:
        return compare(options, str(device))
    finally:
        dist.destroy_process_group()


def compare(options: argparse.Namespace, device: str) -> int:
    """Run the requests on all ranks together, then on rank 0 alone. Returns 1 if a token differs."""
    is_first = dist.get_rank() == 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = [temporary]
        if is_first:
            whole = load_model(options.model, device=device, dtype=torch.float32).model
            with quiet_library():
                whole.save_pretrained(temporary)
        dist.broadcast_object_list(folder, src=0)
        try:
            share = load_share(folder[0])
        finally:
            dist.barrier()  # as long as any rank reads it, the folder is there
    from ch02_continuous_batching import SamplingParams  # after the share is loaded, see toolkit/models/share.py
    from ch02_continuous_batching.build import build
    from ch10_serving.tensor_parallel import serve_together

    blocks_each = -(-(PROMPT_LENGTH + options.tokens) // BLOCK_SIZE) + 1
    limits: dict[str, Any] = {"num_blocks": options.rows * blocks_each, "block_size": BLOCK_SIZE}
    limits |= {"max_rows": options.rows, "token_budget": 512}
    params = SamplingParams(max_tokens=options.tokens, ignore_eos=True)
    items = fixed(options.rows, PROMPT_LENGTH, options.tokens, vocab_size=share.config.vocab_size)
    requests = [(str(number), item.prompt_ids, params) for number, item in enumerate(items)]
    arrivals = [requests[i : i + JOIN_EACH_STEP] for i in range(0, len(requests), JOIN_EACH_STEP)]
    together = serve_together(build(share, **limits), arrivals if is_first else ())
    if not is_first:
        return 0
    alone = build(whole, **limits).generate([prompt for _, prompt, _ in requests], params)
    equal = sum(together[name] == one.output_ids for (name, *_), one in zip(requests, alone, strict=True))
    heads = PagedKVCache.allocate(share, num_blocks=1, block_size=1).storage.shape[-2]
    print(
        f"{options.model}, float32, {dist.get_world_size()} ranks ({dist.get_backend()}), each with {heads} of "
        f"{share.config.num_key_value_heads} key and value heads: {equal} of {len(requests)} requests get the "
        f"{options.tokens} tokens that one process gives them"
    )
    return int(equal < len(requests))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="torchrun --nproc-per-node 2 -m toolkit.commands.tensor_parallel",
        description="One model on several GPUs, compared with one.",
    )
    parser.add_argument("--model", default="tiny", help="tiny, 1b, 8b, a model folder, or a name on the Hub")
    parser.add_argument("--rows", type=int, default=16, help="requests")
    parser.add_argument("--tokens", type=int, default=32, help="new tokens of each")
    options = parser.parse_args()
    for name in ("rows", "tokens"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}; give a number from 1 on")
    return options


if __name__ == "__main__":
    exit_cleanly(main)
