"""Measuring relative to a base: fine-tuning is found, an unchanged network costs nothing, and the loss is that of the decoded weights."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from examples.digits import task
from nncomplexity import InputError, estimate, load
from nncomplexity.cli.table import measured
from nncomplexity.codecs import CODECS
from nncomplexity.file import LowRank
from nncomplexity.network import Distortion, base_of
from nncomplexity.search import Bayes, Method, Quantize, Tight

METHODS: list[Method] = [Tight(budget=90), Bayes(budget=14, steps=(1e-4, 1.0)), Quantize(budget=20, steps=(1e-4, 1.0))]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def nearness(target: dict[str, Tensor]):
    """A loss whose minimum is at the target: the mean squared error, computed in the target's dtype."""

    def loss(weights) -> Tensor:
        state = weights.state_dict(keep_vars=True) if isinstance(weights, nn.Module) else weights
        wide = torch.complex128, torch.float64
        return sum(
            (state[name].to(wide[0] if state[name].is_complex() else wide[1]) - tensor.to(wide[0])).abs().square().mean()
            for name, tensor in target.items()
        )

    return loss


@every_method
def test_a_network_that_is_its_base_takes_no_bits_and_no_search(method) -> None:
    weights = {"w": normal(40, 30), "b": normal(40, seed=1), "n": torch.tensor(12345), "mask": torch.full((3,), -float("inf"))}
    loss = nearness({"w": weights["w"]})
    for report in estimate(weights, loss, [0.1, 0], method=method, relative_to=weights):
        assert report.bits <= 8
        assert report.within
        assert (report.distortion, report.evaluations) == (0.0, 0.0)
        assert {layer.form for layer in report.layers} == {"unchanged"}
        assert all(layer.relative for layer in report.layers)


@every_method
def test_a_change_of_rank_one_is_found_and_is_far_smaller_than_the_network(method) -> None:
    base = {"w": normal(48, 40), "b": normal(48, seed=1)}
    tuned = base | {"w": base["w"] + 0.3 * normal(48, 1, seed=2) @ normal(1, 40, seed=3)}
    loss = nearness(tuned)
    relative = estimate(tuned, loss, 0.003, method=method, relative_to=base)
    absolute = estimate(tuned, loss, 0.003, method=method)
    assert relative.within
    assert relative.distortion <= 0.003
    assert relative.bits < absolute.bits / (2 if method.name == "quantize" else 3)
    layers = {layer.name: layer for layer in relative.layers}
    assert layers["b"].form == "unchanged"
    if method.name != "quantize":
        assert (layers["w"].form, layers["w"].rank) == ("low_rank", 1)
    assert layers["w"].effective_rank == pytest.approx(1.0, abs=1e-3)  # the rank of the difference
    assert (relative.paper_bytes is None) == (method.name == "tight")
    assert loss(relative.coarse_weights()).item() == relative.coarse_loss


def fine_tuned(name: str, steps: int) -> tuple[dict[str, Tensor], nn.Module]:
    """A network of the examples, and the same network after some steps on a task in which the labels 3 and 8 are exchanged."""
    base = load_file(f"examples/digits/checkpoints/{name}.safetensors")
    model = task.BUILDERS[name]()
    model.load_state_dict(base)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        swapped(model).backward()
        optimizer.step()
    return base, model


def swapped(network) -> Tensor:
    images, labels = task.split("train")
    swap = torch.arange(10)
    swap[[3, 8]] = swap[[8, 3]]
    return cross_entropy(task.logits(network, images), swap[labels])


def test_a_fine_tune_of_the_digits_takes_a_fraction_of_its_network(tmp_path) -> None:
    base, model = fine_tuned("mlp", 60)
    relative = estimate(model, swapped, 0.1, budget=60, relative_to=base)
    absolute = estimate(model, swapped, 0.1, budget=60)
    assert relative.within
    assert relative.bits < absolute.bits / 4
    assert min(relative.subject.lossless_bits.values()) < min(absolute.subject.lossless_bits.values()) / 2
    relative.save(tmp_path / "tuned.coarse")
    fresh = task.mlp()
    fresh.load_state_dict(load(tmp_path / "tuned.coarse", base=base), strict=True)
    with torch.no_grad():
        assert swapped(fresh).item() == relative.coarse_loss


