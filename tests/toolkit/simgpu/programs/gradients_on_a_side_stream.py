"""Gradients added up on a side stream, as a reducer does."""

import torch

torch.manual_seed(0)
m = torch.nn.Linear(64, 64, bias=False, device="cuda")
acc = torch.zeros_like(m.weight)
side = torch.cuda.Stream()
for _ in range(4):
    x = torch.randn(8, 64, device="cuda")
    m(x).square().mean().backward()
    side.wait_stream(torch.cuda.current_stream())
    g = m.weight.grad
    with torch.cuda.stream(side):
        acc.add_(g)
        g.record_stream(side)
    m.weight.grad = None
torch.cuda.current_stream().wait_stream(side)
with torch.no_grad():
    m.weight -= 0.1 * acc / 4
print("ok", m.weight.norm().isfinite().item())
