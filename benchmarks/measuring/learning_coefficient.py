"""Bits beside the local learning coefficient, on checkpoints of several architectures: do the two measure the same?

    python -m benchmarks.measuring.learning_coefficient            # a quarter of an hour of one core; needs devinterp
    python -m benchmarks.measuring.learning_coefficient --table    # the table of what was measured

Urdshals et al. (arXiv 2510.12077) compare the coefficient with how far weights can be quantized. Here the networks of
`benchmarks.cases.trained` are measured at several times of their training: by `tight` with one budget and by critical bits, within ε of the
loss and of the outputs, and by the learning coefficient of the training loss. Writes benchmarks/results/learning_coefficient.json, row by row.
"""

from functools import partial

import torch

from benchmarks.cases.networks import ROOT
from benchmarks.cases.record import Record, Row, record_options
from benchmarks.cases.trained import Trained, trained
from benchmarks.reporting.learning_coefficient import learning_coefficient
from nncomplexity import Langevin, Report, estimate, local_learning_coefficient
from nncomplexity.measure import critical_bits

OUTPUT = ROOT / "benchmarks" / "results" / "learning_coefficient.json"
ARCHITECTURES = ("perceptron", "convolutional", "recurrent")
SHARES = (0.01, 0.03, 0.08, 0.2, 0.4, 0.7, 1.0)
"""The checkpoints: shares of the training that are done."""
EPS = {"loss": 0.1, "kl": 0.01}
BUDGET = 400
SAMPLERS = {
    f"llc_{localization}": Langevin(chains=2, draws=100, burn_in=100, localization=localization) for localization in (1000, 100)
}
"""The coefficient depends on its localization γ, so there are two: the default one, and a wider one."""


def measured(name: str, share: float, eps: dict[str, float], budget: float) -> Row:
    """Bits and critical bits under both distortions, and the learning coefficients, of one checkpoint."""
    given = trained(name, share)
    row: Row = {}
    for kind, loss in (("loss", given.loss), ("kl", given.divergence)):
        report = estimate(given.network, loss, eps[kind], budget=budget)
        assert isinstance(report, Report)
        (critical,) = critical_bits(given.network, loss, [eps[kind]])
        row |= {f"bits_{kind}": report.bits, f"distortion_{kind}": report.distortion, f"critical_bits_{kind}": critical}
        if kind == "loss":
            row["loss"] = report.loss
    for key, sampler in SAMPLERS.items():
        row |= coefficient(given, key, sampler)
    return row


def coefficient(given: Trained, key: str, sampler: Langevin) -> Row:
    """The learning coefficient of the training loss, with its standard error over chains and its drift."""
    found = local_learning_coefficient(given.network, given.loss, len(given.inputs), sampler=sampler)
    return {key: found.value, f"{key}_error": found.error, f"{key}_drift": found.drift}


def main() -> None:
    arguments = record_options(__doc__, OUTPUT).parse_args()
    torch.set_num_threads(1)
    samplers = {key: vars(sampler) for key, sampler in SAMPLERS.items()}
    record = Record.open(arguments.output, {"eps": EPS, "budget": BUDGET, "samplers": samplers})
    if not arguments.table:
        for name in ARCHITECTURES:
            for share in SHARES:
                row = record.row({"network": name, "share": share}, partial(measured, name, share, EPS, BUDGET))
                print(row, flush=True)
    print(learning_coefficient({"rows": record.rows}))


if __name__ == "__main__":
    main()
