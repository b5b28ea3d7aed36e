"""Two networks add modulo 113 without an error on their training examples. One memorised them; the other learned the rule."""

from matplotlib.figure import Figure
from safetensors.torch import load_file

from examples.grokking import task
from nncomplexity import estimate

EPS = [1, 0.1]

figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
for network, mark in (("memorised", "s"), ("grokked", "o")):
    weights = load_file(f"examples/grokking/checkpoints/{network}.safetensors")
    reports = estimate(weights, task.loss, eps=EPS, budget=30)
    print(f"{network}: training error {task.error(weights):.1%}, test error {task.test_error(weights):.1%}")
    for report in reports:
        print(f"  ε = {report.eps_told}: {report.bits / 8:,.0f} bytes")
    axis.loglog(EPS, [report.bits / 8 for report in reports], marker=mark, label=network)

axis.set(xlabel="ε (nats per example)", ylabel="bytes", title="Addition modulo 113")
axis.legend()
figure.savefig("grokking.svg")
