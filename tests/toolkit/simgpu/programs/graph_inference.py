"""A layer captured once, and replayed with new inputs."""

import torch

model = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0).cuda().eval()
static = torch.zeros(4, 10, 32, device="cuda")
s = torch.cuda.Stream()
s.wait_stream(torch.cuda.current_stream())
with torch.cuda.stream(s), torch.inference_mode():
    for _ in range(3):
        model(static)
torch.cuda.current_stream().wait_stream(s)
g = torch.cuda.CUDAGraph()
pool = torch.cuda.graph_pool_handle()
with torch.inference_mode(), torch.cuda.graph(g, pool=pool):
    y = model(static)
with torch.inference_mode():
    for _ in range(3):
        x = torch.randn(4, 10, 32, device="cuda")
        static.copy_(x)
        g.replay()
        assert torch.allclose(y, model(x), atol=1e-5)
print(
    "ok",
    torch.cuda.memory_allocated() > 0,
    torch.cuda.mem_get_info()[1] // 2**30,
    torch.cuda.get_device_properties(0).name,
)
