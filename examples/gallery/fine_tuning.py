"""What did fine-tuning add? The shipped perceptron learns that 3 and 8 have exchanged their names. Its old weights are free."""

import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from examples.digits import task
from nncomplexity import estimate, loss_from

EPS = [0.3, 0.1, 0.03]
base = load_file("examples/digits/checkpoints/mlp.safetensors")
images, labels = task.split("train")
renamed = torch.tensor([0, 1, 2, 8, 4, 5, 6, 7, 3, 9])[labels]


def per_example(network, images, labels):
    return cross_entropy(task.logits(network, images), labels, reduction="none")


loss = loss_from(per_example, (images, renamed))
tuned = task.mlp()
tuned.load_state_dict(base)
print(f"loss before fine-tuning: {loss(tuned).item():.2f}")
optimizer = torch.optim.Adam(tuned.parameters(), lr=3e-3)
for _ in range(20):
    optimizer.zero_grad()
    loss(tuned).backward()
    optimizer.step()
print(f"loss after fine-tuning: {loss(tuned).item():.2f}")

whole = estimate(tuned, loss, eps=EPS, budget=100)
added = estimate(tuned, loss, eps=EPS, budget=100, relative_to=base)
for one, other in zip(whole, added, strict=True):
    print(f"ε = {one.eps_told}: {one.bits:,} bits for all weights, {other.bits:,} bits beyond the base")

figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
axis.loglog(EPS, [report.bits for report in whole], marker="s", label="the whole network")
axis.loglog(EPS, [report.bits for report in added], marker="o", label="beyond the base")
axis.set(xlabel="ε (nats per example)", ylabel="bits", title="Digits: 3 and 8 exchange their names")
axis.legend()
figure.savefig("fine_tuning.svg")
