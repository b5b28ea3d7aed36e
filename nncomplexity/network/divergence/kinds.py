"""The kinds of divergence between two outputs, and what an answer is for each kind.

============== ===================================================== ===========================================
kind           D of outputs f from the original's g                  answers
============== ===================================================== ===========================================
``kl``         Σ_c p_c·ln(p_c / q_c), p and q the softmax of g, f    the class of the largest logit
``bernoulli``  Σ_j kl of output j's two probabilities                each output's side of a half
``mse``        ‖f − g‖² / total variance of g over the inputs        none: agreement is 1 − mse
============== ===================================================== ===========================================

`kl` and `bernoulli` are in nats. All kinds are computed in float64, if the device has it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from nncomplexity.errors import InputError
from nncomplexity.network.divergence.inputs import check_zeros_and_ones
from nncomplexity.words import shown

Between = Callable[[Tensor, Tensor], Tensor]
"""between(the original's outputs (u, ...), outputs (u, ...)) -> (u,) divergences of at least 0."""
_NO_FLOAT64 = {"mps"}
_SMALL = 1.0
"""For |d| below this, d + e^−d − 1 is computed by expm1. The direct sum would lose the digits of a small result."""
_OFF_ONE = 1e-2
"""The largest difference from 1 of a sum of probabilities. Those of 16 bits are rounded by this much."""
_MANY = 8
"""Fewer logits may look like probabilities by chance."""


@dataclass(frozen=True)
class Kind:
    """One kind of divergence.

    Attributes:
        name: the name that users give.
        between: the divergences (u,) of outputs (u, ...) from the original's.
        answers: the answers of outputs (u, ...), as whole numbers or truth values; None if outputs are numbers without classes.
        last: whether the last axis of the outputs has the classes, so that each position of the other axes is one token.
        users: whether it is a user's function.
    """

    name: str
    between: Between
    answers: Callable[[Tensor], Tensor] | None
    last: bool = False
    users: bool = False


def kind_of(given: "str | Between") -> Kind:
    """The kind with that name, or a kind made from a user's function.

    Raises:
        InputError: the argument is neither a name of a kind nor a function.
    """
    if isinstance(given, str) and given in _KINDS:
        return _KINDS[given]
    if callable(given):
        return Kind(getattr(given, "__name__", type(given).__name__), given, None, users=True)
    raise InputError(f"kind: expected {', '.join(_KINDS)}, or a function of two outputs, got {shown(given)}")


def units(outputs: Tensor, mask: Tensor | None, kind: Kind) -> Tensor:
    """Outputs (m, ...) as (u, ...): one row for each example, or for each token that counts.

    A mask (m, t) belongs to outputs (m, t, ...). Outputs with fewer axes, such as those of a classifier of whole texts, have no
    tokens, and the mask is not used.

    Raises:
        InputError: mask and outputs don't fit.

    >>> logits, mask = torch.zeros(2, 3, 5), torch.tensor([[1, 1, 0], [1, 0, 0]])
    >>> units(logits, mask, kind_of("kl")).shape, units(logits, None, kind_of("bernoulli")).shape
    (torch.Size([3, 5]), torch.Size([2, 15]))
    """
    if mask is not None and (outputs.dim() > mask.dim() > 1 or (outputs.shape == mask.shape and not kind.last)):
        if outputs.shape[: mask.dim()] != mask.shape:
            raise InputError(
                f"mask: expected the shape of the outputs' first axes, got {tuple(mask.shape)} for outputs {tuple(outputs.shape)}"
            )
        return outputs[mask.to(outputs.device).bool()]
    if kind.last:
        return outputs.reshape(-1, outputs.shape[-1])
    return outputs.reshape(len(outputs), -1) if kind.name in _KINDS else outputs


def check_mask(outputs: Tensor, mask: Tensor | None) -> None:
    """Check the mask of outputs. It is called once for each batch, because it reads the mask's numbers.

    Raises:
        InputError: outputs of tokens have a mask of another shape than (m, t), or of other numbers than 0 and 1.
    """
    if mask is None:
        return
    if 2 < outputs.dim() <= mask.dim():
        raise InputError(
            f"mask: expected a row of tokens for each input, {tuple(outputs.shape[:2])}, got {tuple(mask.shape)}; name the one that says "
            "which tokens count by `mask`, or give mask=None if all do"
        )
    if outputs.dim() > mask.dim() > 1 or outputs.shape == mask.shape:
        check_zeros_and_ones(mask)


def check_logits(outputs: Sequence[Tensor], kind: Kind) -> None:
    """Check the original's outputs.

    Raises:
        InputError: they have a NaN or an infinity that the kind doesn't take, or are probabilities where logits are expected.
    """
    for one in outputs:
        if one.isnan().any():
            raise InputError("outputs: expected numbers from the original network, got NaN; check data and model")
        # An infinitely negative logit rules a class out. `bernoulli` also has outputs that are sure.
        if (kind.last and one.isposinf().any()) or (kind.name == "mse" and one.isinf().any()):
            raise InputError("outputs: expected finite numbers from the original network, got infinity; check data and model")
    if kind.last and sum(map(len, outputs)) >= _MANY and _are_probabilities(outputs):
        raise InputError(
            "outputs: expected logits, got probabilities: they are not negative, and each row adds up to 1; return the numbers before "
            "softmax, or the logarithm of these"
        )


def _are_probabilities(outputs: Sequence[Tensor]) -> bool:
    """Whether each row is not negative and adds up to 1, and some number is neither 0 nor 1."""
    between = any(bool(((one > 0) & (one < 1)).any()) for one in outputs)
    sums = (exact(one).sum(-1) for one in outputs if bool((one >= 0).all()))
    near_one = [bool(((one - 1).abs() < _OFF_ONE).all()) for one in sums]
    return between and len(near_one) == len(outputs) and all(near_one)


def look_like_probabilities(outputs: Sequence[Tensor]) -> bool:
    """Whether there are many numbers, and all are from 0 to 1, as for probabilities and hardly ever for logits."""
    many = sum(one.numel() for one in outputs) >= _MANY
    return many and all(one.is_floating_point() and bool(((one >= 0) & (one <= 1)).all()) for one in outputs)


def exact(outputs: Tensor) -> Tensor:
    """Outputs in the most precise type of their device."""
    return outputs.float() if outputs.device.type in _NO_FLOAT64 else outputs.double()


def kl(reference: Tensor, outputs: Tensor) -> Tensor:
    """KL(softmax(g) ‖ softmax(f)) of logits g, f (u, classes), in nats: (u,).

    The terms of the sum are p·(d + e^−d − 1) with d = ln p − ln q. This sum equals Σ p·d, because Σp = Σq. No term is negative. So
    rounding never makes a divergence negative, and the divergence between equal outputs is exactly 0.

    >>> kl(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])).tolist()
    [0.0]
    """
    return _between(log_softmax(exact(reference), -1), log_softmax(exact(outputs), -1))


def bernoulli(reference: Tensor, outputs: Tensor) -> Tensor:
    """Σ_j KL(σ(g_j) ‖ σ(f_j)) of logits g, f (u, outputs), in nats: (u,)."""
    g, f = exact(reference), exact(outputs)
    pairs = [torch.stack([logsigmoid(one), logsigmoid(-one)], -1) for one in (g, f)]
    return _between(*pairs).flatten(1).sum(1)


def squared_error(reference: Tensor, outputs: Tensor) -> Tensor:
    """‖f − g‖² of outputs (u, ...): (u,)."""
    return (exact(outputs) - exact(reference)).square().flatten(1).sum(1)


def total_variance(outputs: Tensor) -> float:
    """Σ_j Var(f_j) over the rows of outputs (u, ...)."""
    rows = exact(outputs).flatten(1)
    return float((rows - rows.mean(0)).square().sum(1).mean())


def top(outputs: Tensor) -> Tensor:
    """The class of the largest logit of outputs (u, classes): (u,)."""
    return outputs.argmax(-1)


def side(outputs: Tensor) -> Tensor:
    """Whether each output's probability is above a half."""
    return outputs > 0


def _between(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Σ p·ln(p/q) over the last axis of logarithms of probabilities."""
    p, q = log_p.exp(), log_q.exp()
    # If p is 0, the term is q, but the difference of logarithms may be NaN. It is replaced before any use: `where` alone would stop a
    # NaN in the value, but not in the gradient.
    some = p > 0
    d = torch.where(some, log_p - log_q, 0.0)
    near = d.clamp(-_SMALL, _SMALL)
    terms = torch.where(some & (d.abs() < _SMALL), p * (near + torch.expm1(-near)), p * d - p + q)
    return terms.sum(-1).clamp(min=0)


_KINDS = {
    "kl": Kind("kl", kl, top, last=True),
    "bernoulli": Kind("bernoulli", bernoulli, side),
    "mse": Kind("mse", squared_error, None),
}
