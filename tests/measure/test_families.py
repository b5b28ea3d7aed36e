"""Networks of many families are measured, decoded and loaded back, and the original does not change."""

import copy

import pytest
import torch
from torch import Tensor, nn

from nncomplexity import estimate, load
from nncomplexity.cli.table import measured
from nncomplexity.network import skeleton_of
from tests.families import FAMILIES, Family


def made(family: Family) -> tuple[nn.Module, object, object]:
    """The network, its batch and the original outputs, which are always the same."""
    torch.manual_seed(3)
    network, batch = family.build(), family.inputs()
    if family.loss is None:
        with torch.no_grad():
            reference = network(batch).detach().clone()
    else:
        reference = None
    return network, batch, reference


def loss_of(family: Family, batch: object, reference: object):
    """The loss as a function of a network. Its random numbers are always the same."""

    def loss(network: nn.Module) -> Tensor | float:
        torch.manual_seed(5)
        if family.loss is not None:
            return family.loss(network, batch)
        return (network(batch).float() - reference.float()).square().mean()

    return loss


def everything(network: nn.Module) -> list[object]:
    """The state that a measurement could change."""
    tensors = [*network.parameters(), *network.buffers()]
    values = [tensor.detach().clone() for tensor in tensors]
    about = [(id(tensor), tensor.requires_grad, tensor.grad is None, tensor._version) for tensor in tensors]
    return [values, about, [module.training for module in network.modules()], torch.get_rng_state()]


def assert_same(before: list[object], after: list[object]) -> None:
    assert before[1:3] == after[1:3]
    assert torch.equal(before[3], after[3])
    assert all(torch.equal(one, other) for one, other in zip(before[0], after[0], strict=True))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_is_measured_decoded_and_loaded_back(name: str, tmp_path) -> None:
    family = FAMILIES[name]
    network, batch, reference = made(family)
    loss = loss_of(family, batch, reference)
    torch.manual_seed(7)
    before = everything(network)
    report = estimate(network, loss, family.eps, budget=30)
    assert_same(before, everything(network))

    assert report.within, report.status
    assert report.distortion <= family.eps
    assert report.bits < min(report.subject.lossless_bits.values())
    report.save(tmp_path / "model.coarse")
    decoded = load(tmp_path / "model.coarse")
    fresh = family.build()
    given = fresh.state_dict()
    fresh.load_state_dict({name: decoded.get(name, value) for name, value in given.items()}, strict=True)
    assert set(given) - set(decoded) <= set(report.subject.left_out)
    with torch.no_grad():
        assert float(loss(fresh)) == report.coarse_loss

    # The report has every tensor and its form, and tied names are tied again.
    state = {key: value for key, value in network.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    assert {key for layer in report.layers for key in layer.names} == set(state) == set(decoded)
    assert skeleton_of(decoded).tensors == skeleton_of(state).tensors
    page = measured("net", [report], [None], [None])
    assert all(key in page.replace("\n", "") for key in state if len(key) < 16)
    for layer in report.layers:
        assert tuple(layer.shape) == tuple(state[layer.name].shape)
        if not (state[layer.name].is_floating_point() or state[layer.name].is_complex()):
            assert layer.form in ("lossless", "zero", "constant")
            assert torch.equal(decoded[layer.name], state[layer.name])


@pytest.mark.parametrize("name", ["gpt-2, tied", "complex", "resnet", "lora"])
@pytest.mark.parametrize("method", ["bayes", "quantize"])
def test_the_papers_searches_take_them_too(name: str, method: str) -> None:
    family = FAMILIES[name]
    network, batch, reference = made(family)
    report = estimate(network, loss_of(family, batch, reference), family.eps, method=method, budget=14)
    fresh = copy.deepcopy(network)
    fresh.load_state_dict(report.coarse_weights(), strict=True)
    with torch.no_grad():
        assert float(loss_of(family, batch, reference)(fresh)) == report.coarse_loss


@pytest.mark.parametrize("name", ["mlp", "complex", "gpt-2, tied", "float16"])
def test_a_mapping_of_tensors_gives_what_the_module_gives(name: str) -> None:
    family = FAMILIES[name]
    network, batch, reference = made(family)
    loss = loss_of(family, batch, reference)

    def functional(weights: dict[str, Tensor]) -> Tensor:
        class Called(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.func.functional_call(network, weights, (x,))

        return loss(Called())

    report = estimate(dict(network.state_dict()), functional, family.eps, budget=30)
    assert report.file.content == estimate(network, loss, family.eps, budget=30).file.content
