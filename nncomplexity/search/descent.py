"""Gradient descent on bits and loss at once, over latents whose rounding the file holds.

It minimises J = max(L(θ̃), L(θ)) + λ·R(u), with L the loss of the *rounded* weights, so that a step measures a candidate, and with
R a smooth stand-in for the bits of the symbols, whose gradient pulls small latents to zero and leaves large ones almost alone:

    R(u) = Σ log₂(1 + c·|u|)

λ keeps both gradients about equally long, as they are in a minimum of J, and is led by the distortion, as a proportional and integral
controller leads a valve: L is to stay at its target inside ε, from which it strays at once when a tensor's last symbols go. Adam with
Nesterov's momentum (`nncomplexity.search.mover`) makes the steps, in units of the bin size, with a rate that falls to a tenth, so that
the end is calm enough to land within ε.

Rounding sets in by degrees: in the first half of the steps, at most 64, the weights are u + f·(Q(u) − u), with a firmness f from a
half to 1. What rounding does to coarse bins is noise to a gradient, and much of it there while most of the bits are still to go; no
file could hold these weights, so that they are no candidates.

A step that leaps out of reach is taken back: what it changed against the gradient at its end is put back into the middle of its bin,
and the next step is half as long.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

from torch import Tensor

from nncomplexity.errors import FormatError
from nncomplexity.file import Decodable, Decoded, Piece, decoded_together
from nncomplexity.linalg import large_network
from nncomplexity.network import Distortion
from nncomplexity.search.latent import Latent, alike, sums
from nncomplexity.search.mover import Gradients, Mover
from nncomplexity.search.schedule import Schedule


@dataclass(frozen=True)
class Visit:
    """One point of the descent: the tensors as a file would hold them, None while their rounding is soft, their loss, and how often the
    descent has stalled before.
    """

    tensors: list[Piece] | None
    loss: float
    stalls: int


_PROGRESS = 0.9
"""A rise of the loss below so much of the lowest so far is progress."""
_ABOVE = 1.5
"""How far above its target the loss must be, in targets, for a want of progress to be a stall."""
_LONG = 60
"""Steps of a descent that can come back from anywhere."""
_RETREATS = 0.1
"""The share of steps that may be taken back before a descent goes on regardless."""
_WITHIN_REACH = 2.0
"""How far away, in ε, a long descent's step may lead though that is beyond all weights zero: with an ε near that, many do."""
_RECOVERY = 2**0.125
"""By how much a step may be longer than the one before, where that was not taken back."""
_ARRIVED = 3
"""Steps at the end of a descent whose ε moves in which it no longer does."""


