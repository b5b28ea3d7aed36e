"""How many bits does a classifier of handwritten digits need? The answer depends on ε, the change of the loss that is allowed."""

import os

from matplotlib.figure import Figure
from safetensors.torch import load_file

from examples.digits import task
from nncomplexity import estimate

BUDGET = float(os.environ.get("GALLERY_BUDGET", 100))

weights = load_file("examples/digits/checkpoints/convnet.safetensors")
reports = estimate(weights, task.loss, eps=[1, 0.3, 0.1, 0.03], budget=BUDGET)

raw, lossless = reports[0].subject.raw_bits / 8, min(reports[0].subject.lossless_bits.values()) / 8
print(f"raw: {raw:,.0f} bytes, lossless: {lossless:,.0f} bytes, {task.error(weights, 'test'):.1%} wrong on test images")
for report in reports:
    wrong = task.error(report.coarse_weights(), "test")
    print(f"ε = {report.eps_told}: {report.bits / 8:,.0f} bytes, {wrong:.1%} wrong on test images")

figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
axis.loglog([report.eps for report in reports], [report.bits / 8 for report in reports], marker="o", label="smallest file found")
axis.axhline(lossless, color="0.4", linestyle=":", label="lossless, best codec")
axis.set(xlabel="ε (nats per example)", ylabel="bytes", title="Digits: a convnet of 1,922 parameters")
axis.legend()
figure.savefig("digits.svg")
