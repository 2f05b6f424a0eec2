"""A thread stages batches on its own stream, the main thread uses them."""

import queue
import threading

import torch

q = queue.Queue(2)
s = torch.cuda.Stream()


def produce():
    with torch.cuda.stream(s):
        for i in range(5):
            t = torch.full((100,), float(i)).pin_memory().to("cuda", non_blocking=True)
            e = torch.cuda.Event()
            e.record(s)
            q.put((t, e))
    q.put(None)


t = threading.Thread(target=produce)
t.start()
tot = 0.0
while (item := q.get()) is not None:
    x, e = item
    torch.cuda.current_stream().wait_event(e)
    x.record_stream(torch.cuda.current_stream())
    tot += x.sum().item()
t.join()
print("ok", tot)
