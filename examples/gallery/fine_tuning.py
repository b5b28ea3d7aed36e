"""What did fine-tuning add? A network learns that 3 and 8 have exchanged their names. Its weights before that are not counted."""

import os

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy

from examples.digits import task
from nncomplexity import estimate, loss_from

BUDGET = float(os.environ.get("GALLERY_BUDGET", 100))
EPS = [1, 0.1, 0.01]
images, labels = task.split("train")
renamed = torch.tensor([0, 1, 2, 8, 4, 5, 6, 7, 3, 9])[labels]


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def per_example(network, images, labels):
    return cross_entropy(network(images), labels, reduction="none")


def train(network, loss, steps):
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network).backward()
        optimizer.step()
    return network


loss = loss_from(per_example, (images, renamed))
base = train(perceptron(), task.loss, steps=100)
tuned = perceptron()
tuned.load_state_dict(base.state_dict())
train(tuned, loss, steps=30)
print(f"loss with the new names: {loss(base).item():.2f}, after fine-tuning {loss(tuned).item():.2f}")

whole = estimate(tuned, loss, eps=EPS, budget=BUDGET)
added = estimate(tuned, loss, eps=EPS, budget=BUDGET, relative_to=base)
for one, other in zip(whole, added, strict=True):
    print(f"ε = {one.eps_told}: {one.bits:,} bits for all weights, {other.bits:,} bits beyond the base")

figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
axis.semilogx(EPS, [report.bits for report in whole], marker="s", label="the whole network")
axis.semilogx(EPS, [report.bits for report in added], marker="o", label="beyond the base")
axis.set(xlabel="ε (nats per example)", ylabel="bits", ylim=(0, None), title="Digits: 3 and 8 exchange their names")
axis.legend()
figure.savefig("fine_tuning.svg")
