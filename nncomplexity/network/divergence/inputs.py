"""Inputs of a network in batches, from a tensor, a dict of tensors, or a DataLoader of these. A DataLoader is read once."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from nncomplexity.errors import InputError
from nncomplexity.words import listed

Data = Tensor | dict[str, Tensor]
Mask = str | Callable[[Any], Tensor] | Tensor | None
"""Which tokens count: the key of a dict of tensors, a function of the inputs, or a tensor (n, t)."""
USUAL_MASK = "attention_mask"
"""The key of the mask in the inputs of the package transformers."""
NO_LABEL = -100
"""The label of examples and tokens that have none, as in PyTorch's `cross_entropy`. They are neither right nor wrong."""
_SPLIT_SEED = 0
"""Fixed, so that searches with different seeds hold out the same inputs, and their results can be compared."""


@dataclass(frozen=True)
class Batch:
    """The inputs of one forward pass, with one row for each example."""

    inputs: Data
    """(m, ...), or tensors of such shapes by name."""
    labels: Tensor | None = None
    """(m, ...): the right answers, if they are known."""
    mask: Tensor | None = None
    """(m, t): which tokens count."""

    def __len__(self) -> int:
        return len(next(iter(self.named.values())))

    @property
    def named(self) -> dict[str, Tensor]:
        """The tensors of the inputs by name. A single tensor has the empty name."""
        return {"": self.inputs} if isinstance(self.inputs, Tensor) else self.inputs

    def take(self, rows: Tensor) -> "Batch":
        """The examples with these numbers, (k,) int64."""
        taken = _each(self.inputs, lambda tensor: tensor[rows.to(tensor.device)])
        return Batch(taken, *(None if one is None else one[rows.to(one.device)] for one in (self.labels, self.mask)))

    @property
    def layout(self) -> tuple[object, ...]:
        """What batches must have in common to be joined: the tensors' names, dtypes, devices, and shapes but for the number of rows."""
        tensors = [*self.named.items(), ("labels", self.labels), ("mask", self.mask)]
        return tuple((name, one.dtype, one.device, one.shape[1:]) for name, one in tensors if one is not None)


def read(given: object, batch: int, argument: str, *, labels: Tensor | None = None, mask: Mask = None) -> tuple[Batch, ...]:
    """The user's inputs in batches. They are a tensor, a dict of tensors, a pair of one of these and labels, or a DataLoader of these.

    Tensors are divided into batches of `batch` rows. The batches of a loader stay as they are, because the user chose a size that fits
    the memory.

    Args:
        given: the inputs.
        batch: the number of rows of a batch.
        argument: the name of the argument, for messages.
        labels: (n, ...) right answers for all rows, if the inputs have none.
        mask: which tokens count.

    Returns:
        The batches, with their labels and masks.

    Raises:
        InputError: the inputs are of another type, there are none, or labels or mask don't fit them.

    >>> [len(batch) for batch in read(torch.zeros(5, 3), 2, "inputs")]
    [2, 2, 1]
    """
    if isinstance(given, Tensor | Mapping) or _is_pair(given):
        whole = _batch(given, argument)
        count = len(whole)
        batches = [whole.take(torch.arange(start, min(start + batch, count))) for start in range(0, count, batch)]
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
        batches = [one for one in (_batch(each, argument) for each in given) if len(one)]
    else:
        hint = (
            "; wrap it: DataLoader(dataset, batch_size=256)" if hasattr(given, "__getitem__") and hasattr(given, "__len__") else ""
        )
        hint = "" if isinstance(given, str | bytes) else hint
        raise InputError(
            f"{argument}: expected a tensor, a dict of tensors or a DataLoader of either, got {type(given).__name__}{hint}"
        )
    if not batches:
        raise InputError(f"{argument}: expected at least one example, got none")
    return tuple(_with_masks(_with_labels(batches, labels, argument), mask, argument))


def count(batches: Sequence[Batch]) -> int:
    """The number of examples."""
    return sum(len(batch) for batch in batches)


def taken(batches: Sequence[Batch], rows: Tensor) -> list[tuple[int, Tensor]]:
    """Where the examples with the numbers in `rows` (k,) are: for each batch that has some, its number and the rows in it."""
    rows, begin, found = rows.cpu(), 0, []
    for number, batch in enumerate(batches):
        here = rows[(rows >= begin) & (rows < begin + len(batch))] - begin
        if len(here):
            found.append((number, here))
        begin += len(batch)
    return found


def groups_to_join(layouts: Sequence[object], sizes: Sequence[int], most: int) -> list[list[int]]:
    """Groups of batches to join: of one layout, and of at most `most` examples together. No batch has more than that.

    >>> groups_to_join(["a", "b", "a", "a"], [2, 2, 2, 1], most=4)
    [[0, 2], [1], [3]]
    """
    groups: list[list[int]] = []
    last: dict[object, list[int]] = {}
    for number, (layout, size) in enumerate(zip(layouts, sizes, strict=True)):
        group = last.get(layout)
        if group is None or sum(sizes[one] for one in group) + size > most:
            last[layout] = group = []
            groups.append(group)
        group.append(number)
    return groups


