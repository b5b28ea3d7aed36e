"""Two networks add modulo 113 without an error on their training examples. One memorised them; the other learned the rule."""

import os

from matplotlib.figure import Figure
from safetensors.torch import load_file

from examples.grokking import task
from nncomplexity import estimate

BUDGET = float(os.environ.get("GALLERY_BUDGET", 30))

figure = Figure(figsize=(6, 3.2), layout="constrained")
axis = figure.subplots()
for place, network in enumerate(("memorised", "grokked")):
    weights = load_file(f"examples/grokking/checkpoints/{network}.safetensors")
    report = estimate(weights, task.loss, eps=1, budget=BUDGET)
    print(
        f"{network}: training error {task.error(weights):.1%}, test error {task.test_error(weights):.1%}, {report.bits / 8:,.0f} bytes"
    )
    layers = [layer for layer in report.layers if len(layer.shape) == 2]
    rows = [row + 0.4 * place for row in range(len(layers))]
    axis.barh(rows, [layer.bits / 8 for layer in layers], height=0.4, label=network)

axis.set_yticks([row + 0.2 for row in range(len(layers))], [layer.name for layer in layers])
axis.set(xlabel="bytes within ε = 1", title="Addition modulo 113: matrices of the networks")
axis.invert_yaxis()
axis.legend()
figure.savefig("grokking.svg")
