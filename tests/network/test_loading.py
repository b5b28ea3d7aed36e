"""Modules that keep values computed from their weights are measured like fresh modules, or refused."""

import functools
import re
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from torch.nn.utils import parametrizations, parametrize

from nncomplexity import InputError, estimate
from nncomplexity.network import Distortion
from nncomplexity.network.attributes import Attributes
from nncomplexity.network.loading import COPY_VALUES, LoadMethod, load_methods_of
from tests.cases import cross_entropy_of

X = torch.randn(128, 8, generator=torch.Generator().manual_seed(1))
Y = X[:, :4].argmax(1)


class Folding(nn.Module):
    """Two factors, which eval mode folds into one matrix. Subclasses define where the matrix is kept."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        # The product of the factors is nearly what gives the labels: 4 of the inputs, each for its own class.
        self.a = nn.Parameter(torch.randn(4, 6, generator=generator))
        self.b = nn.Parameter(4 * torch.linalg.pinv(self.a.detach()) @ torch.eye(4, 8))

    def product(self) -> Tensor:
        return self.a @ self.b

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.product() if self.training else self.kept())

    def kept(self) -> Tensor:
        raise NotImplementedError


class InAttribute(Folding):
    """A module that never clears the folded matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.folded: Any = None

    def kept(self) -> Tensor:
        if self.folded is None:
            self.folded = self.product()
        return self.folded


class ClearedInTrain(InAttribute):
    def train(self, mode: bool = True) -> "ClearedInTrain":
        self.folded = None
        return super().train(mode)


class ClearedWhenLoaded(InAttribute):
    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self.folded = None
        super()._load_from_state_dict(*args, **options)


class ClearedByAHook(InAttribute):
    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "folded", None))


class InATuple(InAttribute):
    def kept(self) -> Tensor:
        if self.folded is None:
            self.folded = (self.product(), 0.0)
        return self.folded[0] + self.folded[1]


class InADictionary(Folding):
    def __init__(self) -> None:
        super().__init__()
        self.memo: dict[str, Tensor] = {}

    def kept(self) -> Tensor:
        if "folded" not in self.memo:
            self.memo["folded"] = self.product()
        return self.memo["folded"]


class ByAddress(Folding):
    def __init__(self) -> None:
        super().__init__()
        self.memo: dict[int, Tensor] = {}

    def kept(self) -> Tensor:
        if self.a.data_ptr() not in self.memo:
            self.memo = {self.a.data_ptr(): self.product()}
        return self.memo[self.a.data_ptr()]


class ByVersion(Folding):
    def __init__(self) -> None:
        super().__init__()
        self.memo: dict[tuple[int, int], Tensor] = {}

    def kept(self) -> Tensor:
        key = (self.a._version, self.b._version)
        if key not in self.memo:
            self.memo = {key: self.product()}
        return self.memo[key]


class InABuffer(Folding):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("folded", None, persistent=False)

    def kept(self) -> Tensor:
        if self.folded is None:
            self.folded = self.product().detach()
        return self.folded


class Missing(Folding):
    def kept(self) -> Tensor:
        if not hasattr(self, "folded"):
            self.folded = self.product().detach()
        return self.folded


class CachedProperty(Folding):
    @functools.cached_property
    def folded(self) -> Tensor:
        return self.product()

    def kept(self) -> Tensor:
        return self.folded


class Held:
    """An object with the matrix, in an attribute of a module."""

    def __init__(self) -> None:
        self.folded: Tensor | None = None


class InAnObject(Folding):
    def __init__(self) -> None:
        super().__init__()
        self.held = Held()

    def kept(self) -> Tensor:
        if self.held.folded is None:
            self.held.folded = self.product()
        return self.held.folded


class AsAnArray(Folding):
    def __init__(self) -> None:
        super().__init__()
        self.folded: Any = None

    def kept(self) -> Tensor:
        if self.folded is None:
            self.folded = self.product().detach().numpy().copy()
        return torch.from_numpy(self.folded)


