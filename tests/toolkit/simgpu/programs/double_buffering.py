"""Three streams, two buffers on the device, and events between them."""

import torch

dev = torch.device("cuda:0")
h2d, comp, d2h = torch.cuda.Stream(dev), torch.cuda.Stream(device=dev, priority=-1), torch.cuda.Stream()
src = [torch.randn(256).pin_memory() for _ in range(8)]
dst = torch.empty(8, 256, pin_memory=True)
buf = [torch.empty(256, device=dev) for _ in range(2)]
out = [torch.empty(256, device=dev) for _ in range(2)]
loaded = [torch.cuda.Event() for _ in range(2)]
done = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
stored = [torch.cuda.Event(blocking=True) for _ in range(2)]
torch.cuda.synchronize()
for i in range(8):
    b = i % 2
    with torch.cuda.stream(h2d):
        h2d.wait_event(done[b])
        buf[b].copy_(src[i], non_blocking=True)
        loaded[b].record()
    with torch.cuda.stream(comp):
        comp.wait_event(loaded[b])
        comp.wait_event(stored[b])
        torch.sin(buf[b], out=out[b])
        done[b].record(comp)
    with torch.cuda.stream(d2h):
        d2h.wait_event(done[b])
        dst[i].copy_(out[b], non_blocking=True)
        stored[b].record(d2h)
torch.cuda.synchronize()
assert torch.allclose(dst, torch.stack(src).sin(), atol=1e-6)
print("ok", done[0].elapsed_time(done[1]) >= 0)
