"""Which tokens end a sequence: a model may name none, one or several."""

from transformers import PreTrainedModel


def eos_ids(model: PreTrainedModel) -> set[int]:
    """The end-of-sequence ids that `generate` would stop at, from the model's generation config."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    if named is None:
        return set()
    return set(named) if isinstance(named, list) else {named}
