"""Measures the loss of candidate weights, counts evaluations, and restores all of the user's state.

One evaluation is one loss on the original's data. A gradient counts 3, and a loss on m of n examples counts m / n.
"""

import copy
import math
import random
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nncomplexity.errors import InputError
from nncomplexity.linalg import SMALL, no_anomaly_detection, users_switches, usual_switches
from nncomplexity.network.caches import Cache
from nncomplexity.network.calling import RandomState, derivatives, fixed_random_state, forget_casts, is_same, numpy_state
from nncomplexity.network.divergence.faithfulness import Faithfulness
from nncomplexity.network.divergence.function import Divergence, DivergenceFrom
from nncomplexity.network.garbage import collected_each_few_evaluations
from nncomplexity.network.layout import Arrangement, Layout
from nncomplexity.network.losses import Divisible, number_of
from nncomplexity.network.modes import modules_named_in
from nncomplexity.network.moments import Moment, Watch, slow_attention
from nncomplexity.network.relative import Base, difference
from nncomplexity.network.soundness import Soundness, near
from nncomplexity.network.target import MappingTarget, ModuleTarget
from nncomplexity.network.threads import Threads
from nncomplexity.network.usercode import called, needs_derivatives, raised
from nncomplexity.network.weights import ModuleOrTensors, Skeleton, check_network, check_numbers, complex_view, real_view
from nncomplexity.words import listed

LossFn = Callable[[Any], Any]
"""loss_fn(module) or loss_fn(mapping of tensors) -> a float or a 0-d tensor; or a `Divergence`."""

GRADIENT_COST = 3.0
"""Evaluations that a gradient counts. A backward pass takes about twice the time of the forward pass."""
_NO_FLOAT64 = {"mps"}
_WITHOUT = "without one the search uses bit allocation and uniform quantization, and its files are usually several times as large"
_GIVEN = {
    False: "the given module",
    True: "the given tensors (load_state_dict and .data cut it; torch.func.functional_call(module, weights, inputs) doesn't)",
}


