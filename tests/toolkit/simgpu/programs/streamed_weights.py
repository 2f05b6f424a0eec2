"""Weights in pinned memory, copied layer by layer; activations moved to the host."""

import torch

layers = [torch.nn.Linear(32, 32) for _ in range(6)]
for layer in layers:
    for p in layer.parameters():
        p.data = p.data.pin_memory()
copy = torch.cuda.Stream()
x = torch.randn(4, 32, device="cuda", requires_grad=True)


def fetch(layer):
    with torch.cuda.stream(copy):
        return [p.detach().to("cuda", non_blocking=True) for p in layer.parameters()], copy.record_event()


nxt = fetch(layers[0])
h = x
for i in range(len(layers)):
    (w, b), e = nxt
    torch.cuda.current_stream().wait_event(e)
    for t in (w, b):
        t.record_stream(torch.cuda.current_stream())
    if i + 1 < len(layers):
        nxt = fetch(layers[i + 1])
    h = torch.nn.functional.linear(h, w, b).relu()
with torch.autograd.graph.save_on_cpu(pin_memory=True):
    z = (h * h).sum() * 2
z.backward()
print("ok", x.grad.shape)
