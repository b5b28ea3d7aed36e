"""Critical bits: how coarsely all weights of a network can be quantized before its loss changes by more than ε.

The uniform quantizer with n = 2k + 1 levels rounds each element of a tensor w to a multiple of max|w| / k, from −max|w| to max|w|. The critical
bits are log₂ n for the coarsest such quantizer whose distortion is within ε, in bits for each weight. There is no search over forms or steps of
single tensors, and no coding, so this is not the size of a file. Urdshals et al. (arXiv 2510.12077) compare such a threshold with the local
learning coefficient.
"""

import math

from torch import Tensor

from nncomplexity.measure.arguments import SeveralEps, check_function, checked_eps
from nncomplexity.network import Distortion, LossFn, ModuleOrTensors, Patterns, constant_loss, is_running_statistic, kept_exactly
from nncomplexity.search import Progress, unseen
from nncomplexity.words import Eps, Relative

_PER_OCTAVE, _FINEST = 4, 16
"""Numbers of levels that are tried for each factor of two, so the answer is exact to a quarter of a bit, and the bits of the finest
quantizer."""


def critical_bits(
    target: ModuleOrTensors,
    loss_fn: LossFn,
    eps: Eps | SeveralEps,
    *,
    include: Patterns = None,
    exclude: Patterns = None,
    progress: Progress | None = None,
) -> tuple[float | None, ...]:
    """log₂ of the fewest levels within each ε.

    Quantizers are tried from coarse to fine, at most 57, with one evaluation each. The first is that of one level: all weights are zero.

    Args:
        target: a module, or a mapping of names to tensors. It does not change.
        loss_fn: the loss, or a `Divergence`, as in `estimate`.
        eps: one or several ε, as in `estimate`.
        include: the tensors to quantize, as in `estimate`.
        exclude: the tensors to keep, as in `estimate`. Running statistics, integers and tensors with infinities are kept too.
        progress: called as `progress(done, total, what)`.

    Returns:
        For each ε, the bits for each weight, or None where 2¹⁶ + 1 levels are not enough.

    Raises:
        InputError: an argument isn't usable.

    Weights of −1, 0 and 1 need three levels, which are log₂ 3 bits:

    >>> import torch
    >>> weights = {"w": torch.tensor([-1.0, 0.0, 1.0, 1.0])}
    >>> critical_bits(weights, lambda network: ((network["w"] - weights["w"]) ** 2).sum(), [0.1, 3.0])
    (1.584962500721156, 0.0)
    """
    asked, tried = checked_eps(eps), _levels()
    check_function("progress", progress)
    found: dict[float, float] = {}
    with Distortion(target, loss_fn) as distortion:
        zero_loss = constant_loss(distortion) if any(isinstance(one, Relative) for one in asked) else None
        values = [one.of(loss=distortion.original, zero_loss=zero_loss) if isinstance(one, Relative) else one for one in asked]
        kept = kept_exactly(distortion.skeleton, distortion.weights, include, exclude)
        moving = [
            spec.name
            for spec in distortion.skeleton.tensors
            if spec.quantizable and spec.count and spec.name not in kept and not is_running_statistic(spec.name)
        ]
        for done, k in enumerate(tried):
            if len(found) == len(set(values)):
                break
            (progress or unseen)(done, len(tried), f"quantizing to {2 * k + 1:,} levels")
            candidate = {name: _quantized(distortion.weights[name], k) for name in moving}
            change = abs(distortion.loss(distortion.weights | candidate) - distortion.original)
            found |= {value: math.log2(2 * k + 1) for value in values if change <= value and value not in found}
    return tuple(found.get(value) for value in values)


def _levels() -> list[int]:
    """The numbers k of levels on each side of zero, from coarse to fine."""
    return sorted({round(2 ** (step / _PER_OCTAVE) / 2) for step in range(_PER_OCTAVE * _FINEST + 1)} | {0})


def _quantized(tensor: Tensor, k: int) -> Tensor:
    """Each element rounded to a multiple of max|w| / k; zero for k = 0."""
    largest = float(tensor.abs().max())
    if k == 0 or largest == 0:
        return tensor.new_zeros(tensor.shape)
    step = largest / k
    # In float64, because a float16 can't hold the step of a fine quantizer.
    return (tensor.double() / step).round().mul_(step).to(tensor.dtype)