class Distortion:
    """L(θ̃) of a candidate and L(θ) of the original (Eq. 6 of DeMoss et al. 2025: d = |L(θ) − L(θ̃)|).

    Args:
        target: a module, or a mapping of names to tensors. A module is copied. If it can't be copied, the original is used.
        loss_fn: the user's loss. It gets the copy, or a dict of tensors in which tied names are one object.
        base: the base of the weights, or None.
        eps: the smallest ε above 0; 0 if nothing is searched, None if it is not known yet.

    Every call starts with the same random state, so a loss that draws random numbers is the same function each time. Use this class as a
    context manager. At the end it restores the random state and, if the original module was used, the module. Other threads wait until
    the end. Within the block, PyTorch's switches have their usual values. Within the user's loss, they have the user's values.

    Raises:
        InputError: the weights aren't usable; on entering, the loss isn't a function of the weights (`nncomplexity.network.soundness`).
    """

    def __init__(
        self,
        target: ModuleOrTensors,
        loss_fn: LossFn,
        base: Base | None = None,
        eps: float | None = None,
    ) -> None:
        check_network(target)
        if not callable(loss_fn):
            raise InputError(f"loss_fn: expected a function of the model, got {type(loss_fn).__name__}")
        self._use(loss_fn)
        self._target: ModuleTarget | MappingTarget = (
            ModuleTarget(target) if isinstance(target, nn.Module) else MappingTarget(target)
        )
        self.base = base
        self.stored: Skeleton = self._target.skeleton if base is None else base.under(self._target.skeleton)
        """The skeleton of the weights as they are stored."""
        self._all_real = not any(spec.dtype.is_complex for spec in self.stored.tensors)
        self.skeleton: Skeleton = self.stored.real
        """The skeleton that a search sees: complex tensors as their real and imaginary parts."""
        self.weights: dict[str, Tensor] = {name: real_view(tensor) for name, tensor in self._target.weights.items()}
        """The original tensors of `skeleton`, by first name, detached, on the CPU."""
        self.device = _with_float64(self._target.devices)
        """The device on which weights are coarse-grained: that of the target, or the CPU if that device has no float64."""
        self.coded: dict[str, Tensor] = {
            spec.name: difference(self.weights[spec.name], spec.base).to(self.device) for spec in self.skeleton.tensors
        }
        """The tensors that a search coarse-grains, on `device`. With a base, they are the differences from it, in float64."""
        self.arrangement = Arrangement(self.skeleton, {})
        """How tensors are divided into pieces in `skeleton`, `weights` and `coded`."""
        self.left_out: tuple[str, ...] = self._target.left_out
        """Other content of the network: entries of the state dict that are not tensors, and buffers outside it."""
        check_numbers(self.weights)
        self.evaluations = 0.0
        self.original = math.nan
        # A weak reference: a cycle would keep the weights in memory until the garbage collector runs.
        self.sound = Soundness(weakref.proxy(self), self._target, modules_named_in(loss_fn), eps)
        """The checks of the loss, and their warnings."""
        self.divergence: DivergenceFrom | None = None
        """The loss, if it is a divergence from the original. It is set on entering."""
        self.unreached: frozenset[str] = frozenset()
        """The tensors that could have a gradient and had none in the last one, by first name."""
        self._derives = False
        """Whether the loss computes derivatives itself, so that gradients must be on."""

    def __enter__(self) -> "Distortion":
        self._borrowed = ExitStack()
        # First, because it has the lock: the others change the state of the whole process.
        self._borrowed.enter_context(preserved_random_state())
        self._borrowed.enter_context(usual_switches())
        self._borrowed.enter_context(collected_each_few_evaluations(len(self.skeleton.tensors)))
        self._borrowed.callback(self._target.restore)
        self._random = fixed_random_state()
        try:
            given: object = self._loss_fn
            threads = self._borrowed.enter_context(Threads(self.stored.parameters, self._target.devices))
            if isinstance(given, Divergence):
                self.divergence = threads.decide(partial(self.against, given))
                self._use(self.divergence)
            self.original = self._first(threads)
            if not math.isfinite(self.original):
                raise InputError(
                    f"loss_fn: expected a finite loss of the original weights, got {self.original}; check data and model"
                )
            self.sound.begin(drawn=not is_same(random_state(), self._random))
        except BaseException:
            # If `__enter__` raises, Python doesn't call `__exit__`.
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._borrowed.close()

    def _use(self, loss_fn: LossFn) -> None:
        self._loss_fn = loss_fn
        # Asked once: it looks at each attribute of the protocol, and every step needs to know.
        self._divisible = loss_fn if isinstance(loss_fn, Divisible) else None

    def loss(self, weights: Mapping[str, Tensor], rows: Tensor | None = None) -> float:
        """L of weights by first name; complex tensors may be pairs of reals. A candidate with NaN or infinity is infeasible.

        With `rows` (m,), the loss is over these examples alone and costs m / n. This needs a `Divisible` loss.
        """
        self._count(self._share(rows))
        return self._measure(weights, loss_fn=self._part(rows))

    def _count(self, cost: float) -> None:
        """Add to the evaluations. The sum is rounded down to nine decimals, so rounding errors of many shares never exceed a budget."""
        # 1e-3, because a sum that is a whole number of billionths may come out slightly below it.
        self.evaluations = math.floor((self.evaluations + cost) * 1e9 + 1e-3) / 1e9

    def _share(self, rows: Tensor | None) -> float:
        return 1.0 if rows is None or self.examples is None else len(rows) / self.examples

    def _part(self, rows: Tensor | None) -> LossFn:
        """The closure over some rows."""
        if rows is None or self._divisible is None:
            return self._loss_fn
        with users_switches():
            return self._divisible.part(rows)

    def laid_out(self, layouts: Mapping[str, Layout]) -> "Distortion":
        """The same distortion with tensors divided by these layouts. Both objects count their evaluations separately."""
        other = copy.copy(self)
        other.arrangement = Arrangement(self.skeleton, layouts)
        other.skeleton, other.weights = other.arrangement.skeleton, other.arrangement.apart(self.weights)
        # Without a base, both are the same tensors. They stay the same, to save memory.
        same = all(self.coded[name] is weight for name, weight in self.weights.items())
        other.coded = other.weights if same else other.arrangement.apart(self.coded)
        return other

    def moments(self) -> dict[str, Moment]:
        """The second moments of the inputs that weights are multiplied by, in one evaluation of the original, by first name.

        There are moments of real weights in linear maps and convolutions, as far as PyTorch's operations show them. There are none if the
        loss fails while it is watched. Then the evaluation isn't counted.
        """
        seen: dict[str, Moment] = {}

        def watched(given: Any) -> Any:
            tensors = self._target.tensors(given)
            watch = Watch({spec.name: tensors[spec.name] for spec in self.stored.tensors if spec.name in tensors})
            with watch, slow_attention():
                loss = self._loss_fn(given)
            seen.update(watch.moments())
            return loss

        with suppress(InputError):
            self._measure(self.weights, loss_fn=watched)
        self._target.renew()
        self._count(bool(seen))
        return seen

    def again(self, weights: Mapping[str, Tensor], *, seed: int = 0) -> float:
        """L of weights, not counted as an evaluation. Another seed gives other random states."""
        return self._measure(weights, seed)

    def warn(self, about: str, sentence: str) -> None:
        """Add a warning to the report. Each subject has at most one warning."""
        self.sound.warnings.setdefault(about, sentence)

    def check_same(self, loss: float) -> None:
        """Raises InputError if the original's loss, measured again, differs by more than rounding explains."""
        self.sound.check(self.original, loss)

    @property
    def examples(self) -> int | None:
        """n, the number of examples of a loss over examples; None for other losses."""
        return None if self._divisible is None else self._divisible.examples

    def gradient(self, weights: Mapping[str, Tensor], rows: Tensor | None = None) -> tuple[float, dict[str, Tensor]] | None:
        """L and its gradients by first name, on `device`.

        The result is None if the loss has no gradient. It lacks tensors without a gradient.

        With `rows` (m,), both are over these examples alone and cost m / n as much. This needs a `Divisible` loss.

        Raises:
            InputError: the loss raises an InputError, or its gradient runs out of memory.
            KeyboardInterrupt: the user pressed Ctrl-C.
        """
        if not self._target.differentiable:
            self._warn_of_gradient(
                "the module can't be copied, and its own gradients must not change (pass a mapping of its tensors)"
            )
            return None
        # A gradient over m of n examples costs m / n of one over all.
        share, loss_fn = self._share(rows), self._part(rows)
        while True:
            self._count(GRADIENT_COST * share)
            try:
                return self._differentiate(loss_fn, weights)
            except (InputError, KeyboardInterrupt):
                raise
            except _NoGradientError as error:
                self._warn_of_gradient(str(error))
                return None
            # This must be an error. A search without gradients would go on, and would find a much larger file.
            except (MemoryError, torch.OutOfMemoryError) as error:
                raise InputError(
                    f"loss_fn: its gradient ran out of memory ({raised(error)}); take a loss that can be divided (loss_from), whose "
                    "gradients are over parts of the examples, or a device with more memory"
                ) from error
            # Autograd may refuse with any exception, for example when the loss calls numpy() on a leaf or changes one in place.
            except BaseException as error:
                # Running statistics of batch norm, which change in place, can be the cause. The other tensors may have a gradient
                # without them, so there is a second attempt.
                if not self._target.spare_buffers():
                    self._warn_of_gradient(f"the call raised {raised(error)}")
                    return None

    def _differentiate(self, loss_fn: LossFn, weights: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
        with users_switches(), torch.inference_mode(False), torch.enable_grad():
            set_random_state(self._random)
            argument, leaves = self._target.leaves(self._stored(weights))
            # Autocast caches a 16-bit copy for each tensor object. After a change in place, the copy would have the earlier weights.
            forget_casts()
            value = loss_fn(argument)
            if not isinstance(value, Tensor):
                raise _NoGradientError(f"it returned a {type(value).__name__} (return the tensor, not its .item())")
            if value.dim() or not value.requires_grad:
                raise _NoGradientError("the returned tensor was computed under torch.no_grad() or after detach()")
            # Anomaly detection raises at a NaN. Here a NaN is expected for bad candidates, and `_numbers` replaces it.
            with no_anomaly_detection():
                grads = torch.autograd.grad(value, [leaf for _, leaf in leaves], allow_unused=True)
        summed: dict[str, Tensor] = {}
        found = [
            (name, real_view(grad.detach().to(self.device)))
            for (name, _), grad in zip(leaves, grads, strict=True)
            if grad is not None
        ]
        for (name, _), parts in zip(found, _numbers([parts for _, parts in found]), strict=True):
            # Two parameters with one storage are one tensor here, and its gradient is the sum of theirs.
            summed[name] = summed[name] + parts if name in summed else parts
        if summed:
            self._warn_of_unreached({name: name in summed for name, leaf in leaves if leaf.numel()})
        else:
            self._warn_of_gradient(f"it is not computed from {_GIVEN[isinstance(self._target, MappingTarget)]}")
        return value.detach().item(), self.arrangement.apart(summed)

    def _warn_of_unreached(self, reached: Mapping[str, bool]) -> None:
        missed = [name for name, with_gradient in reached.items() if not with_gradient]
        self.unreached = frozenset(missed)
        if missed and "some" not in self.sound.warnings:
            self.warn(
                "some",
                f"No gradient reaches {len(missed)} of the {len(reached)} tensors that may have one ({listed(missed)}): the loss doesn't "
                "use them, or uses them under no_grad(), detached or copied. They are left out if that doesn't change the loss, "
                "and otherwise only quantized.",
            )
            self.sound.check_unreached(set(missed), reached.keys())

    def _warn_of_gradient(self, reason: str) -> None:
        if "weights" not in self.sound.warnings:
            self.warn("gradient", f"The loss has no gradient with respect to the weights: {reason}; {_WITHOUT}.")

    def tolerance(self, eps: float) -> float:
        """The largest distortion that is accepted at ε.

        It is ε minus a margin, which covers the rounding of a float32 mean and the noise of the loss.
        """
        return self.sound.tolerance(eps)

    def is_within(self, distortion: float, eps: float) -> bool:
        """Whether a distortion d(θ, θ̃) is within ε (Eq. 7), less the margin of `tolerance`. False if it is NaN."""
        return distortion <= self.tolerance(eps)

    @property
    def emptied(self) -> Collection[Cache]:
        """The attributes of a module that hold values computed from weights, and are emptied whenever weights are loaded."""
        return self._target.emptied

    def against(self, divergence: Divergence) -> DivergenceFrom:
        """The divergence from the original network. It is not counted as an evaluation."""
        found: DivergenceFrom = self.shown("outputs", divergence.against)
        if found.doubts is not None:
            self.warn("outputs", found.doubts)
        return found

    def faithfulness(self, divergence: DivergenceFrom, weights: Mapping[str, Tensor]) -> Faithfulness:
        """How faithful weights by first name are to the original. It is not counted as an evaluation."""
        found: Faithfulness = self.shown("outputs", divergence.faithfulness, weights)
        return found

    def shown(self, argument: str, function: Callable[[Any], Any], weights: Mapping[str, Tensor] | None = None) -> Any:
        """The result of a function for weights by first name, in a fresh module. None means the original weights.

        It is not counted as an evaluation.

        Raises:
            InputError: the function raises; the message names the argument.
        """
        self._target.renew()
        set_random_state(self._random)
        with users_switches(), torch.no_grad():
            given = self._target.untouched() if weights is None else self._target.load(self._stored(weights))
            torch.clear_autocast_cache()
            found = called(argument, function, given)
        self._target.renew()
        return found

    def _stored(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if isinstance(weights, dict) and not self.arrangement.layouts and self._all_real:
            return weights  # nothing is computed
        return _Stored(weights, self.stored, self.arrangement)

    def _first(self, threads: Threads) -> float:
        """L of the original. It also chooses the most thorough way to load weights that gives the same loss as the user's own module."""
        *thorough, quickest = self._target.load_methods
        if thorough:
            untouched = threads.decide(partial(self._call, self._target.untouched), again=self._target.renew)
            for way in thorough:
                self._target.renew(way)
                with suppress(Exception):  # a class may override train() or load_state_dict() and raise anything
                    if near(loss := self._measure(self.weights), untouched):
                        return loss
            self._target.renew(quickest)
        return threads.decide(partial(self._measure, self.weights))

    def _measure(self, weights: Mapping[str, Tensor], seed: int = 0, loss_fn: LossFn | None = None) -> float:
        return self._call(lambda: self._target.load(self._stored(weights)), seed, loss_fn)

    def _call(self, argument: Callable[[], Any], seed: int = 0, loss_fn: LossFn | None = None) -> float:
        """The loss as a number. Gradients are on if the loss computes derivatives itself."""
        set_random_state(fixed_random_state(seed) if seed else self._random)
        with users_switches(), derivatives() if self._derives else torch.no_grad():
            given = argument()
            # PyTorch keeps these caches by tensor, not by value. Without this call, the loss would be that of earlier weights.
            forget_casts()
            try:
                return number_of(called("loss_fn", loss_fn or self._loss_fn, given), "loss_fn")
            except InputError as error:
                if self._derives or not needs_derivatives(error.__cause__):
                    raise
        self._derives = True
        return self._call(argument, seed, loss_fn)


def _numbers(gradients: Sequence[Tensor]) -> list[Tensor]:
    """The gradients with NaN and infinity replaced by 0, and at least 16 bits wide."""
    # Nearly all gradients are finite. One check for all small ones of a shape and dtype is much faster than a check for each.
    # PyTorch has no arithmetic for floats of 8 bits.
    wide = [gradient if gradient.dtype.itemsize > 1 else gradient.float() for gradient in gradients]
    together: dict[object, list[int]] = {}
    for place, gradient in enumerate(wide):
        if gradient.numel() <= SMALL and gradient.device.type == "cpu":
            together.setdefault((gradient.shape, gradient.dtype), []).append(place)
    finite = {
        place
        for places in together.values()
        if len(places) > 1 and math.isfinite(float(torch.stack([wide[place] for place in places]).sum()))
        for place in places
    }
    return [
        gradient if place in finite else torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        for place, gradient in enumerate(wide)
    ]


class _NoGradientError(Exception):
    """The loss has no gradient with respect to the weights. The message is the reason."""


class _Stored(Mapping[str, Tensor]):
    """Weights in the dtypes of a skeleton. Each tensor is looked up, and for a large network decoded, only when it is needed."""

    def __init__(self, weights: Mapping[str, Tensor], skeleton: Skeleton, arrangement: Arrangement) -> None:
        self._weights, self._arrangement = weights, arrangement
        self._specs = {spec.name: spec for spec in skeleton.tensors}

    def __getitem__(self, name: str) -> Tensor:
        with usual_switches():
            return complex_view(self._arrangement.whole(self._weights, name), self._specs[name].dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)


def _with_float64(devices: Sequence[torch.device]) -> torch.device:
    """The first accelerator; the CPU if there is none, or if it has no float64."""
    accelerator = next((device for device in devices if device.type != "cpu"), torch.device("cpu"))
    return torch.device("cpu") if accelerator.type in _NO_FLOAT64 else accelerator


_ONE_AT_A_TIME = threading.RLock()
"""A lock. Random states, the current folder and standard output belong to the whole process, so only one thread may use them at a time."""


def random_state() -> RandomState:
    """The states of all generators that a loss may use: torch, CUDA if it is in use, NumPy and Python."""
    with _ONE_AT_A_TIME:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return torch.get_rng_state(), cuda, numpy_state(np.random), random.getstate()


def set_random_state(state: RandomState) -> None:
    """Restore the states that `random_state` returned."""
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
    np.random.set_state(state[2])
    random.setstate(state[3])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the random generators at the end of the block. Other threads wait. PyTorch's caches of weights are cleared at both ends."""
    with _ONE_AT_A_TIME:
        state = random_state()
        forget_casts()
        try:
            yield
        finally:
            forget_casts()
            set_random_state(state)
