"""The same images, with their labels and with shuffled labels. A network that has nothing to learn has to memorise."""

import torch
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy

from examples.digits import task
from nncomplexity import estimate, loss_from

EPS = [1, 0.3, 0.1]
images, labels = (rows[:300] for rows in task.split("train"))
generator = torch.Generator().manual_seed(0)
shuffled = labels[torch.randperm(len(labels), generator=generator)]


def per_example(network, images, labels):
    return cross_entropy(task.logits(network, images), labels, reduction="none")


def trained(loss):
    torch.manual_seed(0)
    network = task.mlp()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    while loss(network) > 0.01:
        optimizer.zero_grad()
        loss(network).backward()
        optimizer.step()
    return network


figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
for name, answers, mark in (("true labels", labels, "o"), ("shuffled labels", shuffled, "s")):
    loss = loss_from(per_example, (images, answers))
    network = trained(loss)
    reports = estimate(network, loss, eps=EPS, budget=100)
    print(f"{name}: training loss {loss(network).item():.3f}")
    for report in reports:
        print(f"  ε = {report.eps_told}: {report.bits / 8:,.0f} bytes")
    axis.loglog(EPS, [report.bits / 8 for report in reports], marker=mark, label=name)

axis.set(xlabel="ε (nats per example)", ylabel="bytes", title="300 digits, learned by one perceptron each")
axis.legend()
figure.savefig("shuffled_labels.svg")
