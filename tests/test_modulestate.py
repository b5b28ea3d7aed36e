"""A module's tensors: found, exchanged and given back, whatever its hooks do."""

import pytest
import torch
from torch import Tensor, nn

from nncomplexity import InputError, estimate
from nncomplexity.distortion import Distortion
from nncomplexity.modulestate import Borrowed, left_out, load_into, parameters_of, tensors_of
from nncomplexity.report import reports_json
from nncomplexity.table import measured
from nncomplexity.weights import skeleton_of
from tests.families import Hooked


def sum_of(module: nn.Module) -> Tensor:
    return torch.stack([parameter.sum() for parameter in module.parameters()]).sum()


def test_state_that_is_no_tensor_and_buffers_that_are_not_in_it_are_named() -> None:
    assert left_out(Hooked()) == ("_extra_state", "scratch")
    report = estimate(Hooked(), lambda net: net.inner.weight.square().mean(), 0.05, budget=8)
    assert report.subject.left_out == ("_extra_state", "scratch")
    page = measured("net", [report], [None], [None])
    assert "Not measured, as part of the architecture: _extra_state, scratch." in page.splitlines()
    assert reports_json([report]).count('"left_out"') == 1


def test_copies_in_a_state_dict_are_loaded_by_the_module_itself() -> None:
    """Copying into them would change nothing, so that all weights zero would seem to cost no loss."""
    module = Hooked()
    skeleton = skeleton_of(tensors_of(module))
    load_into(module, skeleton, {spec.name: torch.full(spec.shape, 0.5, dtype=spec.dtype) for spec in skeleton.tensors})
    assert module.inner.weight.unique().tolist() == [0.5]
    with Distortion(Hooked(), lambda net: net.inner.weight.square().mean()) as distortion:
        assert distortion.loss({name: torch.zeros_like(tensor) for name, tensor in distortion.weights.items()}) == 0


def test_a_state_dict_that_does_not_load_back_is_refused() -> None:
    class Renamed(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self._register_state_dict_hook(lambda module, state, prefix, _: state.update(half=module.weight.half()))

    with pytest.raises(InputError, match=r"model: its own state dict does not load back .*half.*; pass a mapping of tensors"):
        estimate(Renamed(), sum_of, 0.1)


def test_two_parameters_of_one_storage_have_one_gradient_the_sum_of_both() -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = nn.Parameter(module[0].weight.data)
    skeleton = skeleton_of(tensors_of(module))
    assert [name for name, _ in parameters_of(module, skeleton)] == ["0.weight", "0.weight"]
    with Distortion(module, lambda net: (net[0].weight + 2 * net[1].weight).sum()) as distortion:
        gradient = distortion.gradient(distortion.weights)
    assert gradient is not None
    assert gradient[1]["0.weight"].unique().tolist() == [3]
    with Distortion(module, lambda net: (net[0].weight + 2 * net[1].weight).abs().sum()) as distortion:
        assert distortion.loss({"0.weight": torch.ones(3, 3)}) == 27


def test_a_gradient_that_is_not_finite_counts_as_zero() -> None:
    with Distortion({"w": torch.tensor([0.0, 4.0])}, lambda w: w["w"].sqrt().sum()) as distortion:
        gradient = distortion.gradient(distortion.weights)
    assert gradient is not None
    assert gradient[1]["w"].tolist() == [0, 0.25]


def test_elements_that_share_memory_can_be_changed() -> None:
    class Expanded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(3))
            self.register_buffer("rows", torch.randn(1, 3).expand(5, 3))
            self.again = self.rows

    module = Expanded()
    module.register_buffer("tied", module.rows)
    report = estimate(module, lambda net: (net.rows.square() @ net.w.square()).mean(), 0.5, budget=20)
    assert report.layers[1].names == ("rows", "tied")
    assert module.rows.stride() == (0, 1)
    assert report.within


def test_buffers_that_a_forward_pass_replaces_are_found_again() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor(2.0))

        def forward(self) -> Tensor:
            self.mean = self.mean + 1
            return self.mean.square()

    with Distortion(Counting(), lambda net: net()) as distortion:
        assert [distortion.loss(distortion.weights) for _ in range(3)] == [9, 9, 9]


def test_a_module_that_cannot_be_copied_gets_everything_back() -> None:
    class Single(nn.Linear):
        def __deepcopy__(self, memo: object) -> nn.Module:
            raise TypeError("one only")

    module = Single(3, 2)
    module.register_buffer("scratch", torch.zeros(1), persistent=False)
    before = {name: tensor.clone() for name, tensor in tensors_of(module).items()}
    borrowed = Borrowed(module)
    assert not borrowed.differentiable
    loaded = borrowed.load({name: torch.zeros_like(tensor) for name, tensor in before.items()})
    assert loaded is module
    module.scratch += 1
    assert not module.weight.any()
    borrowed.restore()
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())
    assert module.scratch.item() == 0


def test_a_lazy_module_is_refused_until_it_has_seen_a_batch() -> None:
    module = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(
        InputError, match=r"weights: '0.weight' has no shape yet, as its module is lazy; call the model on a batch first"
    ):
        estimate(module, sum_of, 0.1)
    module(torch.ones(1, 2))
    assert estimate(module, lambda net: sum_of(net).sigmoid(), 0.4, budget=20).within


def test_a_closure_that_fails_only_under_autograd_has_no_gradient() -> None:
    def closure(weights: dict[str, Tensor]) -> float:
        if weights["w"].requires_grad:
            raise TypeError("no leaves, please")
        return float(weights["w"].square().mean())

    assert estimate({"w": torch.linspace(-1, 1, 30)}, closure, 0.1, budget=40).within


@pytest.mark.filterwarnings("ignore")
def test_packed_weights_are_named_as_what_is_not_measured() -> None:
    packed = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 2)), {nn.Linear})
    report = estimate(packed, lambda net: net(torch.ones(1, 3)).square().mean(), 1.0, budget=20)
    assert {layer.name for layer in report.layers} == {"0.scale", "0.zero_point"}
    assert "0._packed_params._packed_params" in report.subject.left_out


@pytest.mark.filterwarnings("ignore")
def test_modules_of_other_kinds_are_measured() -> None:
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    reference = model(x).detach()
    kinds = [torch.jit.trace(model, x), torch.compile(model, backend="eager"), nn.DataParallel(model)]
    reports = [estimate(kind, lambda net: (net(x) - reference).square().mean(), 0.05, budget=30) for kind in (model, *kinds)]
    assert len({report.bits for report in reports}) == 1
    assert reports[0].within
