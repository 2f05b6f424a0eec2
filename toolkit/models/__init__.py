"""Models for the engines: the default one, any folder or Hub name of the Llama family, and random ones of named shapes.

load.py           load_model: what a name means, where the weights go, in which dtype
pretrained.py     reading a model folder, and fetching one from the Hub, with clear errors
supported.py      which models the paged attention can serve; load_model asks, and every engine that is made
folder_check.py   what a model folder must hold: sizes that make sense, and no weights that stay unread
default.py        fetching the default model once and keeping it as an ordinary model folder
smollm2_gguf.py   turning the GGUF file that it comes in into such a folder
shapes.py         random weights of a named shape: 8b and 1b for timing, tiny for tests
share.py          one rank's share of a model that several processes compute together
byte_tokenizer.py the tokenizer of tiny, which needs no download
merge.py          optional, for speed: q, k, v in one matrix product, gate and up in another
compiled.py       optional, for speed: torch.compile of what lies between the attentions
fused.py          part of that, on some GPUs: five kernels a layer for steps of few tokens (few_tokens.py)
"""

from toolkit.models.load import LoadedModel, load_model

__all__ = ["LoadedModel", "load_model"]
