"""A decode loop that reads each token one step late."""

import torch

torch.manual_seed(0)
V, D, T = 50, 16, 12
emb = torch.nn.Embedding(V, D).cuda()
head = torch.nn.Linear(D, V).cuda()
k = torch.zeros(T + 1, D, device="cuda")
tok = torch.zeros(1, dtype=torch.long, device="cuda")
host = torch.empty(T, dtype=torch.long, pin_memory=True)
d2h = torch.cuda.Stream()
evs = []
got = []
with torch.inference_mode():
    for t in range(T):
        k[t : t + 1] = emb(tok)
        q = k[: t + 1]
        att = torch.softmax(q[-1:] @ q.T, -1) @ q
        nxt = head(att).argmax(-1)
        tok.copy_(nxt)
        d2h.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(d2h):
            host[t : t + 1].copy_(nxt, non_blocking=True)
            nxt.record_stream(d2h)
            evs.append(d2h.record_event())
        if t:
            evs[t - 1].synchronize()
            got.append(host[t - 1].item())
evs[-1].synchronize()
got.append(host[-1].item())
print("ok", len(got))
