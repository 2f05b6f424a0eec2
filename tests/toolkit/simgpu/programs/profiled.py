"""Ranges for a profiler, and times from events."""

import torch
from torch.profiler import ProfilerActivity, profile

x = torch.ones(8, device="cuda")
with torch.cuda.nvtx.range("a"), profile(activities=[ProfilerActivity.CPU]):
    y = x + 1
torch.cuda.nvtx.range_push("b")
torch.cuda.nvtx.range_pop()
start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
start.record()
y = y @ y
end.record()
torch.cuda.synchronize()
print("ok", start.elapsed_time(end) > 0)