@every_method
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_each_method_and_codec_gives_a_file_with_the_loss_it_states(method, codec, tmp_path) -> None:
    base, model = fine_tuned("convnet", 10)
    quick = replace(method, budget=24 if method.name == "tight" else 14)
    report = estimate(model, swapped, 0.3, method=quick, codec=codec.name, relative_to=base)
    assert report.distortion <= 0.3
    report.save(tmp_path / "tuned.coarse")
    fresh = task.convnet()
    fresh.load_state_dict(load(tmp_path / "tuned.coarse", base=base), strict=True)
    with torch.no_grad():
        assert swapped(fresh).item() == report.coarse_loss


def test_lossless_gives_the_weights_back_bit_for_bit() -> None:
    base = {
        "half": normal(9, 5, dtype=torch.float16),
        "double": normal(9, 5, dtype=torch.float64),
        "small": normal(9, 5, dtype=torch.float8_e5m2),
        "phase": torch.complex(normal(4, 3), normal(4, 3, seed=1)),
        "count": torch.tensor(17),
        "flag": torch.tensor([True, False]),
    }
    tuned = {
        "half": base["half"] * 1.01,
        "double": base["double"] * 1e-9,
        "small": (base["small"].float() * 1.5).to(torch.float8_e5m2),
        "phase": base["phase"] * 1j,
        "count": torch.tensor(23),
        "flag": torch.tensor([True, True]),
    }
    report = estimate(tuned, nearness({"double": tuned["double"]}), 0, relative_to=base)
    for name, tensor in report.coarse_weights().items():
        assert torch.equal(
            tensor.view(torch.uint8) if tensor.dim() else tensor, tuned[name].view(torch.uint8) if tensor.dim() else tuned[name]
        )
    assert report.distortion == 0


@every_method
def test_dtypes_ties_and_heads_of_another_shape(method) -> None:
    shared = normal(12, 8)
    base = {
        "embed": shared,
        "half": normal(12, 8, seed=1, dtype=torch.bfloat16),
        "small": normal(12, 8, seed=2, dtype=torch.float8_e4m3fn),
        "phase": torch.complex(normal(12, 8, seed=3), normal(12, 8, seed=4)),
        "wide": normal(12, 8, seed=5),  # stored as bfloat16 in the network
        "head": normal(10, 8, seed=6),
        "count": torch.tensor(3),
        "gone": normal(2),
    }
    tied = shared + 0.1
    tuned = {
        "embed": tied,
        "unembed": tied,
        "half": (base["half"].float() + 0.2).bfloat16(),
        "small": base["small"],
        "phase": base["phase"] + (0.1 - 0.2j),
        "wide": base["wide"].bfloat16(),
        "head": normal(4, 8, seed=7),
        "new": normal(3),
        "count": torch.tensor(4),
    }
    loss = nearness({name: tuned[name] for name in ("embed", "half", "small", "phase", "head", "new")})
    report = estimate(tuned, loss, 0.02, method=method, relative_to=base)
    assert report.distortion <= 0.02
    about = report.subject.relative_to
    assert about is not None
    assert (about.without_base, about.unused, about.path) == (("head", "new"), ("gone",), None)
    layers = {layer.name: layer for layer in report.layers}
    assert [name for name, layer in layers.items() if not layer.relative] == ["head", "new"]
    assert layers["small"].form == layers["wide"].form == "unchanged"
    assert layers["count"].form == "constant"  # one more than the base's
    weights = report.coarse_weights()
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in weights.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in tuned.items()
    }
    assert weights["embed"] is weights["unembed"]
    assert weights["count"] == 4
    assert loss(weights).item() == report.coarse_loss
    page = measured("tuned.pt", [report], [None], [None])
    assert "Not in the base in the same shape, so coded whole: head, new." in page
    assert "Only in the base, and not used: gone." in page


