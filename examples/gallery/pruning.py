"""Does pruning make a network simpler? The smallest weights are set to zero, and the others are trained a little more."""

import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from examples.digits import task
from nncomplexity import estimate

SHARES = [0, 0.5, 0.8, 0.9]


def pruned(share):
    network = task.mlp()
    network.load_state_dict(load_file("examples/digits/checkpoints/mlp.safetensors"))
    matrices = [tensor for tensor in network.parameters() if tensor.ndim == 2]
    smallest = torch.cat([matrix.abs().flatten() for matrix in matrices]).quantile(share)
    masks = [matrix.abs() >= smallest for matrix in matrices]
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(30):
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
    report = estimate(network, task.loss, eps=0.1, budget=100)
    lossless.append(min(report.subject.lossless_bits.values()) / 8)
    coarse.append(report.bits / 8)
    print(
        f"{share:.0%} pruned: loss {report.loss:.4f}, {task.error(network, 'test'):.1%} wrong on test images, "
        f"lossless {lossless[-1]:,.0f} bytes, within ε {coarse[-1]:,.0f} bytes"
    )

figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
axis.semilogy([100 * share for share in SHARES], lossless, marker="s", label="lossless, best codec")
axis.semilogy([100 * share for share in SHARES], coarse, marker="o", label="smallest file found, ε = 0.1")
axis.set(xlabel="weights set to zero (%)", ylabel="bytes", title="Digits: pruned and unpruned")
axis.legend()
figure.savefig("pruning.svg")