class InATupleOfADictionary(Folding):
    """As modules keep weights that they have cast, for each dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.memo: dict[torch.dtype, tuple[Tensor, str]] = {}

    def kept(self) -> Tensor:
        if X.dtype not in self.memo:
            self.memo[X.dtype] = (self.product().to(X.dtype), "folded")
        return self.memo[X.dtype][0]


class InABufferWithoutElements(Folding):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("folded", torch.zeros(0), persistent=False)

    def kept(self) -> Tensor:
        if not self.folded.numel():
            self.folded = self.product().detach()
        return self.folded


class AsANumber(Folding):
    """A module that keeps the norm of the matrix. With the norm of another matrix, its results have another scale."""

    def __init__(self) -> None:
        super().__init__()
        self.norm: float | None = None

    def kept(self) -> Tensor:
        product = self.product()
        if self.norm is None:
            self.norm = float(product.detach().norm())
        return product / product.detach().norm().clamp(min=1e-12) * self.norm


class OfTheProcess(Folding):
    """A module that keeps the matrix in its class, where no copy of the module has its own."""

    memo: ClassVar[dict[str, Tensor]] = {}

    def kept(self) -> Tensor:
        return self.memo.setdefault("folded", self.product().detach())


class ByItself(Folding):
    @functools.lru_cache(maxsize=8)  # noqa: B019 -- that is the point
    def kept(self) -> Tensor:
        return self.product().detach()


class Uncopiable(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.lock, self.inner = threading.Lock(), inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


FOLLOWING = (
    *(InAttribute, ClearedInTrain, ClearedWhenLoaded, ClearedByAHook, InATuple, InADictionary, ByAddress, ByVersion),
    *(InABuffer, Missing, CachedProperty, InAnObject, AsAnArray, InATupleOfADictionary, InABufferWithoutElements, AsANumber),
)


def alone(kind: Callable[[], nn.Module]) -> nn.Module:
    return kind()


def under_a_head(kind: Callable[[], nn.Module]) -> nn.Sequential:
    """The module and, after it, a layer that follows its weights. So the loss changes in any case."""
    head = nn.Linear(4, 4)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4))
        head.bias.zero_()
    return nn.Sequential(kind(), head)


def not_to_be_copied(kind: Callable[[], nn.Module]) -> nn.Module:
    return Uncopiable(kind())


loss = cross_entropy_of(X, Y)


def true_loss(weights: dict[str, Tensor]) -> float:
    """The loss calculated from the weights, without a module."""
    a, b = (next(tensor for name, tensor in weights.items() if name.rpartition(".")[2] == one) for one in "ab")
    logits = linear(X, a @ b)
    if "1.weight" in weights:
        logits = linear(logits, weights["1.weight"], weights["1.bias"])
    return float(cross_entropy(logits, Y))


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("within", [alone, under_a_head, not_to_be_copied])
@pytest.mark.parametrize("kind", FOLLOWING)
def test_a_module_that_keeps_what_it_computed_has_the_loss_of_its_weights(
    kind: type[Folding], within: Callable[[Callable[[], nn.Module]], nn.Module], filled: bool
) -> None:
    model = within(kind).eval()
    if filled:
        with torch.no_grad():
            loss(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with Distortion(model, loss, eps=0.05) as distortion:
        assert distortion.original == pytest.approx(true_loss(before), abs=1e-5)
        for share in (0.5, 0.0, 1.0, 2.0):
            weights = {name: share * tensor for name, tensor in distortion.weights.items()}
            distortion.gradient(weights)
            assert distortion.loss(weights) == pytest.approx(true_loss(weights), abs=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        assert float(loss(model)) == pytest.approx(distortion.original, abs=1e-5)


@pytest.mark.parametrize("within", [alone, under_a_head, not_to_be_copied])
def test_the_file_of_such_a_module_is_measured_in_a_fresh_one(within: Callable[[Callable[[], nn.Module]], nn.Module]) -> None:
    report = estimate(within(ClearedWhenLoaded).eval(), loss, 0.05, budget=30)
    assert report.coarse_loss == pytest.approx(true_loss(report.coarse_weights()), abs=1e-5)
    assert report.bits > 100  # with all weights zero, the loss is ln 4


@pytest.mark.parametrize("within", [alone, under_a_head])
def test_what_is_kept_for_all_modules_of_a_class_is_refused(within: Callable[[Callable[[], nn.Module]], nn.Module]) -> None:
    OfTheProcess.memo.clear()
    words = r"model: its loss doesn't depend on its weights: with random weights .* gives the same result; .* between calls"
    with pytest.raises(InputError, match=words):
        estimate(within(OfTheProcess).eval(), loss, 0.05, budget=30)


def test_what_is_kept_by_a_module_s_identity_is_refused() -> None:
    words = r"model: its loss doesn't depend on its weights alone: for the same weights it is .* in a fresh copy of the module and .* used copy"
    with pytest.raises(InputError, match=words):
        estimate(ByItself().eval(), loss, 0.05, budget=30)


class Slotted:
    """An object whose attributes are not in a dictionary, so nothing finds them."""

    __slots__ = ("folded",)

    def __init__(self) -> None:
        self.folded: Tensor | None = None


class InSlots(InAnObject):
    def __init__(self) -> None:
        super().__init__()
        self.held, self.calls = Slotted(), 0  # type: ignore[assignment]

    def kept(self) -> Tensor:
        self.calls += 1
        return super().kept()


def test_a_refusal_names_what_a_part_keeps() -> None:
    with pytest.raises(
        InputError, match=r"0 \(InSlots\) keeps 'calls' between calls: compute it again in each call, or clear it in _load"
    ):
        estimate(under_a_head(InSlots).eval(), loss, 0.05, budget=30)


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_takes_a_module_apart_is_told_so() -> None:
    def unnormed(module: nn.Module) -> Tensor:
        if hasattr(module[0], "weight_g"):
            nn.utils.remove_weight_norm(module[0])
        return loss(module)

    words = r"none \(model: it has lost tensors, such as 0.weight_g, 0.weight_v; let the loss leave its parts as they are\)"
    with pytest.raises(InputError, match=words):
        estimate(nn.Sequential(nn.utils.weight_norm(nn.Linear(8, 4))), unnormed, 0.05)


def filled_before_training(kind: type[Folding]) -> nn.Sequential:
    """A module that keeps the matrix of weights that it had before."""
    model = under_a_head(kind).eval()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model[0].b.zero_()
        loss(model)
    model.load_state_dict(weights)
    return model


def test_values_kept_from_other_weights_are_refused() -> None:
    words = (
        r"model: its loss doesn't depend on its weights alone: a part \(InAttribute\) keeps 'folded', perhaps from other weights than it has "
        r"now: with it the loss is 1\.386294, and 0\.\d+ if it is computed again; clear it before the measurement"
    )
    with pytest.raises(InputError, match=words):
        estimate(filled_before_training(InAttribute), loss, 0.05, method="quantize")
    assert not estimate(filled_before_training(ClearedWhenLoaded), loss, 0.05, method="quantize").warnings


class Scaled(nn.Linear):
    """A module with a setting that has a default value."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self.scale: float | None = 2.5

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            self.scale = 0.5
        return super().forward(x) * self.scale