def test_what_is_excluded_is_kept_and_costs_what_differs() -> None:
    base = {"w": normal(30, 20), "v": normal(30, 20, seed=1)}
    tuned = {"w": base["w"] + 0.05, "v": base["v"].clone()}
    tuned["v"][3, 4] += 1
    report = estimate(tuned, nearness(tuned), 0.01, budget=30, exclude="v", relative_to=base)
    layers = {layer.name: layer for layer in report.layers}
    assert layers["v"].form == "lossless"
    assert layers["v"].bits < 3000  # of 19200: only one element is not zero, and the models must learn this
    assert torch.equal(report.coarse_weights()["v"], tuned["v"])


def test_an_infinity_on_either_side_is_kept() -> None:
    base = {"w": normal(5, 4), "open": torch.zeros(3), "closed": torch.full((3,), -float("inf"))}
    tuned = {"w": base["w"] + 0.5, "open": torch.full((3,), float("inf")), "closed": torch.zeros(3)}
    report = estimate(tuned, nearness({"w": tuned["w"]}), 0.05, budget=30, relative_to=base)
    assert {layer.name: layer.form for layer in report.layers if layer.name != "w"} == {"open": "lossless", "closed": "lossless"}
    weights = report.coarse_weights()
    assert torch.equal(weights["open"], tuned["open"])
    assert torch.equal(weights["closed"], tuned["closed"])


def test_buffers_and_a_loss_without_a_gradient() -> None:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
    model.load_state_dict(base.state_dict())
    x = normal(50, 6)
    model.train()(x)  # changes the running statistics and the count of batches
    with torch.no_grad():
        model[0].weight += 0.1
    model.eval()
    wanted = model(x).detach()
    for loss in (lambda m: (m(x) - wanted).square().mean(), lambda m: float((m(x) - wanted).square().mean().detach())):
        report = estimate(model, loss, 0.05, budget=60, relative_to=base)
        assert report.within
        assert {layer.name for layer in report.layers if layer.form == "unchanged"} >= {"0.bias", "1.weight", "1.bias"}
        fresh = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)).eval()
        fresh.load_state_dict(report.coarse_weights(), strict=True)
        with torch.no_grad():
            assert float(loss(fresh)) == report.coarse_loss
        assert fresh[1].num_batches_tracked == 1


def test_the_gradient_of_a_difference_is_that_of_the_weight() -> None:
    base, tuned = {"w": normal(4, 3)}, {"w": normal(4, 3, seed=1)}
    with Distortion(tuned, nearness({"w": torch.zeros(4, 3)}), base_of(base)) as distortion:
        assert torch.equal(distortion.coded["w"], tuned["w"].double() - base["w"].double())
        decoded = LowRank(torch.ones(4, 1).long().numpy(), torch.ones(1, 3).long().numpy(), 0.5, 0.5).decode(
            distortion.skeleton.tensors[0]
        )
        assert torch.equal(decoded, (base["w"].double() + 0.25).float())
        _, gradients = distortion.gradient({"w": decoded})
        assert torch.allclose(gradients["w"].double(), 2 * decoded.double() / 12)


def test_several_eps_and_what_json_says() -> None:
    base = {"w": normal(30, 20)}
    tuned = {"w": base["w"] + 0.1 * normal(30, 1, seed=1)}
    reports = estimate(tuned, nearness(tuned), [0.01, 0.001], budget=40, relative_to=base_of(base, path="base.pt"))
    assert reports[0].bits <= reports[1].bits
    content = json.loads(reports[0].to_json())
    assert content["relative_to"] == {"path": "base.pt", "sha256": base_of(base).sha256, "without_base": [], "unused": []}
    assert content["results"][0]["layers"][0]["relative"] is True
    assert json.loads(estimate(tuned, nearness(tuned), 0).to_json())["relative_to"] is None


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ({"v": torch.zeros(3)}, "relative_to: expected tensors of the model's names and shapes, such as w, got none; it has v"),
        ({"w": torch.zeros(3, 3)}, "relative_to: expected tensors of the model's names and shapes, such as w, got none; it has w"),
        ("base.pt", "relative_to: expected a module or a mapping of names to tensors, got str; load the file first"),
        ({"w": torch.tensor([float("nan")] * 3)}, "relative_to: 'w' holds 3 values that are NaN"),
    ],
)
def test_a_base_that_is_none(base, words) -> None:
    with pytest.raises(InputError, match=words):
        estimate({"w": torch.ones(3)}, nearness({"w": torch.ones(3)}), 0.1, relative_to=base)
