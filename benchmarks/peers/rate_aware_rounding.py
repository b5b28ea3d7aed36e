"""Rate-aware rounding by the optimal brain surgeon, as a peer: after Conzelmann and Bamler 2025 (CERWU, arXiv 2505.18758).

Each layer is rounded on its own, for the mean squared error of its outputs and the bits of its symbols:

    tr((W − Ŵ)·H·(W − Ŵ)ᵀ) + λ · R(Ŵ),    H = Σ x·xᵀ / Σ 1 over its inputs.

1. At first R is approximated by γ·‖Ŵ‖² with γ = 1 / (2·σ²·ln 2), the bits for a Gaussian with the weights' variance σ². The objective is
   then quadratic: its minimum is W·H·(H + λ·γ·I)⁻¹, and its curvature H + λ·γ·I.
2. Column by column, each weight takes the symbol with the least sum of error and λ · bits. The error is that with all later weights at their
   optimum. The bits are −log₂ of the symbol's frequency so far, minus the bits that the quadratic already includes. The later weights then
   move to their optimum.

This is a reconstruction from the paper's abstract and introduction, not from its method section or its code, so details may differ. The grid
of a tensor divides the range between its largest weight and the negative of it into a number of steps, the same for all tensors. Biases and
other tensors without inputs have 255. A search finds this number and λ, which the paper leaves to its user.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nncomplexity.file import CoarseTensor, dense, narrow
from nncomplexity.network import Moment
from nncomplexity.search import Candidate, Problem

LEVELS = (3, 5, 9, 15, 25, 41, 65, 103, 163, 255)
"""Points of a grid, from coarse to fine."""
FINE = 255
BISECTIONS = 8
FLATTEST, STEEPEST = 1e-9, 1e2
"""The smallest and the largest λ, relative to the energy of a layer's outputs for each weight."""
DAMPING = 0.01
OCTAVE = 16
"""Step sizes for each factor of two: NNCodec's, so that both coders code the same symbols."""


@dataclass(frozen=True)
class Rounded:
    """The smallest file within ε. It decodes to `tensors`; the step sizes are those of these quantization parameters of NNCodec."""

    candidate: Candidate
    tensors: dict[str, Tensor]
    qp: dict[str, int]
    levels: int
    multiplier: float


class Layer:
    """A weight (m, k) whose inputs have a known moment.

    Args:
        weight: (m, k) float64.
        H: (k, k) the moment of its inputs, for one input.
    """

    def __init__(self, weight: Tensor, H: Tensor) -> None:
        self.weight = weight
        self.H = H + DAMPING * H.diagonal().mean() * torch.eye(len(H), dtype=H.dtype)
        self._price = 1 / (2 * math.log(2) * max(float(weight.square().mean()), 1e-300))

    def rounded(self, step: float, multiplier: float) -> Tensor:
        """(m, k) symbols for a step size and a λ."""
        m, k = self.weight.shape
        curvature = self.H + multiplier * self._price * torch.eye(k, dtype=torch.float64)
        left = torch.linalg.solve(curvature, self.H @ self.weight.T)  # (k, m), a column of the weight in each row
        L = torch.linalg.cholesky(curvature.flip(0, 1))
        U = torch.linalg.solve_triangular(L, torch.eye(k, dtype=torch.float64), upper=False).flip(0, 1)
        rates = Frequencies((left / step).round())
        found = torch.zeros(k, m, dtype=torch.float64)
        for j in range(k):
            near = (left[j] / step).round()
            choices = torch.stack([near, near - near.sign(), torch.zeros(m, dtype=torch.float64)])
            errors = (choices * step - left[j]).square() / U[j, j] ** 2
            cost = errors + multiplier * (rates.bits(choices) - self._price * (choices * step).square())
            found[j] = choices.gather(0, cost.argmin(0)[None])[0]
            rates.add(found[j])
            left[j + 1 :] -= torch.outer(U[j, j + 1 :] / U[j, j], left[j] - found[j] * step)
        return found.T


