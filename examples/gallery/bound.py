"""A bound on a classifier's error on unseen data, from the bits of its file and its errors on the training examples."""

import os

from matplotlib.figure import Figure
from safetensors.torch import load_file

from examples.digits import task
from nncomplexity import rate_distortion

BUDGET = float(os.environ.get("GALLERY_BUDGET", 100))
CHANCE = 0.9
weights = load_file("examples/digits/checkpoints/convnet.safetensors")
curve = rate_distortion(
    weights, task.loss, [1, 0.5, 0.3, 0.1], risk=task.error, n=task.TRAIN_EXAMPLES, chance=CHANCE, budget=BUDGET
)
report, bound = curve.best_bound
print(f"best at ε = {report.eps_told}: {report.bits:,} bits")
print(bound.sentence().replace(". ", ".\n"))
print(f"share of test images that the file's network gets wrong: {task.error(report.coarse_weights(), 'test'):.3f}")

eps = [report.eps for report in curve.reports]
figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
axis.semilogx(eps, [bound.value for bound in curve.bounds], marker="o", label="bound, with probability 0.95")
axis.semilogx(eps, [bound.risk for bound in curve.bounds], marker="s", label="on the training examples")
axis.semilogx(eps, [task.error(report.coarse_weights(), "test") for report in curve.reports], marker="^", label="on test images")
axis.axhline(CHANCE, color="0.4", linestyle=":", label="a guess")
axis.set(xlabel="ε (nats per example)", ylabel="share of wrong answers", ylim=(0, 1), title="Digits: bound by ε")
axis.legend(fontsize="small")
figure.savefig("bound.svg")
