"""transformers' continuous batching with a tiny model: code that was not written here, looked at by the simulator.

docs/simulator.md (Code that was not written here) says what was found; transformers_verdicts.py asks a real GPU.
"""

import contextlib
import dataclasses

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.generation.continuous_batching import input_outputs
from transformers.generation.continuous_batching.offloading_manager import OffloadingManager
from transformers.utils import get_available_devices, is_torch_cuda_available

ASYNC, SYNC = input_outputs.ContinuousBatchingAsyncIOs, input_outputs.ContinuousBatchingIOs
# The size of a page of the cache has had two names; 5.17 knows the second.
NAMES = [each.name for each in dataclasses.fields(ContinuousBatchingConfig)]
PAGE_OF_16 = {"page_size" if "page_size" in NAMES else "block_size": 16}
WORDS = 97


def make_model(device):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).eval().to(device)


def make_prompts():
    numbers = torch.Generator().manual_seed(1)
    return [torch.randint(1, WORDS, (3 + 4 * i,), generator=numbers).tolist() for i in range(6)]


@contextlib.contextmanager
def manager(device, use_async, graphs):
    """A manager of continuous batching that is running."""
    for asked in (get_available_devices, is_torch_cuda_available):
        asked.cache_clear()  # it pins memory if there is a GPU, and may have been asked before there was one
    greedy = GenerationConfig(max_new_tokens=10, do_sample=False, eos_token_id=-1, pad_token_id=0)
    config = ContinuousBatchingConfig(
        use_async_batching=use_async, use_cuda_graph=graphs, num_blocks=16, max_batch_tokens=32, **PAGE_OF_16
    )
    model = make_model(device)
    with model.continuous_batching_context_manager(greedy, continuous_batching_config=config) as running:
        yield running


def generate(device, use_async=False, graphs=False, cancel=True):
    """The tokens of five requests, by name: two join later, they end at different times, and a sixth is cancelled."""
    prompts, tokens = make_prompts(), {}
    with torch.no_grad(), manager(device, use_async, graphs) as running:
        for i in range(3):
            running.add_request(prompts[i], request_id=f"r{i}", max_new_tokens=4 + 3 * i)
        if cancel:
            running.add_request(prompts[5], request_id="cancelled", max_new_tokens=100)
        while len(tokens) < 5:
            result = running.get_result(timeout=60)
            if result is None:
                raise RuntimeError(f"no more results: {sorted(tokens)}")
            if result.error is not None:
                raise RuntimeError(result.error)
            if result.is_finished():
                tokens[result.request_id] = result.generated_tokens
            if len(tokens) == 1:
                if cancel:
                    running.cancel_request("cancelled")
                for i in range(3, 5):
                    running.add_request(prompts[i], request_id=f"r{i}", max_new_tokens=10)
    return tokens


def generate_offloaded(device, use_async, num_blocks, gib):
    """The tokens of five requests in a cache that is too small for them, so that some are moved to the host and back.

    Returns:
        the tokens in order, and how many requests were moved.
    """
    greedy = GenerationConfig(max_new_tokens=24, do_sample=False, eos_token_id=-1, pad_token_id=0)
    config = ContinuousBatchingConfig(
        use_async_batching=use_async,
        use_cuda_graph=False,
        num_blocks=num_blocks,
        max_batch_tokens=32,
        **PAGE_OF_16,
        cpu_offload_space=gib,
    )
    moved = []

    def counted(before):
        def _offload_to_cpu(self, *args):
            names = before(self, *args)
            moved.extend(names)
            return names

        return _offload_to_cpu

    prompts = [(prompt * 6)[: 12 + i] for i, prompt in enumerate(make_prompts()[:5])]
    with torch.no_grad(), replaced(OffloadingManager, "_offload_to_cpu", counted):
        outputs = make_model(device).generate_batch(
            inputs=prompts, generation_config=greedy, continuous_batching_config=config, progress_bar=False
        )
    return [each.generated_tokens for each in outputs.values()], len(moved)


@contextlib.contextmanager
def replaced(owner, name, make):
    """`owner.name` replaced by `make(what it was)`."""
    before = getattr(owner, name)
    setattr(owner, name, make(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def mended():
    """With the edges that are missing in transformers 5.23."""

    def prepare(before):
        def prepare_batch_tensors(self, *args, **kwargs):
            before(self, *args, **kwargs)
            if self.compute_stream is not None:  # the batch was written on the current stream
                self.compute_stream.wait_stream(torch.cuda.current_stream())

        return prepare_batch_tensors

    def settled(before):
        def method(self, *args, **kwargs):
            torch.cuda.synchronize()  # what still reads the buffers
            before(self, *args, **kwargs)
            torch.cuda.synchronize()  # what fills them, on the current stream

        return method

    with (
        replaced(SYNC, "prepare_batch_tensors", prepare),
        replaced(ASYNC, "__init__", settled),
        replaced(ASYNC, "reset", settled),
    ):
        yield
