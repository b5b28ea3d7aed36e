"""Two measures of complexity along one training: the bits of the smallest file, and the local learning coefficient λ."""

import os

import torch
from matplotlib.figure import Figure
from torch import nn

from examples.digits import task
from nncomplexity import Langevin, estimate, local_learning_coefficient

BUDGET = float(os.environ.get("GALLERY_BUDGET", 100))
STEPS = [30, 100, 300]
SAMPLER = Langevin(chains=2, draws=round(BUDGET), burn_in=round(BUDGET))

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
sizes, coefficients, errors = [], [], []
for step in range(STEPS[-1] + 1):
    if step in STEPS:
        report = estimate(network, task.loss, eps=0.1, budget=BUDGET)
        found = local_learning_coefficient(network, task.loss, n=task.TRAIN_EXAMPLES, sampler=SAMPLER)
        print(
            f"step {step}: loss {report.loss:.2f}, {report.bits:,} bits, λ = {found.value:.1f} ± {found.error:.1f}, drift {found.drift:.1f}"
        )
        sizes.append(report.bits)
        coefficients.append(found.value)
        errors.append(found.error)
    optimizer.zero_grad()
    task.loss(network).backward()
    optimizer.step()

figure = Figure(figsize=(7, 3), layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(STEPS, sizes, marker="o")
left.set(xlabel="training step", ylabel="bits within ε = 0.1", ylim=(0, None), title="Smallest file")
right.errorbar(STEPS, coefficients, errors, marker="s", color="C1")
right.set(xlabel="training step", ylabel="λ", ylim=(0, None), title="Local learning coefficient")
figure.savefig("learning_coefficient.svg")
