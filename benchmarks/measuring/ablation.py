"""What each ingredient of `tight` buys: its bytes with one of them off, on the networks that ship with the project.

    python benchmarks/measuring/ablation.py [--folder DIR] [--eps 0.1 0.01] [--variants full …]

A variant is a method object with other settings, or the method with a part replaced for the while. Writes
benchmarks/results/ablation.json, row by row; `python benchmarks/measuring/tight_vs_peers.py --docs` puts it into docs/benchmarks.md.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.cases.networks import ROOT, SHIPPED, Case, find_cases
from benchmarks.cases.record import Record, Row
from benchmarks.reporting import comparison
from nncomplexity import estimate
from nncomplexity.codecs import Matrix, Meter
from nncomplexity.search import Tight
from nncomplexity.search.latent import Latent
from nncomplexity.search.mover import _Nadam
from nncomplexity.search.schedule import Schedule

OUTPUT = ROOT / "benchmarks" / "results" / "ablation.json"
_RELUCTANCE = 4.0


def _replaced(target: str, by: Any) -> Callable[[], AbstractContextManager[Any]]:
    """`unittest.mock.patch`, which raises AttributeError where there is nothing of that name to replace."""
    return lambda: patch(target, by)


@contextmanager
def _tables_alone() -> Iterator[None]:
    """Matrices under one table each wherever that is no more than `_RELUCTANCE` times as long."""
    by_scale = Matrix._by_scale

    def reluctant(self: Matrix, coder: Any, *arguments: Any) -> Any:
        before = coder.bits if isinstance(coder, Meter) else 0.0
        decoded = by_scale(self, coder, *arguments)
        if isinstance(coder, Meter):
            coder.bits = before + _RELUCTANCE * (coder.bits - before)
        return decoded

    with patch.object(Matrix, "_by_scale", reluctant):
        yield


def _no_rotation(A: Tensor) -> Tensor:
    return torch.eye(A.shape[-1], dtype=A.dtype)


def _finer(self: Latent, factor: float = 1.4) -> None:
    """In the place of half the steps: all numbers rounded anew under steps less fine."""
    for part in self.parts:
        part.mul_(factor)
    self.log_scale -= len(self.parts) * log(factor)


def _plain_direction(self: _Nadam, grad: Tensor, direction: Callable[[_Nadam, Tensor], Tensor] = _Nadam.direction) -> Tensor:
    direction(self, grad)
    return self.last()


@dataclass(frozen=True)
class Variant:
    """`tight` with something off."""

    method: Tight = field(default_factory=Tight)
    codec: str | None = None
    patched: Callable[[], AbstractContextManager[Any]] = nullcontext

    def bytes(self, case: Case, eps: float) -> Row:
        """The row of one case and ε."""
        with self.patched():
            found = estimate(case.weights, case.loss_fn, eps, method=self.method, codec=self.codec)
            loss = case.loss(found.coarse_weights())
        distortion = abs(loss - found.loss)
        return {"bytes": found.bits // 8, "within": found.within, "distortion": distortion, "evaluations": found.evaluations}


VARIANTS = {
    "as it is": Variant(),
    "no low rank": Variant(patched=_replaced("nncomplexity.search.opening.ranks_that_pay", lambda _: [0])),
    "low rank wherever the loss allows": Variant(patched=_replaced("nncomplexity.search.tensors.Tensors.factored", True)),
    "factors not rotated": Variant(patched=_replaced("nncomplexity.search.start.quartimax", _no_rotation)),
    "no basis of waves": Variant(
        patched=_replaced("nncomplexity.search.start._likely_periods", lambda factors: [[0]] * len(factors))
    ),
    "no descent, the start alone": Variant(
        Tight(reach=0.0), patched=_replaced("nncomplexity.search.downhill.descend", lambda *_: iter(()))
    ),
    "straight to ε, without the outline": Variant(Tight(outline=0.0)),
    "steps made 1.4 times finer, not halved": Variant(patched=_replaced("nncomplexity.search.latent.Latent.halve", _finer)),
    "no gradient, moves instead": Variant(patched=_replaced("nncomplexity.search.tensors.Tensors.with_gradient", lambda _: ())),
    "descent on the loss alone": Variant(Tight(schedule=Schedule(pressure=0.0))),
    "λ not following the distortion": Variant(Tight(schedule=Schedule(gain=0.0, response=(0.0, 0.0), follow=0.0))),
    "λ not following the gradients' norms": Variant(Tight(schedule=Schedule(follow=0.0))),
    "rounding whole from the first step": Variant(Tight(schedule=Schedule(soft=0.0))),
    "Adam without Nesterov's term": Variant(patched=_replaced("nncomplexity.search.mover._Nadam.direction", _plain_direction)),
    "steps not taken back": Variant(Tight(schedule=Schedule(leap=float("inf")))),
    "the end not rounded once more": Variant(patched=_replaced("nncomplexity.search.downhill.Downhill._press", lambda *_: None)),
    "scales not learned": Variant(Tight(schedule=Schedule(scale_rate=0.0))),
    "rounding without a dead zone": Variant(patched=_replaced("nncomplexity.search.latent.DEAD_ZONE", 0.5)),
    "one table for a matrix, no contexts": Variant(patched=_tables_alone),
    "bzip2 in place of the entropy codec": Variant(codec="bzip2"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, nargs="+", help="folders with task.py and checkpoints; those of examples/ if none")
    parser.add_argument("--cases", nargs="+", default=(), metavar="FOLDER/NAME")
    parser.add_argument("--eps", type=float, nargs="+", default=(0.1, 0.01))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=tuple(VARIANTS))
    parser.add_argument("--again", nargs="+", choices=VARIANTS, default=(), help="forget these rows and measure them again")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run(
        find_cases(arguments.folder or SHIPPED, arguments.cases),
        arguments.eps,
        arguments.variants,
        arguments.output,
        arguments.again,
    )
    print(f"\n{comparison.ablation(comparison.read(arguments.output))}")


def run(cases: list[Case], every_eps: list[float], variants: list[str], output: Path, again: Sequence[str] = ()) -> Record:
    """Measure what the file at `output` doesn't have yet."""
    record = Record.open(output, {"eps": list(every_eps)})
    record.forget(again, [case.name for case in cases])
    for case in cases:
        record.cases[case.name] = case.about()
        for eps in every_eps:
            for name in variants:
                key = {"case": case.name, "sha256": case.sha256, "eps": eps, "method": name}
                row = record.row(key, lambda variant=VARIANTS[name], case=case, eps=eps: variant.bytes(case, eps))
                print(f"{case.name} {eps:g} {name}: {row['bytes']} bytes", flush=True)
    return record


if __name__ == "__main__":
    main()
