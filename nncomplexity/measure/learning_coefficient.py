"""The local learning coefficient λ(θ), a measure of complexity from singular learning theory. It says how degenerate a minimum is.

    λ̂(θ) = nβ · (E[L(w)] − L(θ)),   w ~ p(w) ∝ exp(−nβ · L(w) − γ/2 · ‖w − θ‖²),   β = 1/ln n

for a mean loss L over n examples, in nats (Lau et al. 2023). At a regular minimum, λ is half the number of parameters. If
parameters can change without a change of the loss, λ is smaller. The free energy of a neighbourhood of θ is n·L(θ) + λ·ln n nats to
first order, which is the length of a two-part code. Unlike the bits of a file, λ is an estimate, not a bound.

The package devinterp draws the samples by Langevin dynamics: w ← w − (s/2) · (nβ · ∇L(w) + γ · (w − θ)) + √s · N(0, 1) with step size s.
Gradients use all examples, so there is no noise from batches.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.linalg import usual_switches
from nncomplexity.measure.arguments import check_function, checked_seed
from nncomplexity.network import Distortion, LossFn, ModuleOrTensors, Probe, is_running_statistic, preserved_random_state, random
from nncomplexity.search import Progress, unseen
from nncomplexity.words import checked_count, checked_number, listed

_POWER_ITERATIONS, _EVERY = 8, 4
"""Power iterations at θ for the largest curvature, and the number of steps of the chain from one later iteration to the next."""
_STABLE = 0.3
"""s · (nβ · h + γ) for the largest curvature h. The dynamics diverge at 4. At this value, the sampled variance in that direction is
8 % too large."""
_TINY = 1e-30
"""Replaces a norm of zero as a divisor. A direction has norm zero where the loss is flat."""


@dataclass(frozen=True)
class Langevin:
    """The settings of the sampler of weights near θ.

    Attributes:
        chains: independent chains, each from θ.
        draws: steps of each chain over which the loss is averaged. Each step needs a gradient.
        burn_in: steps of each chain before the draws.
        localization: γ, the precision of the Gaussian around θ. It matters: directions in which nβ times the curvature is below γ
            have hardly any effect.
        step: the step size s. None takes the largest safe step size, from the largest curvature that a chain meets.

    Raises:
        InputError: a setting isn't usable.
    """

    chains: int = 4
    draws: int = 200
    burn_in: int = 200
    localization: float = 1000.0
    step: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("chains", 1), ("draws", 1), ("burn_in", 0)):
            object.__setattr__(self, name, checked_count(name, getattr(self, name), least))
        for name in ("localization", "step"):
            given = getattr(self, name)
            if given is not None or name == "localization":
                object.__setattr__(self, name, checked_number(name, given, "a positive number", lambda value: value > 0))


@dataclass(frozen=True)
class LearningCoefficient:
    """An estimate of λ(θ).

    Attributes:
        value: the mean over the chains.
        error: the standard error of the mean; None for a single chain.
        drift: the estimate from the second half of the draws minus that from the first half, as a mean over the chains. If it is much
            larger than the error, the chains have not reached equilibrium: use more steps, or a larger γ.
        chains: the estimate of each chain.
        step: the step size s.
        evaluations: loss evaluations; a gradient counts three.
    """

    value: float
    error: float | None
    drift: float
    chains: tuple[float, ...]
    step: float
    evaluations: float


def langevin_dynamics() -> Any:
    """The sampling optimizer of devinterp. Raises InputError if devinterp isn't installed."""
    try:
        from devinterp.optim import SGMCMC
    except ImportError as error:
        raise InputError(
            f"llc: expected the package devinterp, which samples the weights, got {error}; pip install 'nncomplexity[llc]'"
        ) from None
    return SGMCMC


def check_examples(n: object) -> int:
    """n as a whole number. Raises InputError unless it is at least 3: for smaller n, β = 1/ln n isn't between 0 and 1."""
    if n is None:
        raise InputError("n: expected the number of examples of loss_fn, for the learning coefficient, got none; give n")
    return checked_count("n", n, 3)


