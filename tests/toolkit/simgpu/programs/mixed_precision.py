"""Convolutions, channels last, autocast, a scaler, a fused optimizer, an average of the weights."""

import copy

import torch

torch.manual_seed(0)
torch.cuda.manual_seed_all(0)
net = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3, padding=1),
    torch.nn.BatchNorm2d(8),
    torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool2d(1),
    torch.nn.Flatten(),
    torch.nn.Linear(8, 2),
).to("cuda", memory_format=torch.channels_last)
ema = copy.deepcopy(net).eval().requires_grad_(False)
opt = torch.optim.Adam(net.parameters(), fused=True)
sc = torch.amp.GradScaler("cuda")
for _ in range(3):
    x = torch.rand(4, 3, 8, 8, device="cuda").contiguous(memory_format=torch.channels_last)
    y = torch.randint(2, (4,), device="cuda")
    with torch.autocast("cuda", dtype=torch.float16):
        loss = torch.nn.functional.cross_entropy(net(x), y)
    sc.scale(loss).backward()
    sc.unscale_(opt)
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    sc.step(opt)
    sc.update()
    opt.zero_grad()
    with torch.no_grad():
        torch._foreach_lerp_(list(ema.parameters()), list(net.parameters()), 0.1)
print("ok", loss.item() > 0)
