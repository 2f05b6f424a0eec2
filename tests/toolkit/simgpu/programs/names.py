"""What a program asks about the device, under names that it imported before."""

import torch
import torch.cuda as cuda
from torch.cuda import Event, Stream, current_stream, stream

assert cuda.is_available() and isinstance(current_stream(), Stream) and current_stream() == cuda.default_stream()
print(
    cuda.get_device_name(),
    cuda.get_device_capability(),
    cuda.device_count(),
    cuda.current_device(),
    torch.version.cuda,
    torch.cuda.is_initialized(),
    torch.backends.cuda.is_built(),
)
e = Event(enable_timing=True)
e.record()
e.synchronize()
with cuda.device(0):
    x = torch.tensor([1, 2], device="cuda")
    print(x, x.device, x.is_cuda, x.get_device(), type(x), x.cpu().numpy())
with torch.device("cuda"):
    print(torch.zeros(2).device, torch.arange(3).sum())
torch.cuda.empty_cache()
torch.cuda.reset_peak_memory_stats()
print(torch.cuda.max_memory_allocated() > 0, torch.cuda.memory_reserved() > 0)
print(stream(None), repr(e)[:12], repr(current_stream())[:20])
try:
    torch.cuda.memory_summary()
except NotImplementedError as err:
    print(err)
try:
    torch.zeros(2, device="cuda:1")
except RuntimeError as err:
    print(str(err)[:60])
