"""One pinned buffer filled while its copy is under way: wrong."""

import torch

host = torch.empty(1000, pin_memory=True)
dst = torch.empty(4, 1000, device="cuda")
for i in range(4):
    host.fill_(i)
    dst[i].copy_(host, non_blocking=True)
print(dst.sum(1).tolist())
