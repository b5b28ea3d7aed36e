"""Several networks fit the training data equally well. The one with the fewest bits is chosen, without a look at other data."""

import torch
from matplotlib.figure import Figure
from torch.nn.functional import cross_entropy

from examples.digits import task
from nncomplexity import estimate, loss_from

WEIGHT_DECAY = [0, 0.3, 1, 3, 10]
images, labels = (rows[:200] for rows in task.split("train"))


def per_example(network, images, labels):
    return cross_entropy(task.logits(network, images), labels, reduction="none")


loss = loss_from(per_example, (images, labels))


def trained(weight_decay):
    torch.manual_seed(0)
    network = task.mlp()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=weight_decay)
    for _ in range(300):
        optimizer.zero_grad()
        loss(network).backward()
        optimizer.step()
    return network


networks = {weight_decay: trained(weight_decay) for weight_decay in WEIGHT_DECAY}
bits = {name: estimate(network, loss, eps=0.1, budget=60).bits for name, network in networks.items()}
errors = {name: task.error(network, "test") for name, network in networks.items()}
for name, network in networks.items():
    wrong = (task.logits(network, images).argmax(1) != labels).double().mean().item()
    print(f"weight decay {name}: {wrong:.1%} wrong in training, {bits[name]:,} bits, {errors[name]:.1%} wrong on test images")
simplest = min(bits, key=bits.get)
print(f"chosen: weight decay {simplest}")

figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
for name in WEIGHT_DECAY:
    axis.plot(bits[name], 100 * errors[name], marker="*" if name == simplest else "o", markersize=9, linestyle="", label=f"{name}")
axis.set(xlabel="bits within ε = 0.1", ylabel="wrong on test images (%)", title="Networks that fit 200 digits")
axis.legend(title="weight decay")
figure.savefig("simplest.svg")
