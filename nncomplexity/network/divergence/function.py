"""A distortion between functions, d(θ, θ̃) = E_x D(f_θ(x) ‖ f_θ̃(x)), which can replace a loss and needs no labels."""

import copy
import hashlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.network.divergence.faithfulness import Faithfulness, Fidelity
from nncomplexity.network.divergence.inputs import (
    NO_LABEL,
    USUAL_MASK,
    Batch,
    Mask,
    check_labels,
    count,
    digest,
    groups_to_join,
    guess_error,
    joined,
    read,
    split,
    taken,
)
from nncomplexity.network.divergence.kinds import (
    Between,
    Kind,
    check_logits,
    check_mask,
    kind_of,
    look_like_probabilities,
    top,
    total_variance,
    units,
)
from nncomplexity.words import checked_count, is_number, python_number, shown

OutputsFn = Callable[[Any, Any], Any]
"""outputs(network, inputs) -> (m, ...): the network is a module or a mapping of tensors, as for a loss."""
_PROBE_SEED = 1
"""The seed of a probe that is drawn. Inputs for measurements have seed 0."""
_ZERO = 1e-6
"""The largest divergence, in nats, that a user's function may return for equal outputs."""


@dataclass(frozen=True, eq=False, repr=False)
class Divergence:
    """The mean divergence of a network's outputs from the original's, over inputs without labels.

    Pass it to `estimate`, `rate_distortion`, `track`, `Tracker` and others instead of a loss. They compute the original's outputs
    once, from its weights. The loss of the original is then 0, and the loss of a file is its distortion.

    Attributes:
        outputs: `outputs(network, inputs)` -> (m, ...); for `kl` logits (m, classes), or (m, t, classes) for tokens.
        inputs: a tensor (n, ...), a dict of tensors like a batch of Hugging Face, a pair of one of these and labels, or a DataLoader
            of any of these, which is read once. It can also be a function `draw(m, generator)` that draws m such inputs. Each step of a
            search then uses new inputs, and its answers are measured on `examples` inputs that stay the same.
        kind: "kl", "bernoulli" or "mse" (`nncomplexity.network.divergence.kinds`), or a function of the original's outputs and
            other outputs, both (u, ...), that returns (u,) divergences, 0 for equal outputs.
        probe: held-out inputs, in any of these forms, on which the answer of the search is checked; a function draws `examples` of
            them. Or the share of `inputs` to hold out, by default a fifth; 0 holds out none.
        labels: (n, ...) right answers, if they are known. Flips are then counted by kind. The search does not use them.
        mask: which tokens count: the key of a dict of tensors, a function of the inputs, or a tensor (n, t). For a dict, the
            default is its "attention_mask".
        batch: number of rows of a tensor in one forward pass; it limits the memory. The batches of a DataLoader stay as they are.
            A step on some of the inputs joins its rows of several batches, up to the size of the largest one.
        examples: number of inputs for measurements, if inputs are drawn.

    The unit is nats per example; for tokens, nats per token that counts.

    Raises:
        InputError: an argument isn't usable.

    >>> net = nn.Linear(4, 3)
    >>> divergence = Divergence(lambda network, x: network(x), torch.randn(100, 4))
    >>> d = divergence.against(net)
    >>> float(d(net)), d.examples
    (0.0, 80)
    """

    outputs: OutputsFn
    inputs: Any
    kind: "str | Between" = "kl"
    probe: Any = 0.2
    labels: Tensor | None = None
    mask: Mask = USUAL_MASK
    batch: int = 1024
    examples: int = 1024
    _kind: Kind = field(init=False)
    _searched: tuple[Batch, ...] = field(init=False)
    _held_out: tuple[Batch, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not callable(self.outputs):
            raise InputError(f"outputs: expected a function of a network and inputs, got {type(self.outputs).__name__}")
        for name in ("batch", "examples"):
            checked_count(name, getattr(self, name), 1)
        labels: object = self.labels
        if not isinstance(labels, Tensor | None):
            raise InputError(f"labels: expected a tensor with a label for each input, got {type(labels).__name__}")
        mask: object = self.mask
        if not (isinstance(mask, str | Tensor | None) or callable(mask)):
            raise InputError(f"mask: expected a name, a function of the inputs, a tensor (n, t) or None, got {shown(mask)}")
        searched, held_out = self._read()
        for name, value in (("_kind", kind_of(self.kind)), ("_searched", searched), ("_held_out", held_out)):
            object.__setattr__(self, name, value)
        # The batches are what counts from now on. The user's own objects are dropped, because they may change later.
        object.__setattr__(self, "inputs", self.inputs if self.fresh else None)
        object.__setattr__(self, "probe", None)
        object.__setattr__(self, "labels", None)
        object.__setattr__(self, "mask", None if isinstance(self.mask, Tensor) else self.mask)

    @property
    def fresh(self) -> bool:
        """Whether new inputs are drawn for each step of a search."""
        return draws(self.inputs)

    @property
    def chance(self) -> float | None:
        """The error rate of the most frequent label of the inputs. None without labels, or if all labels are equal."""
        return guess_error(self._searched)

    def __repr__(self) -> str:
        held_out = f", {count(self._held_out)} held out" if self._held_out else ""
        return f"Divergence({self._kind.name} on {count(self._searched)} inputs{held_out})"

    def __call__(self, network: Any) -> Tensor:  # noqa: ARG002 -- a loss closure's
        """Raises InputError: a divergence has no original network yet, so it is no loss."""
        raise InputError(
            "loss_fn: a Divergence needs an original network, and doesn't know it yet; pass it to estimate as the loss, or "
            "call divergence.against(original)"
        )

    def against(self, original: Any) -> "DivergenceFrom":
        """The divergence from this network, a module or a mapping of tensors. Its outputs are computed now.

        Raises:
            InputError: the outputs aren't usable.
        """
        return DivergenceFrom(self, original)

    def draw(self, number: int, generator: torch.Generator) -> tuple[Batch, ...]:
        """Draw this many new inputs."""
        found = read(self.inputs(number, generator), self.batch, "inputs", mask=self.mask)
        if count(found) != number:
            raise InputError(f"inputs: expected a function that draws {number} inputs, got {count(found)} inputs from it")
        return found

    def described(self) -> dict[str, Any]:
        """A description for reports: the name of the function of outputs, the number of inputs, their digest, and the kind."""
        name = getattr(self.outputs, "__qualname__", type(self.outputs).__qualname__)
        module = getattr(self.outputs, "__module__", None) or type(self.outputs).__module__
        return {
            "outputs": f"{module}:{name}",
            "inputs": f"{count(self._searched)} inputs, {count(self._held_out)} held out, {digest(self._searched)[:12]}",
            "divergence": self._kind.name,
            "probe": None,
        }

    def _read(self) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
        """The inputs for the search, and the held-out inputs."""
        probe = python_number(self.probe)
        share = probe if is_number(probe) else 0.0
        if not 0 <= share < 1:
            raise InputError(f"probe: expected inputs, or a share of the inputs from 0 up to 1, got {shown(probe)}")
        if self.fresh:
            _check_draws("inputs", self.inputs)
            if self.labels is not None:
                raise InputError(
                    "labels: expected none with a function that draws inputs; let the function return pairs of inputs and labels"
                )
            # The inputs for measurements are drawn once, with a fixed seed: a loss on new inputs at each call would be noisy.
            generator = torch.Generator().manual_seed(0)
            searched = self.draw(self.examples, generator)
            held_out = self.draw(max(1, int(share * self.examples)), generator) if share else ()
        else:
            everything = read(self.inputs, self.batch, "inputs", labels=self.labels, mask=self.mask)
            searched, held_out = split(everything, share) if share else (everything, ())
        if not is_number(probe) and probe is not None:
            mask = None if isinstance(self.mask, Tensor) else self.mask
            given = self.probe
            if draws(given):
                _check_draws("probe", given)
                given = given(self.examples, torch.Generator().manual_seed(_PROBE_SEED))
            held_out = read(given, self.batch, "probe", mask=mask)
        return searched, held_out


class DivergenceFrom:
    """The divergence from the known outputs of one network. It is a loss that can be computed on a part of the inputs.

    Args:
        divergence: inputs, outputs and kind.
        original: the network, a module or a mapping of tensors. Its outputs are computed here. If inputs are drawn, a copy of the network
            is kept.

    Raises:
        InputError: the outputs can't be computed, have a shape that the kind doesn't take, or contain a NaN.
    """

    def __init__(self, divergence: Divergence, original: Any) -> None:
        self.divergence = divergence
        self._kind, self._outputs = divergence._kind, divergence.outputs
        self._searched, self._held_out = divergence._searched, divergence._held_out
        self._original = _copy(original) if divergence.fresh else None
        self._references = self._references_of(original, self._searched)
        self._held_out_references = self._references_of(original, self._held_out)
        rows = torch.cat([self._units(one, of) for one, of in zip(self._references, self._searched, strict=True)])
        if not len(rows):
            raise InputError("mask: expected at least one token that counts, got none")
        others = [self._units(one, of) for one, of in zip(self._held_out_references, self._held_out, strict=True)]
        if others and not sum(map(len, others)):
            raise InputError(
                "mask: expected at least one token that counts among the held-out inputs, got none; give others as `probe`"
            )
        self._shape = tuple(rows.shape[1:])
        self._scale = 1.0
        if self._kind.name == "mse":
            self._scale = total_variance(rows)
            if not self._scale > 0:
                raise InputError(
                    "outputs: expected outputs that differ between inputs, because mse is divided by their variance, got all the same"
                )
        with torch.no_grad():
            itself = float(self._mean(original, self._searched, self._references))
        if not abs(itself) <= _ZERO:
            raise InputError(
                f"kind: expected a divergence that is 0 for equal outputs, got {itself:.6g} for the original's; let outputs "
                "be the same at each call, or subtract the value for equal outputs"
            )
        if self._searched[0].labels is not None:
            self.faithfulness(original)  # the result is not used: an error in the labels should appear before a search

    @property
    def doubts(self) -> str | None:
        """A warning if the original's outputs are perhaps not what the kind expects."""
        if self._kind.name != "bernoulli" or not look_like_probabilities(self._references):
            return None
        return (
            "All outputs are from 0 to 1, as probabilities are, and the divergence takes them for logits. If they are probabilities, return "
            "the numbers before the sigmoid, or torch.logit of these."
        )

    @property
    def examples(self) -> int:
        """n, the number of inputs of the search."""
        return count(self._searched)

    @property
    def kind(self) -> str:
        """The name of the kind of divergence."""
        return self._kind.name

    @property
    def fresh(self) -> bool:
        """Whether new inputs are drawn for each part."""
        return self._original is not None

    @property
    def outputs(self) -> OutputsFn:
        """The function that gives a network's outputs."""
        return self._outputs

    def __call__(self, network: Any) -> Tensor:
        """The mean divergence over all inputs of the search, a 0-d tensor."""
        return self._mean(network, self._searched, self._references)

    def part(self, rows: Tensor) -> Callable[[Any], Tensor]:
        """The mean divergence over the examples with the numbers in `rows` (m,), or over m new inputs if inputs are drawn."""
        if self._original is not None:
            batches: Sequence[Batch] = self.divergence.draw(len(rows), _generator(rows))
            with torch.no_grad():
                references = self._references_of(self._original, batches)
        else:
            batches, references = self._taken(rows)
        return lambda network: self._mean(network, batches, references)

    def faithfulness(self, network: Any) -> Faithfulness:
        """How faithful another network is, on the inputs of the search and on held-out inputs."""
        with torch.no_grad():
            held_out = self._fidelity(network, self._held_out, self._held_out_references) if self._held_out else None
            return Faithfulness(self._kind.name, self._fidelity(network, self._searched, self._references), held_out)

    def _taken(self, rows: Tensor) -> tuple[Sequence[Batch], list[Tensor]]:
        """The examples with these numbers and their references, in as few forward passes as the size of a batch allows."""
        places = taken(self._searched, rows)
        batches = [self._searched[number].take(here) for number, here in places]
        references = [self._references[number][here.to(self._references[number].device)] for number, here in places]
        # Rows at random are a few of each batch. A forward pass of each few would take many times as long.
        layouts = [(one.layout, reference.device, reference.shape[1:]) for one, reference in zip(batches, references, strict=True)]
        groups = groups_to_join(layouts, [len(one) for one in batches], most=max(map(len, self._searched)))
        return (
            [joined([batches[number] for number in group]) for group in groups],
            [torch.cat([references[number] for number in group]) for group in groups],
        )

    def _references_of(self, original: Any, batches: Sequence[Batch]) -> list[Tensor]:
        with torch.no_grad():
            references = [self._call(original, batch).detach().clone() for batch in batches]
        for reference, batch in zip(references, batches, strict=True):
            check_mask(reference, batch.mask)
        check_logits(references, self._kind)
        return references

    def _call(self, network: Any, batch: Batch) -> Tensor:
        outputs: object = self._outputs(network, batch.inputs)
        if not isinstance(outputs, Tensor):
            hint = "; return outputs.logits" if hasattr(outputs, "logits") else ""
            raise InputError(f"outputs: expected a tensor (m, ...), got {type(outputs).__name__}{hint}")
        if outputs.is_complex():
            raise InputError("outputs: expected real numbers, got complex ones; return torch.view_as_real(outputs)")
        if self._kind.answers is not None and not outputs.is_floating_point():
            raise InputError(f"outputs: expected logits, got {outputs.dtype}, as answers have; return the numbers before argmax")
        if not outputs.dim() or len(outputs) != len(batch):
            raise InputError(f"outputs: expected a row for each of {len(batch)} inputs, got shape {tuple(outputs.shape)}")
        if self._kind.last and (outputs.dim() < 2 or outputs.shape[-1] < 2):
            raise InputError(
                f"outputs: expected logits (m, classes) of two classes or more, got shape {tuple(outputs.shape)}; for yes-or-no logits "
                "use kind='bernoulli' (--divergence bernoulli), for numbers 'mse'"
            )
        return outputs

    def _units(self, outputs: Tensor, batch: Batch) -> Tensor:
        return units(outputs, batch.mask, self._kind)

    def _mean(self, network: Any, batches: Sequence[Batch], references: Sequence[Tensor]) -> Tensor:
        sums, number = [], 0
        for batch, reference in zip(batches, references, strict=True):
            outputs = self._call(network, batch)
            if outputs.shape != reference.shape:
                raise InputError(f"outputs: expected the original's shape {tuple(reference.shape)}, got {tuple(outputs.shape)}")
            rows = self._units(outputs, batch)
            divergences: object = self._kind.between(self._units(reference.to(outputs.device), batch), rows)
            if not isinstance(divergences, Tensor) or divergences.shape != (len(rows),):
                came = tuple(divergences.shape) if isinstance(divergences, Tensor) else type(divergences).__name__
                raise InputError(
                    f"kind: expected a function that returns ({len(rows)},) divergences for {len(rows)} outputs, got {came}"
                )
            if self._kind.users and len(rows) and float(divergences.detach().min()) < -_ZERO:
                raise InputError(
                    f"kind: expected divergences of at least 0, got {float(divergences.detach().min()):.6g}; let a larger number mean a larger "
                    "difference"
                )
            sums.append(divergences.sum())
            number += len(rows)
        # A part of the examples may have no token that counts. Its mean is then 0.
        return torch.stack(sums).sum() / (max(number, 1) * self._scale)

    def _fidelity(self, network: Any, batches: Sequence[Batch], references: Sequence[Tensor]) -> Fidelity:
        divergence = float(self._mean(network, batches, references))
        inputs, answers = count(batches), self._kind.answers
        if self._kind.name == "mse":
            return Fidelity(inputs, divergence, 1 - divergence)
        if answers is None:  # a user's kind: outputs (u, classes) with two classes or more are taken as logits
            if len(self._shape) != 1 or self._shape[0] < 2:
                return Fidelity(inputs, divergence, None)
            answers = top
        before, after = (
            [answers(self._units(one, batch)).cpu() for one, batch in zip(outputs, batches, strict=True)]
            for outputs in (references, [self._call(network, batch) for batch in batches])
        )
        first, second = torch.cat(before), torch.cat(after)
        choices = 2.0 if first.dtype == torch.bool else float(self._shape[-1])
        most_bits = first.numel() * math.log2(choices)
        agreement = _share(first == second)
        if any(batch.labels is None for batch in batches):
            return Fidelity(inputs, divergence, agreement, most_bits=most_bits)
        labels = torch.cat([self._labels(batch, len(one)) for batch, one in zip(batches, before, strict=True)])
        if labels.shape != first.shape:
            raise InputError(f"labels: expected one for each answer, {tuple(first.shape)} in all, got {tuple(labels.shape)}")
        check_labels(labels, int(choices), "labels")
        known = labels != NO_LABEL
        if not known.any():
            return Fidelity(inputs, divergence, agreement, most_bits=most_bits)
        right, still = first[known] == labels[known], second[known] == labels[known]
        return Fidelity(inputs, divergence, agreement, _share(right & ~still), _share(~right & still), most_bits)

    def _labels(self, batch: Batch, rows: int) -> Tensor:
        """The labels of a batch, in the layout of its answers."""
        labels = batch.labels
        assert labels is not None
        if batch.mask is not None and labels.shape[: batch.mask.dim()] == batch.mask.shape and batch.mask.dim() > 1:
            return labels[batch.mask.to(labels.device).bool()].cpu()
        return (labels.flatten() if self._kind.last else labels.reshape(rows, -1)).cpu()


def draws(given: object) -> bool:
    """Whether this is a function that draws inputs, and not the inputs themselves."""
    # A tensor and a DataLoader may be callable too, but they can be iterated over.
    return inspect.isroutine(given) or (callable(given) and not isinstance(given, Tensor) and not hasattr(given, "__iter__"))


def _check_draws(argument: str, function: Callable[..., Any]) -> None:
    """Raise InputError if a function that should draw inputs can't be called with a number and a generator."""
    try:
        inspect.signature(function).bind(1, torch.Generator())
    except TypeError:
        name = getattr(function, "__name__", type(function).__name__)
        raise InputError(
            f"{argument}: expected inputs, or a function draw(m, generator) that draws m inputs, got the function "
            f"{name}{inspect.signature(function)}"
        ) from None
    except ValueError:  # a function of C has no signature that Python knows
        return


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def _generator(rows: Tensor) -> torch.Generator:
    """A generator seeded by these row numbers, so that the inputs of a step depend only on the seed of the search."""
    # Seven bytes, so that every digest is within the range of seeds.
    digest = hashlib.blake2b(rows.cpu().numpy().tobytes(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))


def _copy(original: Any) -> Any:
    """A copy of the original that does not change during a search."""
    if not isinstance(original, nn.Module):
        return {name: tensor.detach().clone() for name, tensor in original.items()}
    try:
        return copy.deepcopy(original)
    except Exception as error:
        raise InputError(
            f"inputs: drawn inputs need a copy of the model, and it can't be copied ({type(error).__name__}); give inputs as a tensor"
        ) from error
