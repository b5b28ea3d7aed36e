"""The tensors of a module: they are found, replaced and restored, whatever its hooks do."""

import threading

import pytest
import torch
from torch import Tensor, nn

from nncomplexity import InputError, estimate
from nncomplexity.cli.table import measured
from nncomplexity.measure import reports_json
from nncomplexity.network import Distortion, ModuleTarget, skeleton_of, tensors_of
from nncomplexity.network.modulestate import left_out, load_into, parameters_of
from tests.families import Hooked


def sum_of(module: nn.Module) -> Tensor:
    return torch.stack([parameter.sum() for parameter in module.parameters()]).sum()


def test_state_that_is_no_tensor_and_buffers_that_are_not_in_it_are_named() -> None:
    assert left_out(Hooked()) == ("_extra_state", "scratch")
    report = estimate(Hooked(), lambda net: net.inner.weight.square().mean(), 0.05, budget=8)
    assert report.subject.left_out == ("_extra_state", "scratch")
    page = measured("net", [report], [None], [None])
    assert "Not measured, because it is part of the architecture: _extra_state, scratch." in page.splitlines()
    assert reports_json([report]).count('"left_out"') == 1


def test_copies_in_a_state_dict_are_loaded_by_the_module_itself() -> None:
    """Copying values into the copies would change nothing. Then all weights zero would seem to have the same loss."""
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
    borrowed = ModuleTarget(module)
    assert not borrowed.differentiable
    loaded = borrowed.load({name: torch.zeros_like(tensor) for name, tensor in before.items()})
    assert loaded is module
    module.scratch += 1
    assert not module.weight.any()
    borrowed.restore()
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())
    assert module.scratch.item() == 0


