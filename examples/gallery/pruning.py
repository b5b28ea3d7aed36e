"""Does pruning make a network simpler? The smallest weights are set to zero, and the others are trained a little more."""

import os

import torch
from matplotlib.figure import Figure
from torch import nn

from examples.digits import task
from nncomplexity import estimate

BUDGET = float(os.environ.get("GALLERY_BUDGET", 100))
SHARES = [0, 0.3, 0.5, 0.7]


def pruned(share):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    matrices = [tensor for tensor in network.parameters() if tensor.ndim == 2]
    masks = [torch.ones_like(matrix) for matrix in matrices]
    for step in range(300):
        if step == 200:
            smallest = torch.cat([matrix.abs().flatten() for matrix in matrices]).quantile(share)
            masks = [matrix.abs() >= smallest for matrix in matrices]
        optimizer.zero_grad()
        task.loss(network).backward()
        optimizer.step()
        with torch.no_grad():
            for matrix, mask in zip(matrices, masks, strict=True):
                matrix *= mask
    return network


lossless, coarse = [], []
for share in SHARES:
    network = pruned(share)
    report = estimate(network, task.loss, eps=0.1, budget=BUDGET)
    lossless.append(min(report.subject.lossless_bits.values()) / 8)
    coarse.append(report.bits / 8)
    print(f"{share:.0%} pruned: loss {report.loss:.3f}, lossless {lossless[-1]:,.0f} bytes, within ε = 0.1 {coarse[-1]:,.0f} bytes")

figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
axis.semilogy([100 * share for share in SHARES], lossless, marker="s", label="lossless, best codec")
axis.semilogy([100 * share for share in SHARES], coarse, marker="o", label="smallest file found, ε = 0.1")
axis.set(xlabel="weights set to zero (%)", ylabel="bytes", title="Digits: pruned and unpruned")
axis.legend()
figure.savefig("pruning.svg")
