"""The effect of each setting of `tight`: the sizes with it halved, doubled and off, over seeds, on networks on which it was not chosen.

    python -m benchmarks.measuring.settings [--networks 3] [--seeds 5] [--settings learning_rate …]     # half an hour of one core
    python -m benchmarks.measuring.settings --table                                                       # the table of what was measured

The networks are perceptrons that this script trains on labels of a random teacher, each with other data; the settings were chosen on others.
Writes benchmarks/results/settings.json, row by row, and prints the table. The searches with no setting changed are measured once for all.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.reporting.settings import UNCHANGED
from benchmarks.reporting.settings import settings as table_of
from nncomplexity import estimate, loss_from
from nncomplexity.search import Tight

OUTPUT = ROOT / "benchmarks" / "results" / "settings.json"
FACTORS = (0.5, 2.0)
EPS, EFFORT = 0.05, 2048
"""ε, and the steps of a search, half of the default."""
OFF = {"batch": 1200, "scale_rate": 0.0, "soft": 0.0, "response": 0.0, "integral": 0.0, "bound": 1e9}
"""Values that switch a part off: all examples in a step, step sizes that aren't learned, rounding that is complete from the first step on, the
two parts of the controller, and its bound."""
SETTINGS = tuple(field.name for field in fields(Tight) if field.name not in ("budget", "most", "passes", "gain"))


def changed(name: str, factor: float) -> Tight:
    """`tight` with one setting multiplied by a factor, within the setting's range, or off for the factor 0; unchanged for `UNCHANGED`."""
    if name == UNCHANGED:
        return Tight(most=EFFORT)
    if factor == 0:
        return replace(Tight(most=EFFORT), **{name: OFF[name]})
    value = getattr(Tight(), name) * factor
    if isinstance(getattr(Tight(), name), int):
        value = max(1, round(value))
    if name in ("target", "soft"):
        value = min(1.0, value)
    return replace(Tight(most=EFFORT), **{name: value})


@cache
def network(
    number: int, hidden: int = 48, features: int = 16, classes: int = 5, examples: int = 1200
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """A trained perceptron's tensors, its inputs and its labels."""
    generator = torch.Generator().manual_seed(1000 + number)
    x = torch.randn(examples, features, generator=generator)
    y = torch.tanh(x @ torch.randn(features, 12, generator=generator)) @ torch.randn(12, classes, generator=generator)
    labels = y.argmax(1)
    weights = {
        "one": torch.randn(hidden, features, generator=generator) / features**0.5,
        "bias": 0.01 * torch.randn(hidden, generator=generator),
        "two": torch.randn(classes, hidden, generator=generator) / hidden**0.5,
    }
    for tensor in weights.values():
        tensor.requires_grad_()
    optimizer = torch.optim.Adam(weights.values(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        cross_entropy(outputs(weights, x), labels).backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in weights.items()}, x, labels


def outputs(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits (m, classes) of inputs (m, features)."""
    return torch.relu(x @ weights["one"].T + weights["bias"]) @ weights["two"].T


def per_example(weights: dict[str, Tensor], x: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropies (m,)."""
    return cross_entropy(outputs(weights, x), labels, reduction="none")


def measured(number: int, method: Tight, seed: int) -> Row:
    """Bits of one search."""
    weights, x, labels = network(number)
    report = estimate(weights, loss_from(per_example, (x, labels)), EPS, method=method, seed=seed)
    return {"bits": report.bits, "evaluations": report.evaluations, "cpu_seconds": report.cpu_seconds}


def run(settings: Sequence[str], networks: int, seeds: int, output: Path) -> Record:
    """Measure the rows that the file at `output` doesn't have yet."""
    record = Record.open(output, {"eps": EPS, "steps": EFFORT, "networks": networks, "seeds": seeds})
    off = [(name, 0.0) for name in settings if name in OFF]
    for name, factor in [(UNCHANGED, 1.0), *product(settings, FACTORS), *off]:
        for number, seed in product(range(networks), range(seeds)):
            key = {"setting": name, "factor": factor, "network": number, "seed": seed}
            record.row(key, partial(measured, number, changed(name, factor), seed))
        print(name, factor, flush=True)
    return record


def main() -> None:
    parser = record_options(__doc__, OUTPUT)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        run(arguments.settings, arguments.networks, arguments.seeds, arguments.output)
    print(table_of({"rows": Record.open(arguments.output, {}).rows}))


if __name__ == "__main__":
    main()
