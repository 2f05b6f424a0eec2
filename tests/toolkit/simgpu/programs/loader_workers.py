"""A loader with worker processes and pinned batches; it reads a file beside itself."""

import os

import torch
from torch.utils.data import DataLoader, Dataset


class D(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, i):
        return {"x": torch.full((4,), float(i)), "i": i, "s": f"n{i}"}


def main():
    n = 0
    for b in DataLoader(D(), 4, num_workers=2, pin_memory=True, persistent_workers=False, drop_last=True):
        assert b["x"].is_pinned()
        n += b["x"].to("cuda", non_blocking=True).sum().item()
    assert os.path.exists(os.path.join(os.path.dirname(os.path.abspath(__file__)), "decoding.py"))
    print("ok", n)


if __name__ == "__main__":
    main()
