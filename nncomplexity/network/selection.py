"""The tensors that a search may change, and those that it must keep exactly."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.network.weights import Skeleton, TensorSpec, is_finite

Patterns = str | Sequence[str] | None
"""Glob patterns on tensor names, as in `fnmatch`: `*` is any text, also with dots, `?` is a character, `[…]` is one of several."""

_NEAR = 4
"""The number of names to list if a pattern matches none."""
_SMALLEST, _LARGEST = 2.0**-400, 2.0**400
"""The limits of magnitudes whose squares, and products of these, are within the range of float64."""


def kept_exactly(
    skeleton: Skeleton, weights: Mapping[str, Tensor], include: Patterns = None, exclude: Patterns = None
) -> frozenset[str]:
    """The first names of the tensors that are kept exactly; their bits are counted.

    These are: tensors that match `exclude`; tensors that don't match `include`, if it is given; tensors with an infinity, such as
    masks and the ranges of observers without data; and float64 tensors whose largest magnitude is beyond 2^±400, because their squares are
    out of range. A pattern matches a tied tensor by any of its names. Integers and truth values are always kept, and are not in the
    result.

    Raises:
        InputError: a pattern matches no name.

    >>> import torch
    >>> from nncomplexity.network.weights import skeleton_of
    >>> weights = {"embed.weight": torch.ones(2), "head.weight": torch.ones(3), "head.bias": torch.ones(3)}
    >>> sorted(kept_exactly(skeleton_of(weights), weights, include="*.weight", exclude=["embed.*"]))
    ['embed.weight', 'head.bias']
    """
    included, excluded = _checked("include", include, skeleton), _checked("exclude", exclude, skeleton)
    return frozenset(
        spec.name
        for spec in skeleton.tensors
        if spec.quantizable
        and (
            (include is not None and not _matches(spec, included)) or _matches(spec, excluded) or not _workable(weights[spec.name])
        )
    )


def _workable(tensor: Tensor) -> bool:
    """Whether a search can compute with the tensor's numbers in float64, and none of them is a NaN."""
    if tensor.dtype != torch.float64 or not tensor.numel():
        return is_finite(tensor)
    largest = float(tensor.abs().max())
    return largest == 0 or _SMALLEST <= largest <= _LARGEST


def patterns_of(argument: str, given: Patterns) -> list[str] | None:
    """The patterns as a list, or None if none are given. Raises InputError, which names the argument, if one is not a text."""
    if given is None:
        return None
    patterns = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError(f"{argument}: expected glob patterns of tensor names, such as 'encoder.*', got {pattern!r}")
    return patterns


def _matches(spec: TensorSpec, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in spec.names for pattern in patterns)


def _checked(argument: str, given: Patterns, skeleton: Skeleton) -> list[str]:
    """The patterns, after a check that each of them matches a name."""
    patterns = patterns_of(argument, given) or []
    names = [name for spec in skeleton.tensors for name in spec.names]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, _NEAR, 0.3) or names[:_NEAR]
            raise InputError(f"{argument}: no tensor's name matches {pattern!r}; names near it: {', '.join(near)}")
    return patterns