def test_a_number_that_may_be_a_setting_is_kept_and_said() -> None:
    model = Scaled()
    report = estimate(model, loss, 0.05, method="quantize")
    assert report.loss == pytest.approx(float(loss(model).detach()), abs=1e-6)
    assert re.match(
        r"A part \(Scaled\) keeps 'scale', .*if it is computed again\. If it depends on weights, clear it", report.warnings[0]
    )


class Clipping(nn.Linear):
    """A module with a number that matters only for other weights. It isn't computed from weights, so it stays."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self.most: float | None = 2.5
        with torch.no_grad():
            self.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return found if self.most is None else found.clamp(-self.most, self.most)


def test_a_number_that_is_not_computed_again_keeps_its_value() -> None:
    model = Clipping()
    with Distortion(model, loss, eps=0.05) as distortion:
        weights = {name: 100 * tensor for name, tensor in distortion.weights.items()}
        logits = linear(X, weights["weight"], weights["bias"]).clamp(-2.5, 2.5)
        assert distortion.loss(weights) == pytest.approx(float(cross_entropy(logits, Y)), abs=1e-5)


class Adapter(nn.Module):
    """Low-rank factors that are merged into the weight in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = nn.Parameter(4 * torch.eye(4, 8) + torch.randn(4, 8, generator=generator) / 8)
        self.A = nn.Parameter(torch.randn(2, 8, generator=generator))
        self.B = nn.Parameter(torch.randn(4, 2, generator=generator))
        self.merged = False

    def train(self, mode: bool = True) -> "Adapter":
        super().train(mode)
        if mode == self.merged:
            self.w.data += (-1 if mode else 1) * self.B.data @ self.A.data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.w if self.merged else self.w + self.B @ self.A)


