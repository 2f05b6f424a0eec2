"""One rank's share of a model that several processes compute together. Chapter 10 says what that means for an engine.

    device = join()                  # in each process that torchrun has started
    model = load_share("a-folder")   # the rows and columns that are this rank's

The transformers library shares the weights out by the plan that comes with the model's architecture. It loads them onto
torch's accelerator if there is one, so the simulated GPU has to come later: a share is loaded first of all.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.distributed import DistributedConfig

from toolkit.errors import UserError
from toolkit.models.pretrained import check_config, quiet_library


def join() -> torch.device:
    """Meet the other ranks that torchrun has started. Returns this rank's device: a GPU of its own, or the CPU.

    Raises:
        UserError: torchrun has not started this process, or there are more ranks than GPUs.
    """
    if "LOCAL_RANK" not in os.environ:
        raise UserError("this process is alone; start it with: torchrun --nproc-per-node 2 -m ...")
    if not torch.cuda.is_available():
        dist.init_process_group("gloo")
        return torch.device("cpu")
    rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if rank >= gpus:
        raise UserError(f"torchrun has started more processes than there are GPUs here ({gpus}); take fewer")
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    dist.init_process_group("nccl", device_id=device)
    return device


def load_share(folder: Path | str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """This rank's share of the model in a folder, on its device. All ranks call this, after `join`.

    Raises:
        UserError: the engines cannot serve this model, its heads cannot be shared out, or the simulated GPU is there.
    """
    if "toolkit.simgpu" in sys.modules and not torch.cuda.is_available():
        raise UserError("the simulated GPU is there already; load a share before anything that uses it is imported")
    config, ranks = check_config(Path(folder), str(folder)), dist.get_world_size()
    for kind in ("num_attention_heads", "num_key_value_heads"):
        if getattr(config, kind) % ranks:
            raise UserError(f"model {folder}: its {kind}, {getattr(config, kind)}, cannot be shared by {ranks} ranks")
    with quiet_library():
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            trust_remote_code=False,
            distributed_config=DistributedConfig(tp_plan="auto"),
        )
    return model.eval()