class Frequencies:
    """How often each symbol has occurred. The count of each symbol that nearest rounding would give begins at one."""

    def __init__(self, symbols: Tensor) -> None:
        self._least = int(min(symbols.min(), 0)) - 1
        span = int(max(symbols.max(), 0)) + 2 - self._least
        self._counts = torch.bincount((symbols - self._least).long().reshape(-1), minlength=span).double().clamp(max=1) + 0.1

    def bits(self, symbols: Tensor) -> Tensor:
        """−log₂ of the relative frequencies."""
        return math.log2(float(self._counts.sum())) - self._counts[self._places(symbols)].log2()

    def add(self, symbols: Tensor) -> None:
        self._counts += torch.bincount(self._places(symbols), minlength=len(self._counts))

    def _places(self, symbols: Tensor) -> Tensor:
        return (symbols - self._least).long().clamp(0, len(self._counts) - 1)


def search(problem: Problem, moments: Mapping[str, Moment], eps: float) -> Rounded | None:
    """The smallest file within ε over all grids. For each grid a bisection finds the largest λ within ε. None if there is none."""
    best: Rounded | None = None
    for levels in LEVELS:
        low, high = math.log(FLATTEST), math.log(STEEPEST)
        at = low  # first check whether the grid is fine enough
        for _ in range(1 + BISECTIONS):
            found = _candidate(problem, moments, levels, math.exp(at))
            within = problem.feasible(found.candidate, eps)
            if within and (best is None or found.candidate.bits < best.candidate.bits):
                best = found
            if at == low and not within:
                break
            low, high = (at, high) if within else (low, at)
            at = (low + high) / 2
    return best


def _candidate(problem: Problem, moments: Mapping[str, Moment], levels: int, multiplier: float) -> Rounded:
    tensors: list[CoarseTensor] = []
    qp: dict[str, int] = {}
    for spec in problem.skeleton.tensors:
        weight = problem.weights[spec.name]
        largest = float(weight.abs().max()) if spec.count else 0.0
        if not problem.quantizable(spec) or not largest:
            tensors.append(problem.exact(spec))
            continue
        moment = moments.get(spec.name)
        qp[spec.name] = parameter_of(2 * largest / ((levels if moment else FINE) - 1))
        step = step_of(qp[spec.name])
        if moment is None:
            symbols = (weight.double() / step).round()
        else:
            W = moment.matrix(weight).double()
            H = moment.H if moment.H.dim() == 2 else torch.diag(moment.H)
            H = H / float(H.diagonal().sum())  # so that the outputs of each layer have the same weight
            energy = float(((W @ H) * W).sum()) / W.numel()
            symbols = moment.back(Layer(W, H).rounded(step, multiplier * energy), spec.shape)
        tensors.append(dense(narrow(symbols), step))
    candidate = problem.candidate(tensors)
    return Rounded(candidate, dict(problem.decoded(candidate.file)), qp, levels, multiplier)


def step_of(qp: int) -> float:
    """The step (1 + (q mod 16) / 16) · 2^⌊q/16⌋ of NNCodec's quantization parameter q.

    >>> step_of(0), step_of(8), step_of(-16)
    (1.0, 1.5, 0.5)
    """
    return (1 + qp % OCTAVE / OCTAVE) * 2.0 ** (qp // OCTAVE)


def parameter_of(step: float) -> int:
    """The quantization parameter of the nearest step.

    >>> [parameter_of(step_of(qp)) for qp in (-37, 0, 5)]
    [-37, 0, 5]
    """
    exponent = math.floor(math.log2(step))
    around: Iterator[int] = iter(range(OCTAVE * exponent, OCTAVE * (exponent + 1) + 1))
    return min(around, key=lambda qp: abs(float(np.log(step_of(qp) / step))))
