"""Reading a model folder with the transformers library, and fetching one from the Hugging Face Hub first.

The library's own messages are written for its developers, and without a network it retries for half a minute. So what
can be checked is checked beforehand, and what is left arrives as one line.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import errors as hub_errors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as library_logging

from toolkit.eos import eos_ids
from toolkit.errors import UserError
from toolkit.models.folder_check import (
    read_config,
    read_object,
    refuse_heads,
    refuse_much_larger,
    refuse_tokenizer,
    refuse_unread,
)
from toolkit.models.supported import refuse_architecture, refuse_unsupported

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
GENERATION_CONFIG = "generation_config.json"
CONNECT_SECONDS = 5


def from_folder(folder: Path, name: str, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model and the tokenizer of an ordinary model folder onto the CPU.

    Args:
        folder: holds config.json, *.safetensors and a tokenizer.
        name: what the user called the model, for messages.
        dtype: of the weights in memory, whatever it is on disk.

    Raises `UserError` where one of them is missing, broken or not supported.
    """
    config = check_config(folder, name)
    label = label_of(folder, name)
    if not any((folder / file).exists() for file in TOKENIZER_FILES):
        raise UserError(f"{label}: it has no tokenizer ({' or '.join(TOKENIZER_FILES)})")
    if (folder / GENERATION_CONFIG).exists():  # the library ignores a broken one, and with it where answers end
        read_object(folder / GENERATION_CONFIG, label)
    with as_user_error(f"{label}: cannot load its weights"):
        refuse_unread(folder, label)
        refuse_much_larger(config, folder, label)
    with quiet_library(), as_user_error(f"{label}: cannot load its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        refuse_tokenizer(tokenizer, config, label)
    with quiet_library(), as_user_error(f"{label}: cannot load its weights"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation="sdpa",
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below, in words
        )
    model, report = loaded
    # The library fills what is missing or does not fit with random numbers, leaves out what it does not know, and goes
    # on; the answers would be nonsense, or another model's.
    for problem, weights in {
        "are missing": sorted(report["missing_keys"]),
        "are not asked for by config.json": sorted(report["unexpected_keys"]),
        "have another shape than config.json says": sorted(key for key, *_ in report["mismatched_keys"]),
    }.items():
        if weights:
            raise UserError(f"{label}: {len(weights)} of its weights {problem}, the first is {weights[0]}")
    try:
        eos_ids(model)
    except UserError as error:
        raise UserError(f"{label}: {error}") from None
    return model, tokenizer


def check_config(folder: Path, name: str) -> PreTrainedConfig:
    """The folder's configuration. Raises a `UserError` unless it describes a supported model."""
    label, file = label_of(folder, name), folder / "config.json"
    with as_user_error(f"{label}: cannot read its config.json"):
        if not file.exists():
            raise UserError(f"{label}: no config.json there, so it is no model folder")
    written = read_config(file, label)
    refuse_architecture(written.get("model_type"), label)
    if written.get("quantization_config"):
        raise UserError(f"{label}: its weights are quantised; take the original ones")
    with quiet_library(), as_user_error(f"{label}: cannot read its config.json"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    refuse_heads(config, label)
    refuse_unsupported(config, label)
    return config


def label_of(folder: Path, name: str) -> str:
    """How messages speak of a model: by its name, and its folder where the name is another."""
    return f"model {name}" if Path(name).expanduser() == folder else f"model {name} (in {folder})"


def fetch_from_hub(name: str) -> Path:
    """Download a model from the Hugging Face Hub, or find it in the Hub's own cache; returns its folder.

    The configuration comes first, so that an unsupported model is refused before its gigabytes are downloaded.
    Raises `UserError` without a network, and for a name that does not exist or needs a login.
    """
    offline = not hub_answers()
    try:
        config = huggingface_hub.hf_hub_download(name, "config.json", local_files_only=offline)
        check_config(Path(config).parent, name)
        folder = huggingface_hub.snapshot_download(
            name,
            allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"],
            ignore_patterns=["*/*", "consolidated*"],  # the same weights once more, in other formats
            local_files_only=offline,
        )
    except hub_errors.HFValidationError:
        raise UserError(
            f"model {name[:100]}: there is no such folder, and no model of the Hub can have this name"
        ) from None
    except hub_errors.GatedRepoError:
        raise UserError(
            f"model {name}: its owner asks for a login; accept the terms on its page, then: hf auth login"
        ) from None
    except hub_errors.RepositoryNotFoundError:
        raise UserError(f"model {name}: neither a folder here nor a public model on the Hub") from None
    except hub_errors.LocalEntryNotFoundError:
        raise UserError(
            f"model {name}: no folder of that name here, it was not downloaded before, and "
            f"{huggingface_hub.constants.ENDPOINT} cannot be reached; check the network, or take a folder or the model "
            "tiny"
        ) from None
    except hub_errors.EntryNotFoundError:
        raise UserError(f"model {name}: it has no config.json on the Hub, so it is no transformers model") from None
    except (hub_errors.HfHubHTTPError, OSError) as error:
        raise UserError(f"model {name}: the download failed: {first_line(error)}") from None
    if offline and not any(Path(folder).glob("*.safetensors")):
        raise UserError(
            f"model {name}: only a part of it was downloaded before, and {huggingface_hub.constants.ENDPOINT} "
            "cannot be reached; check the network"
        )
    return Path(folder)


def hub_answers() -> bool:
    """Whether the Hub can be reached, found out with one short question; the library itself would ask six times."""
    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=CONNECT_SECONDS)
    except Exception:  # whatever the reason, a proxy, a certificate or the user's own offline setting: it is not there
        return False
    return True


@contextmanager
def as_user_error(what: str) -> Iterator[None]:
    """Turn any failure of the library inside the block into `what` and the first line of its message.

    Everything is caught, because what a broken file raises depends on where it is broken.
    """
    try:
        yield
    except (torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:
        raise UserError(f"{what}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, and the second where the first only announces it; else its type."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    return " ".join(lines[:2] if lines[0].endswith(":") else lines[:1])


@contextmanager
def quiet_library() -> Iterator[None]:
    """Silence the library's progress bars and warnings inside the block, and put its settings back."""
    verbosity, bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library_logging.set_verbosity(verbosity)
        if bars:
            library_logging.enable_progress_bar()
