"""The dual variable λ of min R(θ̃) subject to d(θ, θ̃) ≤ ε, controlled by the measured distortion.

At a minimum of the Lagrangian d + λ·R, the gradients cancel, so λ = ‖∂d‖/‖∂R‖. Here λ is this ratio, as a running mean of its logarithm,
times the output of a proportional–integral controller. Its error is e = log(target / d), clipped to ±2:

    log λ = log ratio + s + k·e,    s ← s + (g / steps)·e  with e within ±1, |s| ≤ log(bound)

If e > 0, the distortion may grow: λ rises, and the bits fall. A distortion above the target gets twice the response, because weights beyond ε
are no candidate. If ε is close to the distortion of all weights zero, e < 0 is multiplied so that it is −2 at the latter: a distortion that is
little larger than ε then means that little of the network is left. s is bounded, so that λ can't grow without limit while the distortion does
not respond, as when the rounding begins.

Steps know the distortion of the latents on batches. What has to be within ε is the distortion of a candidate on all examples, which is
measured now and then. So d is the distortion on batches times the ratio of the two, as a running mean of its logarithm.
"""

import math

from nncomplexity.search.settings import Settings

_FOLLOW = 0.1
"""The weight of the newest ratio in the running mean."""
_CALIBRATE, _LARGEST = 0.3, 3.0
"""The weight of the newest ratio of distortions in its running mean, and the largest logarithm of a ratio."""
_LARGEST_ERROR, _NARROWEST = 2.0, 1.05
"""The largest magnitude of an error, and the least distortion of all weights zero that counts, as a share of the target."""
_FLOOR = 1e-3
"""Smaller distortions, as a share of the target, count as this one, so that the logarithm stays finite."""


class Dual:
    """λ over one cycle.

    Args:
        settings: target, response, integral and bound.
        eps: ε.
        steps: of the cycle.
        integral: s at the end of the cycle before.
        zero: the distortion of all weights zero.
    """

    def __init__(self, settings: Settings, eps: float, steps: int, integral: float = 0.0, zero: float = math.inf) -> None:
        self._settings, self._target, self._steps = settings, settings.target * eps, steps
        range_beyond = math.log(max(zero / self._target, _NARROWEST))
        self._steepness = max(1.0, _LARGEST_ERROR / range_beyond)
        self.integral = integral
        self._log_ratio: float | None = None
        self._log_share = 0.0
        self._shift = 0.0

    def observe(self, loss_norm: float, rate_norm: float) -> None:
        """Update the ratio by the norms of the two gradients."""
        if loss_norm > 0 and rate_norm > 0 and math.isfinite(loss_norm):
            log_ratio = math.log(loss_norm / rate_norm)
            last = log_ratio if self._log_ratio is None else self._log_ratio
            self._log_ratio = last + _FOLLOW * (log_ratio - last)

    def calibrate(self, candidate: float, batches: float) -> None:
        """Update the ratio of the candidate's distortion on all examples to that of the latents on batches."""
        if batches > 0:
            log_share = math.log(max(candidate, _FLOOR * self._target) / batches)
            self._log_share += _CALIBRATE * (min(_LARGEST, max(-_LARGEST, log_share)) - self._log_share)

    def at(self, distortion: float) -> float:
        """λ for the next step, given the present distortion on batches."""
        settings = self._settings
        distortion *= math.exp(self._log_share)
        error = math.log(self._target / max(distortion, _FLOOR * self._target))
        error = min(_LARGEST_ERROR, max(-_LARGEST_ERROR, error if error > 0 else error * self._steepness))
        response = settings.response * error * (1.0 if error > 0 else 2.0)
        value = math.exp((self._log_ratio or 0.0) + self.integral + response + self._shift)
        most = math.log(settings.bound)
        change = settings.integral / self._steps * min(1.0, max(-1.0, error))
        self.integral = min(most, max(-most, self.integral + change))
        return value

    def shift(self, by: float) -> None:
        """Add so much to log λ for the rest of the cycle, which the bound of s doesn't limit."""
        self._shift += by
