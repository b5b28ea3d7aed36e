"""How a file codes each tensor: its form, its bits, and the effective rank of the original tensor."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nncomplexity.codecs import Entropy
from nncomplexity.file import CoarseFile, LowRank, Pieces, count_bits, form_of
from nncomplexity.linalg import (
    RANKED,
    SMALL,
    Sketch,
    effective_rank,
    effective_rank_of,
    effective_ranks,
    large_matrix,
    matrix_view,
)
from nncomplexity.measure.report import Layer
from nncomplexity.network import TensorSpec, is_finite, stacked
from nncomplexity.search import Problem
from nncomplexity.words import python_numbers


def ranks_by_name(problem: Problem) -> dict[str, float | None]:
    """The effective rank of each tensor by first name; None if it has none."""
    found: dict[str, float | None] = {spec.name: None for spec in problem.skeleton.tensors}
    shapes: dict[tuple[int, int], list[str]] = {}
    for spec in problem.skeleton.tensors:
        weight, shape = problem.weights[spec.name], matrix_view(spec.shape)
        if shape is None or not weight.is_floating_point():
            continue
        if spec.count <= SMALL and not large_matrix(shape):
            shapes.setdefault(shape, []).append(spec.name)
        elif is_finite(weight):
            found[spec.name] = _effective_rank(weight.reshape(shape))
    # Small matrices of one shape are decomposed in one call: a call for each would cost more than the arithmetic.
    for shape, names in shapes.items():
        matrices = stacked([problem.weights[name].reshape(shape).double() for name in names])
        finite = python_numbers(torch.isfinite(matrices).flatten(1).all(1))
        # One matrix with an infinity or a NaN would make the decomposition of the whole stack fail.
        if all(finite):
            found |= zip(names, effective_ranks(matrices), strict=True)
        else:
            found |= {name: effective_rank(matrix) for name, matrix, fine in zip(names, matrices, finite, strict=True) if fine}
    return found


def _effective_rank(matrix: Tensor) -> float | None:
    if not large_matrix(matrix.shape):
        return effective_rank(matrix.double())
    return effective_rank_of(Sketch(matrix).values()) if min(matrix.shape) <= RANKED else None


def layers_of(file: CoarseFile, ranks: Mapping[str, float | None]) -> tuple[tuple[Layer, ...], float]:
    """The layers of a file, and the bits that belong to no single layer.

    A byte codec codes all tensors as one string. Its bits are divided in proportion to the bits of each tensor with the entropy
    codec's models.
    """
    weights = count_bits(file.skeleton, file.tensors, file.version)
    total = sum(weights)
    # With the entropy codec, the difference to the file's bits belongs to no layer: lengths of tables and the padding of the last byte.
    scale = 1.0 if total <= file.bits and isinstance(file.codec, Entropy) else file.bits / total if total else 0.0
    layers = []
    for spec, coarse, bits in zip(file.skeleton.tensors, file.tensors, weights, strict=True):
        form = form_of(coarse)
        layout = _layout(coarse, spec) if isinstance(coarse, Pieces) else None
        one = coarse.pieces[0] if isinstance(coarse, Pieces) and len(coarse.pieces) == 1 else coarse
        # A product of two factors has two steps. Their geometric mean is the step to compare with a dense tensor's.
        step = math.sqrt(one.step_a * one.step_b) if isinstance(one, LowRank) else getattr(one, "step", None)
        rank = one.rank if isinstance(one, LowRank) else None
        if not spec.quantizable and form == "dense":  # an integer tensor is stored as symbols with step 1, so nothing was lost
            form, step = "lossless", None
        if spec.base is not None and form == "zero":
            form = "unchanged"
        layers.append(
            Layer(
                name=spec.name,
                shape=spec.shape,
                form=form,
                rank=rank,
                step=step,
                bits=bits * scale,
                effective_rank=ranks[spec.name],
                names=spec.names,
                dtype=str(spec.dtype).removeprefix("torch."),
                relative=spec.base is not None,
                layout=layout,
            )
        )
    return tuple(layers), file.bits - sum(layer.bits for layer in layers)


def _layout(coarse: Pieces, spec: TensorSpec) -> str:
    """A tensor's layout in words, with the forms and ranks of its blocks."""
    words = coarse.layout.in_words(spec.real.shape)
    if len(coarse.pieces) == 1:
        return words
    forms = [f"low rank {piece.rank}" if isinstance(piece, LowRank) else form_of(piece) for piece in coarse.pieces]
    return f"{words}: {', '.join(forms)}"