class MergedForGood(Adapter):
    """A module that merges the factors in its first pass in eval mode, and never reverses this."""

    def train(self, mode: bool = True) -> "MergedForGood":
        nn.Module.train(self, mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and not self.merged:
            self.w.data += self.B.data @ self.A.data
            self.merged = True
        return super().forward(x)


@pytest.mark.parametrize("kind", [Adapter, MergedForGood])
@pytest.mark.parametrize("closure", [loss, lambda module: loss(module.eval())])
def test_adapters_that_merge_are_measured_as_weight_and_factors(
    kind: type[Adapter], closure: Callable[[nn.Module], Tensor]
) -> None:
    model = kind()
    report = estimate(model, closure, 0.05, budget=30)
    weights = report.coarse_weights()
    merged = linear(X, weights["w"] + weights["B"] @ weights["A"])
    assert report.coarse_loss == pytest.approx(float(cross_entropy(merged, Y)), abs=1e-5)
    assert not model.merged
    assert model.training


def test_adapters_that_came_merged_stay_so() -> None:
    """The weight contains the factors already, so A and B have no effect on the loss."""
    model = Adapter().eval()
    value = float(loss(model).detach())
    report = estimate(model, loss, 0.05, budget=30)
    assert report.loss == pytest.approx(value, abs=1e-6)
    assert report.coarse_loss == pytest.approx(float(cross_entropy(linear(X, report.coarse_weights()["w"]), Y)), abs=1e-5)


class Renaming(nn.Linear):
    """A module that saves its weight under another name, and loads it from there."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self._register_state_dict_hook(lambda _, state, prefix, __: state.update({f"{prefix}kernel": state.pop(f"{prefix}weight")}))
        self._register_load_state_dict_pre_hook(
            lambda state, prefix, *_: state.update({f"{prefix}weight": state.pop(f"{prefix}kernel")})
        )


class Flipping(nn.Linear):
    """A module that reads another layout than it writes. After it loads its own state dict, it is another network."""

    def __init__(self) -> None:
        super().__init__(8, 4)

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        state[f"{prefix}weight"] = state[f"{prefix}weight"].flip(0)
        super()._load_from_state_dict(state, prefix, *args)


class Refusing(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 4)

    def load_state_dict(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("not here")

    def train(self, mode: bool = True) -> "Refusing":
        if mode:
            raise RuntimeError("for inference only")
        return super().train(mode)


@pytest.mark.parametrize("kind", [Renaming, Flipping, Refusing])
def test_a_module_with_ways_of_its_own_to_load_is_measured_as_it_is(kind: type[nn.Linear]) -> None:
    model = kind()
    report = estimate(model, loss, 0.05, budget=30)
    weights = report.coarse_weights()
    name = "kernel" if kind is Renaming else "weight"
    assert report.loss == pytest.approx(float(loss(model).detach()), abs=1e-6)
    assert report.coarse_loss == pytest.approx(float(cross_entropy(linear(X, weights[name], weights["bias"]), Y)), abs=1e-5)


def test_values_kept_within_parametrizations_cached_are_not_taken_for_other_weights() -> None:
    model = nn.Sequential(nn.Linear(8, 4))
    parametrizations.weight_norm(model[0])
    with parametrize.cached():
        inside = estimate(model, loss, 0.05, budget=30)
    assert inside.file.content == estimate(model, loss, 0.05, budget=30).file.content


def test_the_ways_into_a_module_are_those_that_its_parts_listen_to() -> None:
    assert load_methods_of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), parametrizations.weight_norm(nn.Linear(2, 2)))) == (
        COPY_VALUES,
    )
    assert load_methods_of(nn.Sequential(ClearedInTrain())) == (LoadMethod(in_training=True), COPY_VALUES)
    assert (
        load_methods_of(ClearedByAHook()) == load_methods_of(ClearedWhenLoaded()) == (LoadMethod(by_state_dict=True), COPY_VALUES)
    )


def test_attributes_are_given_back_as_the_very_objects_that_they_were() -> None:
    module = nn.Sequential(InADictionary(), InAttribute())
    module[0].memo["kept"] = torch.ones(1)
    memo, kept = module[0].memo, Attributes(module)
    kept.restore()
    module[0].memo["more"], module[1].folded = torch.ones(1), torch.ones(1)
    kept.restore()
    assert list(module[0].memo) == ["kept"]
    assert module[1].folded is None
    kept.give_back()
    assert module[0].memo is memo
    assert list(memo) == ["kept"]
