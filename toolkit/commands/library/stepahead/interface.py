"""The names that `import stepahead` offers, from the modules that they come from."""

from ch02_continuous_batching import FinishReason, RequestOutput, SamplingParams
from ch08_full_engine import Server
from ch09_persistent_batch import PersistentEngine as Engine
from toolkit.errors import UserError
from toolkit.models import load_model

__all__ = [
    "Engine",
    "FinishReason",
    "RequestOutput",
    "SamplingParams",
    "Server",
    "UserError",
    "load_model",
]