def joined(batches: Sequence[Batch]) -> Batch:
    """The examples of batches that have one layout, as one batch."""
    if len(batches) == 1:
        return batches[0]
    named = {name: torch.cat([batch.named[name] for batch in batches]) for name in batches[0].named}
    labels = [batch.labels for batch in batches if batch.labels is not None]
    masks = [batch.mask for batch in batches if batch.mask is not None]
    inputs = named[""] if isinstance(batches[0].inputs, Tensor) else named
    return Batch(inputs, torch.cat(labels) if labels else None, torch.cat(masks) if masks else None)


def digest(batches: Sequence[Batch]) -> str:
    """sha256 of all inputs, in hexadecimal."""
    found = hashlib.sha256()
    for batch in batches:
        tensors = batch.named
        for name in sorted(tensors):
            # The digest includes name, dtype and shape, because different inputs can have the same bytes.
            found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
            found.update(tensors[name].contiguous().cpu().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def counting(answers: Tensor, mask: Tensor | None) -> Tensor:
    """Answers or labels (m, ...) as (m, k), 0 for the tokens that don't count.

    A mask (m, t) belongs to answers (m, t, ...). Answers with fewer axes, such as those of a classifier of whole texts, have no tokens.

    Raises:
        InputError: the mask has other numbers than 0 and 1.

    >>> counting(torch.tensor([[4, 5], [6, 7]]), torch.tensor([[1, 1], [1, 0]])).tolist()
    [[4, 5], [6, 0]]
    """
    answers = answers.detach().cpu().long()
    if mask is not None and _of_tokens(answers, mask):
        check_zeros_and_ones(mask)
        answers = answers * mask.cpu().bool().reshape(*mask.shape, *[1] * (answers.dim() - mask.dim()))
    return answers.reshape(len(answers), -1)


def guess_error(batches: Sequence["Batch"]) -> float | None:
    """The error of an answer that is always the most frequent label, of the examples or of the tokens that count.

    It is None if a batch has no labels, or if all labels are equal. Labels of -100 are left out.
    """
    found = []
    for batch in batches:
        labels, mask = batch.labels, batch.mask
        if labels is None:
            return None
        if mask is not None and _of_tokens(labels, mask):
            labels = labels[mask.to(labels.device).bool()]
        known = labels != NO_LABEL
        found.append(labels if bool(known.all()) else labels[known])
    # Rows of labels with different lengths, and no mask, are no answers of one kind.
    return most_frequent_error(torch.cat(found)) if found and len({one.shape[1:] for one in found}) == 1 else None


def check_zeros_and_ones(mask: Tensor) -> None:
    """Raises InputError if a mask has other numbers than 0 and 1, as one that is added to attention scores has."""
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(
            f"mask: expected 1 for each token that counts and 0 for the others, got numbers from {float(mask.min()):.4g} to "
            f"{float(mask.max()):.4g}; give the mask of the tokenizer, or name another one by `mask`"
        )


def check_labels(labels: Tensor, classes: int, argument: str) -> None:
    """Check labels.

    Raises:
        InputError: they are neither classes from 0 on, nor -100 for no label.

    >>> check_labels(torch.tensor([1, 2, 3]), 3, "labels")
    Traceback (most recent call last):
        ...
    nncomplexity.errors.InputError: labels: expected classes from 0 to 2, or -100 for no label, got numbers from 1 to 3; count classes from 0
    """
    known = labels[labels != NO_LABEL].double()
    if len(known) and not bool(((known >= 0) & (known < classes) & (known == known.floor())).all()):
        ends = f"from {float(known.min()):.4g} to {float(known.max()):.4g}"
        raise InputError(
            f"{argument}: expected classes from 0 to {classes - 1}, or {NO_LABEL} for no label, got numbers {ends}; count classes from 0"
        )


def _of_tokens(answers: Tensor, mask: Tensor) -> bool:
    return mask.dim() > 1 and answers.shape[: mask.dim()] == mask.shape


def most_frequent_error(labels: Tensor) -> float | None:
    """The error rate of an answer that is always the most frequent of the labels (n,) or (n, k).

    It is None without labels, and if all labels are equal, because then no answer is wrong.

    >>> most_frequent_error(torch.tensor([0, 1, 1, 2]))
    0.5
    """
    if not len(labels):
        return None
    _, counts = torch.unique(labels.cpu().reshape(len(labels), -1), dim=0, return_counts=True)
    return (len(labels) - int(counts.max())) / len(labels) or None


def split(batches: Sequence[Batch], share: float) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
    """Divide the examples at random: the batches without the given share of them, and this share. Every call gives the same result.

    >>> searched, kept_back = split(read(torch.arange(10.0), 4, "inputs"), 0.2)
    >>> count(searched), count(kept_back)
    (8, 2)
    """
    n = count(batches)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(_SPLIT_SEED), device="cpu")
    cut = int(n * share)
    # The parts are sorted, so that the examples keep their order: a loss is a sum, and its rounding depends on the order.
    parts = (order[cut:].sort().values, order[:cut].sort().values)
    first, second = (tuple(batches[number].take(rows) for number, rows in taken(batches, part)) for part in parts)
    return first, second


