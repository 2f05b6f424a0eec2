"""torch.autocast on the device: which operations run in which precision, as on CUDA.

The lists are those of torch's own source for CUDA (ATen/autocast_mode.h). Not modelled: the cache of cast weights,
which saves time only.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch

from toolkit.simgpu.schemas import map_tensors, tensors_in
from toolkit.simgpu.tensors import SimTensor

_LOWER = """_convolution conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution
    prelu addmm addmv addr matmul einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot
    lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell scaled_dot_product_attention"""
_FLOAT32 = """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus layer_norm
    native_layer_norm rms_norm group_norm frobenius_norm nuclear_norm norm cosine_similarity poisson_nll_loss
    cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss
    margin_ranking_loss multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss
    binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp upsample_nearest1d upsample_nearest2d
    upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d"""
_FLOAT32_RESULT = "prod softmax log_softmax cumprod cumsum linalg_vector_norm linalg_matrix_norm sum"
_WIDEST = "addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add"
_KEY = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)  # type: ignore[attr-defined]
_libraries: list[torch.library.Library] = []  # a registration lasts as long as its library object


def register_autocast() -> None:
    """Make torch.autocast("sim") work. Does nothing the second time."""
    if _libraries:
        return
    others, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for names, rule in ((_LOWER, _lower), (_FLOAT32, _float32), (_FLOAT32_RESULT, _float32_result), (_WIDEST, _widest)):
        for func in _operations(names):
            aten.impl(func, functools.partial(_run, func, rule), "AutocastPrivateUse1")
    for func in _operations("binary_cross_entropy"):
        aten.impl(func, _refuse, "AutocastPrivateUse1")
    _libraries.extend((others, aten))


def _operations(names: str) -> list[torch._ops.OpOverload]:
    packets = [getattr(torch.ops.aten, name) for name in names.split() if hasattr(torch.ops.aten, name)]
    found = (getattr(packet, overload) for packet in packets for overload in packet.overloads())
    return [each for each in found if not any(argument.is_out for argument in each._schema.arguments)]


def _run(func: torch._ops.OpOverload, rule: Callable[..., tuple], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    with torch._C._ExcludeDispatchKeyGuard(_KEY):
        args, kwargs = rule(func, args, kwargs)
        return func(*args, **kwargs)


def _lower(func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> tuple:
    return _cast((args, kwargs), torch.get_autocast_dtype("sim"))


def _float32(func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> tuple:
    return _cast((args, kwargs), torch.float32)


def _float32_result(func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> tuple:
    place = next((n for n, each in enumerate(func._schema.arguments) if each.name == "dtype"), None)
    given = kwargs.get("dtype") is not None or (place is not None and place < len(args) and args[place] is not None)
    if place is not None and not given and any(map(_is_cast, tensors_in(args[:1]))):
        return args[:place], {**kwargs, "dtype": torch.float32}
    return args, kwargs


def _widest(func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> tuple:
    dtypes = {each.dtype for each in tensors_in((args, kwargs)) if _is_cast(each)}
    return _cast((args, kwargs), torch.float32) if torch.float32 in dtypes else (args, kwargs)


def _refuse(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
    raise RuntimeError(
        "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast: use "
        "binary_cross_entropy_with_logits"
    )


def _is_cast(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, SimTensor) and tensor.is_floating_point() and tensor.dtype != torch.float64


def _cast(values: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401
    return map_tensors(lambda each: each.to(dtype) if _is_cast(each) else each, values)
