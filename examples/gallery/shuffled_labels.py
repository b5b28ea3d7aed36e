"""The same images, with their labels and with shuffled labels. Where there is nothing to learn, a network has to memorise."""

import os

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy

from examples.digits import task
from nncomplexity import estimate, loss_from

BUDGET = float(os.environ.get("GALLERY_BUDGET", 100))
EPS = [1, 0.3, 0.1]
images, labels = (rows[:300] for rows in task.split("train"))
shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


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


figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
for name, answers, mark in (("true labels", labels, "o"), ("shuffled labels", shuffled, "s")):
    loss = loss_from(per_example, (images, answers))
    network = perceptron()
    while loss(network) > 0.05:
        train(network, loss, steps=10)
    reports = estimate(network, loss, eps=EPS, budget=BUDGET)
    print(f"{name}: training loss {loss(network).item():.2f}")
    for report in reports:
        print(f"  ε = {report.eps_told}: {report.bits / 8:,.0f} bytes")
    axis.semilogx(EPS, [report.bits / 8 for report in reports], marker=mark, label=name)

axis.set(xlabel="ε (nats per example)", ylabel="bytes", ylim=(0, None), title="300 digits, learned by one perceptron each")
axis.legend()
figure.savefig("shuffled_labels.svg")