def _is_pair(given: object) -> bool:
    """Whether it is a pair of inputs and labels: a tensor or a dict of tensors, and a tensor of whole numbers or truth values."""
    # Labels of floating point are refused: such a pair may as well be a list of two inputs.
    if not isinstance(given, tuple | list) or len(given) != 2:
        return False
    first, second = given
    return isinstance(first, Tensor | Mapping) and isinstance(second, Tensor) and not second.is_floating_point()


def _batch(given: object, argument: str) -> Batch:
    labels: Tensor | None = None
    if _is_pair(given):
        given, labels = cast(tuple[object, Tensor], given)
    elif isinstance(given, tuple | list) and len(given) == 1:  # a TensorDataset of one tensor gives such batches
        given = given[0]
    if isinstance(given, Mapping):
        named = {str(name): _tensor(tensor, f"{argument}: {name}") for name, tensor in given.items()}
        lengths = {name: len(tensor) for name, tensor in named.items()}
        inputs: Data = named
        if len(set(lengths.values())) != 1:
            raise InputError(f"{argument}: expected tensors with a row for each example, got lengths {lengths}")
    elif isinstance(given, Tensor):
        inputs = _tensor(given, argument)
    else:
        came = f"a {type(given).__name__}"
        if isinstance(given, tuple | list):
            came += f" of {', '.join(type(one).__name__ for one in given)}"
        raise InputError(
            f"{argument}: expected tensors, dicts of tensors, or pairs of one of these and labels of whole numbers, got {came}"
        )
    batch = Batch(inputs, labels)
    if labels is not None and (not labels.dim() or len(labels) != len(batch)):
        raise InputError(f"{argument}: expected a label for each of {len(batch)} examples, got shape {tuple(labels.shape)}")
    return batch


def _tensor(given: object, argument: str) -> Tensor:
    if not isinstance(given, Tensor) or not given.dim():
        came = "a number" if isinstance(given, Tensor) else type(given).__name__
        raise InputError(f"{argument}: expected a tensor with a row for each example, got {came}")
    return given.detach()


def _with_labels(batches: list[Batch], labels: Tensor | None, argument: str) -> list[Batch]:
    if labels is None:
        return batches
    if not labels.dim() or len(labels) != count(batches):
        raise InputError(
            f"labels: expected a tensor with a label for each of the {count(batches)} {argument}, got shape {tuple(labels.shape)}"
        )
    parts = _cut(labels, batches)
    return [Batch(batch.inputs, part, batch.mask) for batch, part in zip(batches, parts, strict=True)]


def _with_masks(batches: list[Batch], mask: Mask, argument: str) -> list[Batch]:
    if isinstance(mask, Tensor):
        if not mask.dim() or len(mask) != count(batches):
            raise InputError(f"mask: expected a row for each of the {count(batches)} {argument}, got shape {tuple(mask.shape)}")
        masks: list[Tensor | None] = [*_cut(mask, batches)]
    else:
        masks = [_mask_of(batch.inputs, mask) for batch in batches]
    return [Batch(batch.inputs, batch.labels, one) for batch, one in zip(batches, masks, strict=True)]


def _mask_of(inputs: Data, mask: str | Callable[[Any], Tensor] | None) -> Tensor | None:
    if callable(mask):
        found: object = mask(inputs)
        if not isinstance(found, Tensor):
            raise InputError(f"mask: expected a function that returns a tensor (m, t), got {type(found).__name__}")
        return found.detach()
    if mask is None or (mask == USUAL_MASK and not isinstance(inputs, dict)):
        return None
    if mask != USUAL_MASK and (not isinstance(inputs, dict) or mask not in inputs):
        came = f"inputs with {listed(inputs)}" if isinstance(inputs, dict) else "inputs that are one tensor"
        raise InputError(f"mask: expected the name of a tensor of the inputs, got {mask!r} and {came}; give the name of one")
    return inputs.get(mask) if isinstance(inputs, dict) else None


def _cut(rows: Tensor, batches: Sequence[Batch]) -> Sequence[Tensor]:
    """A tensor with one row for each example, divided into one tensor for each batch."""
    return torch.split(rows.detach(), [len(batch) for batch in batches])


def _each(inputs: Data, function: Callable[[Tensor], Tensor]) -> Data:
    if isinstance(inputs, Tensor):
        return function(inputs)
    return {name: function(tensor) for name, tensor in inputs.items()}
