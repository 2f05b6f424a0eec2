"""A side stream that waits for nothing: wrong."""

import torch

x = torch.randn(1024, 1024, device="cuda")
s = torch.cuda.Stream()
with torch.cuda.stream(s):
    y = x @ x
print(y.sum().item() is not None)