def descend(
    distortion: Distortion,
    latents: Sequence[Latent],
    fixed: dict[str, Piece],
    eps: float,
    steps: int,
    schedule: Schedule,
    parts: Iterator[Tensor | None] = repeat(None),
    until: float | None = None,
    nothing: float = math.inf,
) -> Iterator[Visit]:
    """Move the latents for `steps` gradients, yielding every point that was measured; 3 evaluations each.

    `fixed` holds the coarse tensors that do not move, by first name. `parts` gives the rows of the examples over which each gradient is
    taken, or None for all; the loss of a visit is over the same rows. ε moves to `until`, evenly over its logarithm, if that is given.
    Steps that lead beyond the distortion of all weights zero, `nothing`, are taken back, as are those that leap.
    """
    specs = distortion.skeleton.tensors
    lean = large_network(sum(latent.spec.count for latent in latents))
    held = {} if lean else {spec.name: fixed[spec.name].decode(spec, distortion.device) for spec in specs if spec.name in fixed}
    movers = [Mover(group, schedule, lean) for group in alike(latents)]
    leap = schedule.leap * (0.5 + 0.5 * min(1.0, steps / _LONG))
    pressure = _Pressure(schedule, steps)
    last = max(1, steps - _ARRIVED)
    length, retreats, reach, begun = 1.0, 0, math.inf, False
    kept: tuple[float, dict[str, Tensor]] | None = None
    lowest, since, hard, stalls = math.inf, 0, False, 0
    for step in range(steps):
        aim = eps if until is None else eps * (until / eps) ** min(1.0, step / last)
        target = schedule.target * aim * steps / (steps + schedule.slack)
        free, firmness = step < int(schedule.freeze * steps), schedule.firmness_at(step, steps)
        for latent in latents:
            latent.precision = schedule.free_precision if free else schedule.precision
            latent.firmness = firmness
        moving: Mapping[str, Decodable] = {latent.spec.name: latent for latent in latents}
        tensors: list[Piece] | None = None
        if firmness == 1:
            rounded = {
                latent.spec.name: one for mover in movers for latent, one in zip(mover.latents, mover.moved.coarse(), strict=True)
            }
            moving, tensors = rounded, [fixed.get(spec.name) or rounded[spec.name] for spec in specs]
        try:
            if lean:
                decoded: Mapping[str, Tensor] = Decoded(
                    specs, [fixed.get(spec.name) or moving[spec.name] for spec in specs], distortion.device
                )
            elif tensors is None:
                groups = [zip(mover.latents, mover.moved.decode(distortion.device), strict=True) for mover in movers]
                decoded = held | {latent.spec.name: weight for group in groups for latent, weight in group}
            else:
                decoded = held | decoded_together(
                    [latent.spec for latent in latents], [rounded[x.spec.name] for x in latents], distortion.device
                )
        except FormatError:  # symbols so large that the product of factors is no longer exact
            return
        rows = next(parts)
        measured = distortion.gradient(decoded, rows)
        if measured is None:
            return
        loss, grads = measured
        yield Visit(tensors, loss, stalls)
        rise = loss - distortion.original
        lost = not math.isfinite(loss)
        beyond = min(reach * aim, max(nothing, _WITHIN_REACH * aim) if steps >= _LONG else math.inf)
        if begun and (lost or (rise > beyond and retreats < _RETREATS * steps)):
            retreats, length = retreats + 1, length / 2
            if kept is None:
                for mover in movers:
                    mover.go_halfway_back()
                continue
            for mover in movers:
                mover.go_back(None if lost else grads)
            loss, grads = kept
        elif not lost:
            begun, kept = True, None if lean else measured
            if firmness == 1 and not hard:  # what softer weights have reached is nothing that these have to come back to
                hard, lowest = True, math.inf
            if rise < _PROGRESS * lowest:
                lowest, since = rise, step
            if free and step > steps / 3 and step - since >= schedule.stall and lowest > _ABOVE * target:
                lowest, since, stalls = rise, step, stalls + 1
                for latent in latents if hard else ():  # softer weights aren't held back by their steps
                    latent.halve()
            length = min(1.0, length * _RECOVERY)
            reach = min(reach, max(leap, 2 * rise / aim))
            for mover in movers:
                mover.keep_place()
        else:
            return
        if rows is not None and step == steps - 1:
            return  # where it was measured: over parts of the examples, one step in ten leaps
        # A large network's are taken one tensor at a time, and so twice.
        taken = (mover.gradients(grads) for mover in movers) if lean else [mover.gradients(grads) for mover in movers]
        ratio = _ratio(movers, taken, latents)
        limited = not math.isfinite(ratio)
        if limited:
            taken = [mover.gradients(grads, limited) for mover in movers]
            ratio = _ratio(movers, taken, latents)
        weight = pressure.at(step, loss - distortion.original, target, ratio)
        hinge = float(loss >= distortion.original)  # nothing is gained by a loss below the original's
        decay = (1 - (1 - schedule.final_rate) * step / steps) * min(1.0, (step + 1) / (schedule.warmup * steps + 1))
        again = (mover.gradients(grads, limited) for mover in movers) if lean else taken
        for mover, (pull, pull_scale, rate) in zip(movers, again, strict=True):
            gradients = [hinge * part + weight * pressed for part, pressed in zip(pull, rate, strict=True)]
            mover.step(gradients, pull_scale if free else None, length * decay)
        del measured, grads, again, taken  # or they would be held beside the next ones


class _Pressure:
    """λ = r · b · exp(c·e): r follows the ratio of the gradients' norms ‖∂L‖/‖∂R‖, b sums up the errors e so far, c·e answers the last.

    e = log(target / rise) within ±2 is positive where the loss leaves room; a loss below the original's leaves all. The ratio changes
    a hundredfold along a descent. Left to b, which is slow, such a change would be made up for too late, and then for too long.
    """

    def __init__(self, schedule: Schedule, steps: int) -> None:
        self.schedule, self.steps = schedule, steps
        self.log_ratio: float | None = None
        self.log_sum = math.log(schedule.pressure) if schedule.pressure else -math.inf

    def at(self, step: int, rise: float, target: float, ratio: float) -> float:
        """λ for a step from where the loss has risen so much."""
        if ratio > 0:
            last = math.log(ratio) if self.log_ratio is None else self.log_ratio
            self.log_ratio = last + (math.log(ratio) - last) * self.schedule.follow
        error = min(2.0, max(-2.0, math.log(target / max(rise, 1e-3 * target))))
        first, last = self.schedule.response
        response = (first + (last - first) * step / self.steps) * (1.0 if error > 0 else self.schedule.release)
        pressure = math.exp((self.log_ratio or 0.0) + self.log_sum + response * error)
        self.log_sum += self.schedule.gain * error
        return pressure


def _ratio(movers: Sequence[Mover], gradients: Iterable[Gradients], latents: Sequence[Latent]) -> float:
    """‖∂L‖/‖∂R‖ over all tensors, added up in their order."""
    losses, rates = dict[int, Sequence[float]](), dict[int, Sequence[float]]()
    for mover, (pull, _, pressed) in zip(movers, gradients, strict=True):
        for squares, grads in ((losses, pull), (rates, pressed)):
            for latent, *parts in zip(mover.latents, *(sums(grad * grad) for grad in grads), strict=True):
                squares[id(latent)] = parts
    loss, rate = (math.sqrt(sum(part for latent in latents for part in squares[id(latent)])) for squares in (losses, rates))
    return loss / rate if rate else 0.0
