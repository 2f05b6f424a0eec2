"""torch.autocast("cuda") on the simulated GPU: the precisions of CUDA's lists, and gradients in the weights' own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from toolkit import simgpu


@pytest.fixture(autouse=True)
def on_cuda():
    with simgpu.as_cuda("lazy"):
        yield


@pytest.mark.parametrize(
    ("call", "dtype"),
    [
        (lambda x: x @ x, torch.bfloat16),
        (lambda x: F.linear(x, x), torch.bfloat16),
        (lambda x: F.conv1d(x, x[:, :, None]), torch.bfloat16),
        (lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]), torch.bfloat16),
        (lambda x: (x @ x).exp(), torch.float32),
        (lambda x: F.layer_norm(x.bfloat16(), (4,)), torch.float32),
        (lambda x: F.softmax(x.bfloat16(), -1), torch.float32),
        (lambda x: x.bfloat16().sum(), torch.float32),
        (lambda x: x.bfloat16().sum(0), torch.float32),
        (lambda x: x.bfloat16().sum(dtype=torch.float64), torch.float64),
        (lambda x: torch.addcmul(x, x.bfloat16(), x.bfloat16()), torch.float32),
        (lambda x: F.mse_loss(x.bfloat16(), x.bfloat16()), torch.float32),
        (lambda x: x.bfloat16() + x.bfloat16(), torch.bfloat16),
        (lambda x: x.relu(), torch.float32),
        (lambda x: x.double() @ x.double(), torch.float64),
    ],
)
def test_the_precision_of_an_operation(call, dtype):
    x = torch.ones(4, 4, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert call(x).dtype == dtype


def test_every_way_to_begin_it():
    x = torch.ones(4, 4, device="cuda")
    with torch.autocast(device_type="cuda"):
        assert (x @ x).dtype == torch.float16 and torch.is_autocast_enabled("cuda") and torch.is_autocast_enabled()
        with torch.autocast("cuda", enabled=False):
            assert (x @ x).dtype == torch.float32
    with torch.amp.autocast("cuda", torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert (x @ x).dtype == torch.bfloat16
    with pytest.warns(FutureWarning), torch.cuda.amp.autocast(dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
    assert (x @ x).dtype == torch.float32 and not torch.is_autocast_enabled("cuda")


def test_a_training_step_in_mixed_precision():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).cuda()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cuda")
    x, y = torch.linspace(0, 1, 20, device="cuda").reshape(5, 4), torch.zeros(5, dtype=torch.int64, device="cuda")
    losses = []
    for _ in range(5):
        with torch.autocast("cuda", dtype=torch.float16):
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and loss.dtype == torch.float32
    assert model[0].weight.grad.dtype == torch.float32


def test_a_checkpoint_is_computed_again_in_the_same_precision():
    model, x = nn.Linear(4, 4).cuda(), torch.ones(2, 4, device="cuda", requires_grad=True)
    dtypes = []

    def forward(x):
        y = model(x)
        dtypes.append(y.dtype)
        return y.relu()

    with torch.autocast("cuda", dtype=torch.bfloat16):
        y = torch.utils.checkpoint.checkpoint(forward, x, use_reentrant=False)
    y.float().sum().backward()
    assert dtypes == [torch.bfloat16] * 2


def test_what_cuda_refuses_is_refused():
    x = torch.ones(4, device="cuda")
    with torch.autocast("cuda"), pytest.raises(RuntimeError, match="unsafe to autocast"):
        F.binary_cross_entropy(x, x)