class Held(nn.Module):
    """A module that can't be copied, because it holds a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.body = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
        self.head = nn.Linear(3, 1)
        self.head.bias.requires_grad_(False)


def test_a_module_that_cannot_be_copied_gets_back_what_a_loss_changed_besides_values() -> None:
    inputs = torch.randn(8, 3)

    def loss(net: Held) -> Tensor:
        net.eval()
        net.body[2].running_mean = torch.zeros(3)
        net.body[0].weight.grad.zero_()
        for parameter in net.parameters():
            parameter.requires_grad_(not parameter.requires_grad)
            parameter.grad = None
        net.double()
        net.head.register_parameter("spare", nn.Parameter(torch.ones(1)))
        value = net.head(net.body(inputs.double())).square().mean()
        net.float()
        net.body[0].weight.grad = torch.full((3, 3), 9.0)
        return value

    module = Held()
    module.body[2].eval()
    module.head.double()
    gradient = module.body[0].weight.grad = torch.ones(3, 3)
    kept = {name: (tensor, tensor.data_ptr(), tensor.dtype, tensor.requires_grad) for name, tensor in tensors_of(module).items()}
    values = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    Distortion(module, loss).__enter__().__exit__()
    after = {name: (tensor, tensor.data_ptr(), tensor.dtype, tensor.requires_grad) for name, tensor in tensors_of(module).items()}
    assert all(after[name][0] is kept[name][0] and after[name][1:] == kept[name][1:] for name in kept)
    assert after.keys() == kept.keys()
    assert all(torch.equal(module.state_dict()[name], value) for name, value in values.items())
    assert [part.training for part in module.modules()] == modes
    assert module.body[0].weight.grad is gradient
    assert gradient.unique().tolist() == [1]
    assert module.head.weight.grad is None


def test_a_module_that_can_be_neither_copied_nor_changed_is_refused() -> None:
    with torch.inference_mode():
        module = Held()
        assert estimate(module, lambda net: net.head.weight.square().mean(), 0.1, budget=8).within
    with pytest.raises(
        InputError, match=r"model: it can't be copied, and its tensors can be changed only in torch.inference_mode; pass a mapping"
    ):
        estimate(module, lambda net: net.head.weight.square().mean(), 0.1)


class Itself(nn.Linear):
    def __deepcopy__(self, memo: object) -> nn.Module:
        return self


class OfTheSameTensors(nn.Linear):
    def __deepcopy__(self, memo: object) -> nn.Module:
        other = nn.Linear(self.in_features, self.out_features)
        other.weight, other.bias = self.weight, self.bias
        return other


@pytest.mark.parametrize(
    "module",
    [
        Itself(3, 3),
        nn.Sequential(nn.Linear(3, 3), Itself(3, 3).requires_grad_(False)),
        nn.Sequential(nn.Linear(3, 3), OfTheSameTensors(3, 3)),
    ],
)
def test_what_a_copy_shares_with_the_module_is_left_as_it_was(module: nn.Module) -> None:
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in module.parameters()]
    report = estimate(module, lambda net: net.eval()(inputs).square().mean(), 0.1, budget=20)
    assert report.within
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())
    assert [parameter.requires_grad for parameter in module.parameters()] == wanted
    assert all(part.training for part in module.modules())


@pytest.mark.parametrize("made_there", [True, False])
def test_inference_mode_costs_no_gradient(made_there: bool) -> None:
    inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(made_there):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)).eval()
    with torch.inference_mode(), Distortion(module, lambda net: net(inputs).square().mean()) as distortion:
        found = distortion.gradient(distortion.weights)
    assert found is not None
    assert found[1].keys() == {name for name, _ in module.named_parameters()}
    inside, outside = (_estimated_in(mode, module, inputs) for mode in (True, False))
    assert inside == outside


def _estimated_in(mode: bool, module: nn.Module, inputs: Tensor) -> bytes:
    with torch.inference_mode(mode):
        return estimate(module, lambda net: net(inputs).square().mean(), 0.05, budget=60).file.content


def test_a_lazy_module_is_refused_until_it_has_seen_a_batch() -> None:
    module = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(
        InputError, match=r"weights: '0.weight' has no shape yet, because its module is lazy; call the model with a batch first"
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


class CopiedTwice(nn.Linear):
    """A module that can be copied only once, as if memory were short afterwards."""

    copies = 0

    def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:
        CopiedTwice.copies += 1
        if CopiedTwice.copies > 2:
            raise MemoryError
        other = CopiedTwice(2, 2)
        if CopiedTwice.copies == 1:
            other.load_state_dict(self.state_dict())
        else:
            other.weight, other.bias = (memo.get(id(one), one) for one in (self.weight, self.bias))
        return other


def test_a_module_that_cannot_be_copied_again_is_refused() -> None:
    CopiedTwice.copies = 0
    with pytest.raises(InputError, match="model: it can't be copied again; pass a mapping of tensors"):
        estimate(CopiedTwice(2, 2), lambda net: net.weight.square().mean(), 0.1)


class MadeAnew(nn.Module):
    """A module like those of Keras: its copy is built from the configuration, with other names and other values."""

    def __init__(self, name: str = "sequential") -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(len(name))
        self.held = nn.ParameterDict({f"{name}/kernel": nn.Parameter(torch.randn(4, 3, generator=generator))})

    def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:
        return MadeAnew("dense")

    def forward(self, inputs: Tensor) -> Tensor:
        (kernel,) = self.held.values()
        return inputs @ kernel


def test_a_module_whose_copy_has_other_names_is_measured_in_place() -> None:
    module = MadeAnew()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    inputs = torch.randn(20, 4, generator=torch.Generator().manual_seed(1))
    report = estimate(module, lambda net: net(inputs).square().mean(), 0.1, budget=30)
    (kernel,) = before.values()
    plain = estimate(
        {"held.sequential/kernel": kernel}, lambda w: (inputs @ w["held.sequential/kernel"]).square().mean(), 0.1, budget=30
    )
    assert report.within
    assert report.loss == pytest.approx(plain.loss)
    assert [layer.name for layer in report.layers] == ["held.sequential/kernel"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
