"""The dual variable λ of min R(θ̃) subject to d(θ, θ̃) ≤ ε, led by the distortion.

Of the Lagrangian d + λ·R a minimum has λ = ‖∂d‖/‖∂R‖. So λ is that ratio, in a running mean of its logarithm, times what a proportional
and integral controller makes of the error e = log(target / d), within ±2:

    log λ = log ratio + s + k·e,    s ← s + (g / steps)·e  with e within ±1, |s| ≤ log(bound)

e > 0 leaves room: λ rises, and bits go. Above its target the distortion is answered twice as strongly, since what is beyond ε is no
candidate. The bound on s keeps λ from running away while the distortion can't follow, as when the rounding sets in.
"""

import math

from nncomplexity.search.settings import Settings

_FOLLOW = 0.1
"""The share by which the ratio's running mean follows it."""
_FLOOR = 1e-3
"""The least distortion that is told apart from none, as a share of the target."""


class Dual:
    """λ over one cycle.

    Args:
        settings: target, response, integral and bound.
        eps: ε.
        steps: of the cycle.
        integral: s, as an earlier cycle has left it.
    """

    def __init__(self, settings: Settings, eps: float, steps: int, integral: float = 0.0) -> None:
        self._settings, self._target, self._steps = settings, settings.target * eps, steps
        self.integral = integral
        self._log_ratio: float | None = None

    def observe(self, loss_norm: float, rate_norm: float) -> None:
        """Take in the norms of the two gradients."""
        if loss_norm > 0 and rate_norm > 0 and math.isfinite(loss_norm):
            log_ratio = math.log(loss_norm / rate_norm)
            last = log_ratio if self._log_ratio is None else self._log_ratio
            self._log_ratio = last + _FOLLOW * (log_ratio - last)

    def at(self, distortion: float) -> float:
        """λ for a step from where the distortion is so large."""
        settings = self._settings
        error = min(2.0, max(-2.0, math.log(self._target / max(distortion, _FLOOR * self._target))))
        response = settings.response * error * (1.0 if error > 0 else 2.0)
        value = math.exp((self._log_ratio or 0.0) + self.integral + response)
        self.ease(settings.integral / self._steps * min(1.0, max(-1.0, error)))
        return value

    def ease(self, change: float) -> None:
        """Move s by so much, within its bound."""
        most = math.log(self._settings.bound)
        self.integral = min(most, max(-most, self.integral + change))
