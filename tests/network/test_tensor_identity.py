"""Which names share one tensor, and which tensors have no memory of their own and are refused: quantized, fake, transformed."""

import warnings
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.masked import masked_tensor
from torch.utils._pytree import tree_map

from nncomplexity import InputError, estimate
from nncomplexity.network import Distortion, ModuleTarget, base_of, skeleton_of
from nncomplexity.training import weight_noise

NO_MEMORY = "which has no memory of its own, like quantized and masked tensors; dequantize it first, or pass its parts"


class Scaled(Tensor):
    """Small integers and a scale that behave like float32: a wrapper, whose own memory is at address 0."""

    q: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, q: Tensor, scale: Tensor) -> "Scaled":
        return Tensor._make_wrapper_subclass(cls, q.shape, dtype=torch.float32, device=q.device)

    def __init__(self, q: Tensor, scale: Tensor) -> None:
        self.q, self.scale = q, scale

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def values(value: Any) -> Any:
            return value.q.float() * value.scale if isinstance(value, Scaled) else value

        return func(*tree_map(values, args), **tree_map(values, kwargs or {}))


class Closed(Scaled):
    """A tensor that stays of its class when it is detached, like torchao's, and refuses all other operations."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].q, args[0].scale)
        raise NotImplementedError(f"{cls.__name__} has no {func}")

    def __deepcopy__(self, memo: Any) -> Any:
        raise NotImplementedError("no copy")


class Refusing(Closed):
    """A tensor that refuses to be detached, and has no address."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(f"{cls.__name__} has no {func}")

    def data_ptr(self) -> int:
        raise TypeError("it is nowhere")


class Logged(Tensor):
    """A tensor with real memory, whose operations return tensors of its class."""

    @staticmethod
    def __new__(cls, values: Tensor) -> "Logged":
        return Tensor._make_subclass(cls, values)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C._DisableTorchDispatch():
            found = func(*args, **(kwargs or {}))
        return tree_map(lambda value: value.as_subclass(cls) if type(value) is Tensor else value, found)


class Labelled(Tensor):
    """A tensor with its own class and no other difference, like torchvision's images."""


class Adapted(nn.Parameter):
    """The same for a parameter."""


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantized(kind: type[Scaled], seed: int, *shape: int) -> Scaled:
    values = normal(*shape, seed=seed)
    scale = values.abs().max() / 127
    return kind((values / scale).round().to(torch.int8), scale)


def test_wrappers_that_give_their_values_are_as_many_tensors_as_there_are() -> None:
    weights: dict[str, Tensor] = {"a": quantized(Scaled, 0, 12, 12), "b": quantized(Scaled, 1, 12, 12)}
    weights["again"] = weights["a"]

    def loss(w: Mapping[str, Tensor]) -> Tensor:
        return (w["a"] @ w["b"]).square().mean() + (w["a"] - w["again"]).abs().sum()

    report = estimate(weights, loss, eps=0.1, budget=40)
    assert report.loss == float(loss(weights))
    assert [layer.names for layer in report.layers] == [("a", "again"), ("b",)]
    assert report.within
    assert float(loss(report.coarse_weights())) == report.coarse_loss
    assert torch.equal(base_of(weights).tensors["b"], weights["b"].q.float() * weights["b"].scale)


@pytest.mark.parametrize("kind", [Closed, Refusing])
def test_other_wrappers_are_refused_by_name(kind: type[Scaled]) -> None:
    weights = {"bias": torch.ones(3), "layer.weight": quantized(kind, 0, 4, 4)}
    words = f"expected 'layer.weight' to be a dense tensor in memory, got {kind.__name__}, {NO_MEMORY}"
    with pytest.raises(InputError, match=f"^weights: {words}$"):
        estimate(weights, lambda w: w["bias"].sum(), 0.1)
    with pytest.raises(InputError, match=f"^relative_to: {words}$"):
        estimate({"bias": torch.ones(3)}, lambda w: w["bias"].sum(), 0.1, relative_to=weights)


