"""Two modules in graphs, forward and backward, in a training loop."""

import torch

torch.manual_seed(0)
a = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU()).cuda()
b = torch.nn.Linear(16, 1).cuda()
opt = torch.optim.SGD([*a.parameters(), *b.parameters()], 0.1)
x = torch.randn(8, 16, device="cuda")
h = torch.randn(8, 16, device="cuda", requires_grad=True)
a, b = torch.cuda.make_graphed_callables((a, b), ((x,), (h,)))
for _ in range(3):
    opt.zero_grad(set_to_none=True)
    loss = b(a(torch.randn(8, 16, device="cuda"))).pow(2).mean()
    loss.backward()
    opt.step()
print("ok", loss.item() >= 0)
