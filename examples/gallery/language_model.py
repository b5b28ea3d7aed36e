"""A tiny language model, measured by the divergence of its predictions, which needs text but no labels."""

import codecs
import contextlib
import io
import os

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy

from nncomplexity import Divergence, estimate

BUDGET = float(os.environ.get("GALLERY_BUDGET", 100))
CONTEXT, EPS = 8, [1, 0.3, 0.1]
with contextlib.redirect_stdout(io.StringIO()):
    import this  # prints the Zen of Python, and keeps it with its letters exchanged
text = codecs.decode(this.s, "rot13")

letters = sorted(set(text))
codes = torch.tensor([letters.index(letter) for letter in text])
contexts, following = codes.unfold(0, CONTEXT, 1)[:-1], codes[CONTEXT:]  # (m, 8) and (m,)

torch.manual_seed(0)
network = nn.Sequential(
    nn.Embedding(len(letters), 8), nn.Flatten(), nn.Linear(8 * CONTEXT, 32), nn.ReLU(), nn.Linear(32, len(letters))
)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
for _ in range(200):
    optimizer.zero_grad()
    loss = cross_entropy(network(contexts), following)
    loss.backward()
    optimizer.step()
print(f"{len(text)} letters, loss {loss.item():.2f} nats per letter")

divergence = Divergence(lambda network, contexts: network(contexts), contexts, kind="kl")
reports = estimate(network, divergence, eps=EPS, budget=BUDGET)
for report in reports:
    seen, unseen = report.agreement.searched, report.agreement.held_out
    print(
        f"ε = {report.eps_told}: {report.bits / 8:,.0f} bytes, the same letter for {seen:.0%} of contexts, {unseen:.0%} of held-out ones"
    )

figure = Figure(figsize=(5, 3.2), layout="constrained")
axis = figure.subplots()
sizes = [report.bits / 8 for report in reports]
axis.plot(sizes, [report.agreement.searched for report in reports], marker="o", label="contexts of the search")
axis.plot(sizes, [report.agreement.held_out for report in reports], marker="s", label="held-out contexts")
axis.set(xlabel="bytes", ylabel="agreement with the original", title="A language model of the Zen of Python")
axis.legend()
figure.savefig("language_model.svg")