def local_learning_coefficient(
    target: ModuleOrTensors,
    loss_fn: LossFn,
    n: int,
    *,
    sampler: Langevin | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LearningCoefficient:
    """λ̂ of a network at its weights. It is deterministic for a seed, and the network does not change.

    Args:
        target: a module, whose parameters are sampled, or a mapping of names to tensors, whose tensors with a gradient are sampled.
            Running statistics are recognised by their names, and do not change.
        loss_fn: loss_fn(module) or loss_fn(mapping) -> the mean loss of the n examples in nats, differentiable.
        n: number of examples, at least 3.
        sampler: the settings of the chains.
        seed: the seed of the chains' noise.
        progress: called as `progress(steps done, steps in all, what)`.

    Returns:
        The estimate, with its standard error over chains and its drift.

    Raises:
        InputError: devinterp isn't installed, an argument isn't usable, the loss has no gradient, or a chain diverges.

    Around a quadratic minimum with curvatures hᵢ it is ½ · Σ nβ·hᵢ / (nβ·hᵢ + γ), here 2.23 of 3:

    >>> weights = {"w": torch.ones(6)}
    >>> found = local_learning_coefficient(weights, lambda w: 10 * ((w["w"] - 1) ** 2).sum(), n=1000, sampler=Langevin(draws=500))
    >>> abs(found.value - 2.23) < 0.3
    True
    """
    dynamics = langevin_dynamics()
    check_function("progress", progress)
    sampler, seed = sampler or Langevin(), checked_seed(seed)
    examples = check_examples(n)
    inverse_temperature = examples / math.log(examples)
    with preserved_random_state(), usual_switches(), Distortion(target, loss_fn) as distortion:
        length = sampler.burn_in + sampler.draws
        # If no step size is given, one more chain finds it. This chain is as long as a burn-in.
        steps = sampler.chains * length + (0 if sampler.step else sampler.burn_in)
        done = count()

        def step_done() -> None:
            (progress or unseen)(min(next(done), steps), steps, "sampling weights for the learning coefficient")

        walk = _LangevinChains(distortion, dynamics, inverse_temperature, sampler.localization, step_done)
        step = sampler.step or _STABLE / walk.precision(sampler.burn_in, seed)
        rises = [
            [
                loss - distortion.original
                # The chains of successive seeds have different noise.
                for loss in islice(walk.losses(step, sampler.chains * seed + chain), sampler.burn_in, length)
            ]
            for chain in range(sampler.chains)
        ]
    estimates = [inverse_temperature * fmean(rise) for rise in rises]
    # With an odd number of draws, the middle one counts for both halves. So a single draw has a drift of 0.
    halves = [inverse_temperature * (fmean(rise[len(rise) // 2 :]) - fmean(rise[: (len(rise) + 1) // 2])) for rise in rises]
    return LearningCoefficient(
        value=fmean(estimates),
        error=stdev(estimates) / math.sqrt(len(estimates)) if len(estimates) > 1 else None,
        drift=fmean(halves),
        chains=tuple(estimates),
        step=step,
        evaluations=distortion.evaluations,
    )


class _LangevinChains:
    """Weights that move by Langevin dynamics. All chains start at θ."""

    def __init__(
        self, distortion: Distortion, dynamics: Any, inverse_temperature: float, localization: float, step_done: Callable[[], None]
    ) -> None:
        self._distortion, self._dynamics, self._step_done = distortion, dynamics, step_done
        self._inverse_temperature, self._localization = inverse_temperature, localization
        found = distortion.gradient(distortion.weights)
        if found is None:
            raise InputError("llc: expected a loss with a gradient, got one without; return a tensor that depends on the weights")
        # The running statistics in a mapping may have a gradient, but training never changes them by it.
        self._names = [name for name in found[1] if not is_running_statistic(name)]
        if not self._names:
            raise InputError("llc: expected a loss that depends on the weights, got one that does not")
        self._check_unreached([name for name in distortion.unreached if not is_running_statistic(name)])

    def _check_unreached(self, missed: Sequence[str]) -> None:
        """Raises InputError if the loss uses tensors that no gradient reaches. They would not be sampled, and λ̂ would be too small."""
        weights, others = self._distortion.weights, Probe(self._distortion.weights, random)

        def matter(names: Iterable[str]) -> bool:
            return self._distortion.again({**weights, **{name: others[name] for name in names}}) != self._distortion.original

        if missed and matter(missed):
            used = [name for name in sorted(missed) if matter([name])] or sorted(missed)
            raise InputError(
                f"llc: expected a gradient for each tensor that the loss uses, got none for {listed(used)}; let it use them as they are, not "
                "under no_grad(), detached or copied"
            )

    def losses(self, step: float, seed: int) -> Iterator[float]:
        """An endless chain: the loss at each of its points, starting with θ."""
        weights, noise = self._begin(), self._noise(seed)
        dynamics = self._chain(weights, step)
        while True:
            loss, grads = self._slope(weights)
            yield loss
            self._step(dynamics, weights, grads, noise)

    def precision(self, steps: int, seed: int) -> float:
        """nβ·h + γ for the largest curvature h of the loss that a chain meets.

        h comes from power iteration: a difference of two gradients is the Hessian times a direction. The two points are as far apart as a
        chain moves in that direction, and the chain's step size follows the largest curvature so far. θ alone is not enough, because
        the curvature at θ may be a hundred times smaller.
        """
        weights, noise = self._begin(), self._noise(seed)
        direction = [torch.randn(part.shape, generator=noise, device=part.device, dtype=part.dtype) for part in weights]
        largest = self._localization
        dynamics = self._chain(weights, 0.0)
        _, grads = self._slope(weights)
        for number in range(max(steps, _POWER_ITERATIONS)):
            if number < _POWER_ITERATIONS or number % _EVERY == 0:
                # One standard deviation of a Gaussian with this precision, so that h is the curvature at the distance that chains reach.
                distance = 1 / math.sqrt(largest)
                share = distance / max(_norm(direction), _TINY)
                there = [weight.detach() + share * part for weight, part in zip(weights, direction, strict=True)]
                direction = [(grad - here) / distance for grad, here in zip(self._slope(there)[1], grads, strict=True)]
                largest = max(largest, self._inverse_temperature * _norm(direction) + self._localization)
            if number >= _POWER_ITERATIONS:
                dynamics.param_groups[0]["lr"] = _STABLE / largest
                self._step(dynamics, weights, grads, noise)
                _, grads = self._slope(weights)
        return largest

    def _begin(self) -> list[nn.Parameter]:
        """The part of θ that moves, in float32 or a more precise type."""
        device = self._distortion.device
        weights = (self._distortion.weights[name].to(device) for name in self._names)
        # A step of a chain is far smaller than the spacing of 16-bit floats, and would be rounded away.
        return [nn.Parameter(weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True)) for weight in weights]

    def _noise(self, seed: int) -> torch.Generator:
        return torch.Generator(self._distortion.device).manual_seed(seed)

    def _chain(self, weights: list[nn.Parameter], step: float) -> Any:
        return self._dynamics.sgld(weights, lr=step, nbeta=self._inverse_temperature, localization=self._localization)

    def _step(self, dynamics: Any, weights: list[nn.Parameter], grads: list[Tensor], noise: torch.Generator) -> None:
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad
        dynamics.step(noise_generator=noise)
        self._step_done()

    def _slope(self, weights: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
        """The loss and its gradients at these weights."""
        moved = {name: weight.detach() for name, weight in zip(self._names, weights, strict=True)}
        found = self._distortion.gradient(self._distortion.weights | moved)
        if found is None or not math.isfinite(found[0]):
            raise InputError(
                "llc: expected chains that stay near the weights, got one that diverged; give the sampler a smaller step"
            )
        return found[0], [found[1][name].to(weight.dtype) for name, weight in zip(self._names, weights, strict=True)]


def _norm(parts: list[Tensor]) -> float:
    return math.sqrt(sum(float((part**2).sum()) for part in parts))
