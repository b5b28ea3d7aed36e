"""The settings of a descent."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Settings of a descent."""

    rate: float = 0.3
    """Adam's learning rate for latents, in bin sizes."""
    scale_rate: float = 0.1
    """The same for the logarithm of each tensor's scale."""
    final_rate: float = 0.1
    """The rates' last value over their first."""
    warmup: float = 0.15
    """The share of the steps in which the rates rise to their full value."""
    target: float = 0.97
    """Where in ε the loss is led to, in a long descent; in one of n steps n/(n + `slack`) of it, as its end strays more."""
    slack: float = 6.0
    """Steps."""
    gain: float = 0.02
    """How fast λ follows the distortion: e = log(target / rise of the loss), within ±2, adds gain · e to log λ at every step."""
    response: tuple[float, float] = (1.0, 2.0)
    """How much of e acts on log λ at once, and is forgotten as it passes: at the start, and at the end, which must be within ε."""
    release: float = 2.0
    """How many times stronger that response is where the distortion is over its target: too little pressure costs bits, too much a
    landing."""
    pressure: float = 2.0
    """λ at the start, over the ratio of the two gradients' norms."""
    follow: float = 0.1
    """The share by which the logarithm of that ratio, in λ, follows what it is at each step."""
    curvature: float = 3.0
    """c in R(u)."""
    leap: float = 4.0
    """The distortion, in ε, from which a step is taken back, unless the descent began with half of that; half as much, or little more,
    in a descent of few steps."""
    stall: int = 12
    """Steps without progress, from a third of the descent on and above one and a half times the target, that are a stall. All steps are
    halved after one once weights are wholly rounded: the latents can't hold what is asked of them."""
    soft: float = 0.5
    """The share of the steps in which weights aren't rounded all the way yet, but more at each step."""
    longest_soft: int = 64
    """The most steps for which they are not."""
    firmness: float = 0.5
    """How far they are rounded at the first: 0 not at all, 1 all the way."""
    freeze: float = 0.8
    """The share of the steps after which scales are snapped to the file's grid and stay."""
    free_precision: int = 6
    """Mantissa bits of steps before that: enough for small changes, few enough to weigh little."""
    precision: int = 3
    """Mantissa bits of steps after it."""

    def firmness_at(self, step: int, steps: int) -> float:
        """How far weights are rounded at a step of so many.

        >>> [Schedule().firmness_at(step, 40) for step in (0, 10, 20, 39)], Schedule().firmness_at(64, 400)
        ([0.5, 0.75, 1.0, 1.0], 1.0)
        """
        soft = min(self.soft * steps, self.longest_soft)
        return 1.0 if step >= soft else self.firmness + (1 - self.firmness) * step / soft
