"""torch.accelerator, torch.Stream and torch.Event."""

import torch

acc = torch.accelerator
print(acc.is_available(), acc.device_count(), acc.current_accelerator(), acc.current_device_index())
s = torch.Stream(device="cuda")
e = torch.Event(device="cuda", enable_timing=True)
e2 = torch.Event("cuda", enable_timing=True)
x = torch.ones(10, device=acc.current_accelerator())
acc.synchronize()
with s:
    e.record(s)
    x += 1
    e2.record(s)
acc.current_stream().wait_event(e2)
print(x.sum().item(), e.elapsed_time(e2) >= 0, s.query(), e2.query())
acc.set_stream(s)
print(acc.current_stream() == s)
acc.empty_cache()
print(acc.memory_allocated() > 0, torch.get_device_module("cuda") is torch.cuda)
with acc.device_index(0):
    pass
print(torch.cuda.current_stream().device, s.device_index, s.stream_id is not None)