class Holder(nn.Module):
    """A module with a tensor as a parameter or a buffer."""

    def __init__(self, held: Tensor, persistent: bool | None = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.ones(4))
        if persistent is None:
            self.weight = nn.Parameter(held, requires_grad=False)
        else:
            self.register_buffer("weight", held, persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        return x.sum() * self.bias


class InParts(Holder):
    """A module whose state dict has the parts of its weight, like optimum-quanto's layers."""

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight._data"], destination[f"{prefix}weight._scale"] = self.weight.q, self.weight.scale
        destination[f"{prefix}bias"] = self.bias


@pytest.mark.parametrize(("kind", "persistent"), [(Closed, None), (Closed, True), (Scaled, True)])
def test_modules_of_wrappers_are_refused_by_name(kind: type[Scaled], persistent: bool | None) -> None:
    module = nn.Sequential(Holder(quantized(kind, 0, 4, 4), persistent))
    with pytest.raises(InputError, match=f"^weights: expected '0.weight' to be a dense tensor in memory, got {kind.__name__}, "):
        estimate(module, lambda net: net(torch.ones(4)).sum(), 0.1)


def test_a_module_that_shows_the_parts_of_a_wrapper_is_refused_by_the_name_of_its_parameter() -> None:
    module = nn.Sequential(InParts(quantized(Closed, 0, 4, 4)))
    with pytest.raises(InputError, match=f"^model: expected '0.weight' to be a dense tensor in memory, got Closed, {NO_MEMORY}$"):
        ModuleTarget(module)


def test_a_wrapper_beside_the_state_is_left_as_it_is() -> None:
    module = Holder(quantized(Closed, 0, 4, 4), persistent=False)
    report = estimate(module, lambda net: net(torch.ones(4)).square().sum(), 0.5, budget=20)
    assert report.subject.left_out == ("weight",)
    assert report.within


def fake() -> Tensor:
    with FakeTensorMode():
        return torch.ones(2, 2)


def within_vmap() -> Tensor:
    found = []
    torch.func.vmap(lambda x: found.append(x) or x.sum())(torch.ones(2, 3))
    return found[0]


def masked() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return masked_tensor(torch.ones(2), torch.tensor([True, False]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (fake, "got FakeTensor, which has no values; make it outside of FakeTensorMode"),
        (within_vmap, "got Tensor, which has no memory of its own within vmap, grad or functionalize; call it outside of them"),
        (lambda: torch._to_functional_tensor(torch.ones(2)), "got Tensor, which has no memory of its own within vmap, grad or"),
        (
            masked,
            "got MaskedTensor, which has no memory of its own, like quantized and masked tensors; dequantize it first",
        ),
        (
            lambda: Logged(torch.ones(2)),
            "got Logged, whose class defines all operations itself; pass an ordinary tensor with its values",
        ),
    ],
)
def test_tensors_without_values_of_their_own_are_refused(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"^weights: expected 'w' to be a dense tensor in memory, {words}"):
        estimate({"w": make()}, lambda w: w["w"].sum(), 0.1)


WRAPS = [
    lambda values: values.as_subclass(Labelled),
    Adapted,
    nn.Parameter,
    getattr(nn, "Buffer", nn.Parameter),
]  # since PyTorch 2.5


@pytest.mark.parametrize("wrap", WRAPS)
def test_subclasses_in_memory_of_their_own_are_measured_as_tensors_are(wrap: Any) -> None:
    plain = {"a": normal(6, 6, seed=0), "b": normal(6, 6, seed=1)}

    def loss(w: Mapping[str, Tensor]) -> Tensor:
        return (w["a"] @ w["b"]).square().mean()

    report = estimate({name: wrap(tensor) for name, tensor in plain.items()}, loss, 0.1, budget=40)
    assert report.file.content == estimate(plain, loss, 0.1, budget=40).file.content
    module = Holder(normal(4, 4, seed=0).as_subclass(Labelled), persistent=True)
    assert estimate(module, lambda net: net.weight.square().mean() + net(torch.ones(4)).mean(), 0.1, budget=20).within


def test_tensors_are_one_where_they_are_one_view_of_one_storage() -> None:
    whole = torch.arange(12.0)
    weights = {
        "first": whole[:6],
        "second": whole[3:9],
        "as first": whole.narrow(0, 0, 6),
        "folded": whole[:6].view(2, 3),
        "bits": whole[:6].view(torch.int32),
        "equal": whole[:6].clone(),
        "none": torch.zeros(0),
        "nor here": torch.zeros(0),
        "half of none": whole[:0],
    }
    assert [spec.names for spec in skeleton_of(weights).tensors] == [
        ("first", "as first"),
        *((name,) for name in weights if name not in ("first", "as first")),
    ]


def test_one_file_mapped_twice_is_two_tensors(tmp_path: Any) -> None:
    path = str(tmp_path / "numbers")
    normal(16, seed=0).numpy().tofile(path)
    twice = {name: torch.from_file(path, size=16) for name in ("a", "b")}
    assert len(skeleton_of(twice).tensors) == 2
    with Distortion(twice, lambda w: w["a"].sum() + 2 * w["b"].sum()) as distortion:
        assert distortion.loss(distortion.weights | {"b": torch.zeros(16)}) == float(twice["a"].sum())


def test_noise_on_a_parameter_without_memory_is_refused_by_name() -> None:
    module = nn.Sequential(nn.Linear(2, 2), Holder(quantized(Closed, 0, 4, 4)))
    with (
        pytest.raises(InputError, match=f"^module: expected '1.weight' to be a dense tensor in memory, got Closed, {NO_MEMORY}$"),
        weight_noise(module, 0.1),
    ):
        pass
