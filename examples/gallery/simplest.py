"""Several networks fit the training data equally well. The one with the fewest bits is chosen, without test data."""

import os

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy

from examples.digits import task
from nncomplexity import estimate, loss_from

BUDGET = float(os.environ.get("GALLERY_BUDGET", 60))
SCALES = [0.5, 1, 2, 4, 8]
images, labels = (rows[:200] for rows in task.split("train"))


def perceptron(scale):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        for tensor in network.parameters():
            tensor *= scale
    return network


def per_example(network, images, labels):
    return cross_entropy(network(images), labels, reduction="none")


def train(network, loss):
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    while loss(network) > 0.01:
        optimizer.zero_grad()
        loss(network).backward()
        optimizer.step()
    return network


loss = loss_from(per_example, (images, labels))
bits, errors = {}, {}
for scale in SCALES:
    network = train(perceptron(scale), loss)
    bits[scale] = estimate(network, loss, eps=0.1, budget=BUDGET).bits
    errors[scale] = task.error(network, "test")
    wrong = (network(images).argmax(1) != labels).double().mean().item()
    print(
        f"initial weights × {scale}: {wrong:.0%} wrong in training, {bits[scale]:,} bits, {errors[scale]:.1%} wrong on test images"
    )
simplest = min(bits, key=bits.get)
print(f"chosen: initial weights × {simplest}")

figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
for name in SCALES:
    mark = "*" if name == simplest else "o"
    axis.plot(bits[name], 100 * errors[name], marker=mark, markersize=9, linestyle="", label=f"× {name}")
axis.set(xlabel="bits within ε = 0.1", ylabel="wrong on test images (%)", title="Networks that fit 200 digits")
axis.legend(title="initial weights")
figure.savefig("simplest.svg")
