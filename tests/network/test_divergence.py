"""Divergences against closed forms, autograd and their properties; inputs in every form; how faithful a file is."""

import math
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, kl_div
from torch.utils.data import DataLoader, TensorDataset

from nncomplexity import estimate
from nncomplexity.errors import InputError
from nncomplexity.network import Divergence, NamedDivergence, read
from nncomplexity.network.divergence import Faithfulness, Fidelity
from nncomplexity.network.divergence.inputs import Batch, count, joined, split, taken
from nncomplexity.network.divergence.kinds import bernoulli, kind_of, kl, squared_error, units


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def identity(network: Any, x: Any) -> Tensor:
    """The weights themselves as outputs: one row for each input."""
    rows = x["rows"] if isinstance(x, dict) else x
    return network["w"][rows]


def rows_of(n: int) -> Tensor:
    return torch.arange(n)


# ---- kinds


def test_kl_is_the_sum_of_p_log_p_over_q() -> None:
    g, f = randn(40, 7), randn(40, 7, seed=1)
    p, q = g.softmax(1), f.softmax(1)
    assert torch.allclose(kl(g, f), (p * (p / q).log()).sum(1), rtol=1e-12, atol=0)
    assert torch.allclose(
        kl(g, f), kl_div(f.log_softmax(1), g.log_softmax(1), reduction="none", log_target=True).sum(1), rtol=1e-12
    )


def test_bernoulli_is_a_cross_entropy_less_an_entropy_summed_over_outputs() -> None:
    g, f = 3 * randn(30, 4), 3 * randn(30, 4, seed=1)
    p = g.sigmoid()
    expected = (
        binary_cross_entropy_with_logits(f, p, reduction="none") - binary_cross_entropy_with_logits(g, p, reduction="none")
    ).sum(1)
    assert torch.allclose(bernoulli(g, f), expected, rtol=1e-10, atol=1e-14)


def test_kl_of_two_classes_is_bernoulli_of_their_difference() -> None:
    g, f = randn(20, 2), randn(20, 2, seed=1)
    assert torch.allclose(kl(g, f), bernoulli(g[:, :1] - g[:, 1:], f[:, :1] - f[:, 1:]), rtol=1e-12)


def test_mse_is_over_the_total_variance_of_the_originals_outputs() -> None:
    g, f = randn(50, 3), randn(50, 3, seed=1)
    found = Divergence(identity, rows_of(50), "mse", probe=0).against({"w": g})({"w": f})
    expected = (f - g).square().sum() / (g - g.mean(0)).square().sum()
    assert math.isclose(float(found), float(expected), rel_tol=1e-12)


def test_mse_of_the_mean_answer_is_one() -> None:
    g = randn(50, 3)
    found = Divergence(identity, rows_of(50), "mse", probe=0).against({"w": g})({"w": g.mean(0).expand(50, 3)})
    assert math.isclose(float(found), 1.0, rel_tol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 30.0])
def test_small_divergences_are_those_of_higher_precision(scale: float) -> None:
    # For f = g + t·h and small t the divergence is t²/2 · Var_p(h).
    g, h = scale * randn(10, 5), randn(10, 5, seed=1)
    p, t = g.softmax(1), 1e-9
    expected = t * t / 2 * (p * (h - (p * h).sum(1, keepdim=True)).square()).sum(1)
    assert torch.allclose(kl(g, g + t * h), expected, rtol=1e-4, atol=1e-40)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31), st.sampled_from([0.0, 1e-12, 1e-7, 1e-3, 1.0, 100.0]), st.sampled_from([torch.float32, torch.float16])
)
def test_no_divergence_is_negative_and_none_is_of_outputs_from_themselves(seed: int, size: float, dtype: torch.dtype) -> None:
    g = (5 * randn(6, 4, seed=seed)).to(dtype)
    f = (g.double() + size * randn(6, 4, seed=seed + 1)).to(dtype)
    for between in (kl, bernoulli, squared_error):
        assert bool((between(g, f) >= 0).all())
        assert between(g, g).tolist() == [0.0] * 6


def test_classes_that_are_ruled_out_take_no_part() -> None:
    g, f = randn(5, 3), randn(5, 3, seed=1)
    out = torch.full((5, 1), -math.inf, dtype=torch.float64)
    f.requires_grad_()
    with_it = kl(torch.cat([g, out], 1), torch.cat([f, out], 1))
    assert torch.allclose(with_it, kl(g, f), rtol=1e-12)
    (grad,) = torch.autograd.grad(with_it.sum(), [f])
    assert bool(grad.isfinite().all())


def test_what_a_file_rules_out_and_the_original_does_not_is_infinitely_far() -> None:
    g, f = torch.zeros(1, 2), torch.tensor([[0.0, -math.inf]])
    assert kl(g, f).tolist() == [math.inf]
    assert math.isclose(float(kl(f, g)), math.log(2))


def test_logits_far_apart_have_the_divergence_of_their_distance() -> None:
    g = torch.tensor([[0.0, -2000.0]], dtype=torch.float64)
    assert math.isclose(float(kl(g, -g)), 2000.0)
    assert math.isclose(float(kl(g.flip(1), g)), 2000.0)
    assert math.isclose(float(bernoulli(torch.tensor([[1000.0]]), torch.tensor([[-1000.0]]))), 1000.0)


@pytest.mark.parametrize("between", [kl, bernoulli, squared_error])
def test_gradients_are_those_of_finite_differences(between: Any) -> None:
    g, f = 2 * randn(4, 3), 2 * randn(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda x: between(g, x), f.requires_grad_(), eps=1e-6, atol=1e-8)


def test_the_gradient_of_kl_is_q_less_p() -> None:
    g, f = randn(6, 5), randn(6, 5, seed=1).requires_grad_()
    (grad,) = torch.autograd.grad(kl(g, f).sum(), [f])
    assert torch.allclose(grad, f.softmax(1) - g.softmax(1), rtol=1e-10, atol=1e-14)


def test_the_gradient_at_the_original_is_zero() -> None:
    g = randn(6, 5)
    for between in (kl, bernoulli, squared_error):
        f = g.clone().requires_grad_()
        (grad,) = torch.autograd.grad(between(g, f).sum(), [f])
        assert float(grad.abs().max()) < 1e-15


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="kind: expected kl, bernoulli, mse, or a function"):
        kind_of("wasserstein")


# ---- tokens and masks


def masked(values: Tensor, mask: Tensor) -> dict[str, Tensor]:
    return {"rows": rows_of(len(values)), "attention_mask": mask}


def test_masked_tokens_contribute_nothing_whatever_they_hold() -> None:
    g, f = randn(4, 6, 5), randn(4, 6, 5, seed=1)
    mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3, [1] + [0] * 5, [0] * 5 + [1]])
    divergence = Divergence(identity, masked(g, mask), probe=0)
    found = divergence.against({"w": g})({"w": f})
    assert math.isclose(float(found), float(kl(g[mask.bool()], f[mask.bool()]).mean()), rel_tol=1e-12)
    spoilt = f.clone()
    spoilt[~mask.bool()] = math.nan
    assert float(divergence.against({"w": g})({"w": spoilt})) == float(found)
    spoilt.requires_grad_()
    (grad,) = torch.autograd.grad(divergence.against({"w": g})({"w": spoilt}), [spoilt])
    assert float(grad[~mask.bool()].abs().max()) == 0
    assert float(grad[mask.bool()].abs().max()) > 0


@pytest.mark.parametrize("kind", ["bernoulli", "mse"])
def test_tokens_are_masked_for_the_other_kinds_too(kind: str) -> None:
    g, f = randn(4, 6, 2), randn(4, 6, 2, seed=1)
    mask = randn(4, 6, seed=2) > 0
    found = Divergence(identity, masked(g, mask), kind, probe=0).against({"w": g})({"w": f})
    alone = Divergence(identity, rows_of(int(mask.sum())), kind, probe=0).against({"w": g[mask]})({"w": f[mask]})
    assert math.isclose(float(found), float(alone), rel_tol=1e-12)


def test_a_mask_as_a_function_and_as_a_tensor() -> None:
    g, f, mask = randn(4, 6, 5), randn(4, 6, 5, seed=1), randn(4, 6, seed=2) > 0
    expected = float(kl(g[mask], f[mask]).mean())
    for given_mask in (mask, lambda rows: mask[rows]):
        found = Divergence(identity, rows_of(4), mask=given_mask, probe=0, batch=3).against({"w": g})({"w": f})
        assert math.isclose(float(found), expected, rel_tol=1e-12)


def test_a_classifier_of_whole_texts_has_no_tokens_to_mask() -> None:
    g, f = randn(4, 5), randn(4, 5, seed=1)
    found = Divergence(identity, masked(g, torch.zeros(4, 9)), probe=0).against({"w": g})({"w": f})
    assert math.isclose(float(found), float(kl(g, f).mean()), rel_tol=1e-12)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"mask: expected the shape of the outputs' first axes, got \(4, 5\) for outputs \(4, 6, 3\)"
    ):
        Divergence(identity, masked(randn(4), torch.ones(4, 5)), probe=0).against({"w": randn(4, 6, 3)})


def test_a_mask_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="mask: expected at least one token that counts, got none"):
        Divergence(identity, masked(randn(4), torch.zeros(4, 6)), probe=0).against({"w": randn(4, 6, 3)})


def test_a_mask_that_is_no_mask_is_refused() -> None:
    with pytest.raises(InputError, match="mask: expected a row for each of the 4 inputs"):
        Divergence(identity, rows_of(4), mask=torch.ones(3, 2))
    with pytest.raises(InputError, match="mask: expected a function that returns a tensor"):
        Divergence(identity, rows_of(4), mask=lambda x: [1])  # type: ignore[arg-type,return-value]


# ---- inputs in every form


def test_every_form_of_the_same_inputs_gives_the_same_divergence() -> None:
    g, f, n = randn(30, 4), randn(30, 4, seed=1), 30
    expected = float(kl(g, f).mean())
    rows = rows_of(n)
    loader = DataLoader(TensorDataset(rows), batch_size=7)
    pairs = DataLoader(TensorDataset(rows, rows % 4), batch_size=7)
    dicts: Any = [{"rows": part} for part in rows.split(11)]
    for inputs in (rows, {"rows": rows}, loader, pairs, dicts, (rows, rows % 4)):
        d = Divergence(identity, inputs, probe=0, batch=8).against({"w": g})
        assert d.examples == n
        assert math.isclose(float(d({"w": f})), expected, rel_tol=1e-12)


def test_batches_of_a_loader_may_differ_in_length() -> None:
    long, short = randn(2, 9, 3), randn(3, 5, 3, seed=1)
    batches = [{"x": long, "attention_mask": torch.ones(2, 9)}, {"x": short, "attention_mask": torch.ones(3, 5)}]
    d = Divergence(lambda network, x: x["x"] * network["w"], batches, probe=0).against({"w": torch.tensor(1.0)})
    found = float(d({"w": torch.tensor(2.0)}))
    tokens = torch.cat([long.reshape(-1, 3), short.reshape(-1, 3)])
    assert math.isclose(found, float(kl(tokens, 2 * tokens).mean()), rel_tol=1e-12)


def test_a_part_is_the_divergence_of_its_examples() -> None:
    g, f = randn(30, 4), randn(30, 4, seed=1)
    d = Divergence(identity, rows_of(30), probe=0, batch=8).against({"w": g})
    rows = torch.tensor([29, 3, 17, 4, 8])
    assert math.isclose(float(d.part(rows)({"w": f})), float(kl(g[rows], f[rows]).mean()), rel_tol=1e-12)
    assert math.isclose(float(d.part(torch.arange(30))({"w": f})), float(d({"w": f})), rel_tol=1e-12)


def test_a_part_takes_no_more_forward_passes_than_its_rows_need() -> None:
    """Rows at random are a few of each batch, and a pass of each few would take many times as long."""
    asked: list[int] = []

    def outputs(network: Any, x: Tensor) -> Tensor:
        asked.append(len(x))
        return identity(network, x)

    g, f = randn(300, 4), randn(300, 4, seed=1)
    d = Divergence(outputs, rows_of(300), probe=0, batch=32).against({"w": g})
    rows = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:90]
    part, asked[:] = d.part(rows), []
    assert math.isclose(float(part({"w": f})), float(kl(g[rows], f[rows]).mean()), rel_tol=1e-12)
    assert sum(asked) == 90
    assert max(asked) <= 32
    assert len(asked) <= 4


def test_the_rows_of_a_part_keep_their_masks_whatever_the_lengths_of_their_batches() -> None:
    batches: Any = [
        {"x": randn(4, length, 3, seed=seed), "attention_mask": (randn(4, length, seed=seed) > -1).long()}
        for seed, length in enumerate((9, 5, 9, 9, 5))
    ]
    asked: list[tuple[int, ...]] = []

    def outputs(network: Any, x: dict[str, Tensor]) -> Tensor:
        asked.append(tuple(x["x"].shape[:2]))
        return x["x"] * network["w"]

    d = Divergence(outputs, batches, probe=0).against({"w": torch.tensor(1.0)})
    rows = torch.tensor([0, 3, 5, 6, 9, 12, 14, 17])
    part, asked[:] = d.part(rows), []
    found = float(part({"w": torch.tensor(2.0)}))
    chosen = [(batches[row // 4]["x"][row % 4], batches[row // 4]["attention_mask"][row % 4].bool()) for row in rows.tolist()]
    tokens = torch.cat([x[counted] for x, counted in chosen])
    assert math.isclose(found, float(kl(tokens, 2 * tokens).mean()), rel_tol=1e-12)
    assert sorted(asked) == [(2, 9), (3, 5), (3, 9)]  # at most four rows, as in the longest batch


@pytest.mark.parametrize("named", [False, True])
def test_joined_batches_have_all_rows_in_order(named: bool) -> None:
    x, labels, mask = randn(7, 5, 2), torch.arange(7) % 3, torch.ones(7, 5)
    whole = Batch({"x": x, "y": 2 * x} if named else x, labels, mask)
    again = joined([whole.take(rows) for rows in torch.arange(7).split(3)])
    assert again.layout == whole.layout
    assert all(torch.equal(again.named[name], tensor) for name, tensor in whole.named.items())
    assert again.labels is not None
    assert torch.equal(again.labels, labels)
    assert again.mask is not None
    assert torch.equal(again.mask, mask)


def test_a_share_is_kept_back_and_no_input_is_in_both() -> None:
    batches = read(rows_of(103), 10, "inputs")
    searched, held_out = split(batches, 0.2)
    seen, others = (torch.cat([one.inputs for one in part]) for part in (searched, held_out))  # type: ignore[arg-type]
    assert (len(seen), len(others)) == (83, 20)
    assert sorted([*seen.tolist(), *others.tolist()]) == list(range(103))
    again = split(batches, 0.2)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(again[0], searched, strict=True))  # type: ignore[arg-type]


def test_examples_are_found_in_their_batches() -> None:
    batches = read(rows_of(10), 4, "inputs")
    places = {number: rows.tolist() for number, rows in taken(batches, torch.tensor([9, 0, 5]))}
    assert places == {0: [0], 1: [1], 2: [1]}
    assert count(batches) == 10


def test_fresh_inputs_are_drawn_for_every_part_and_measured_on_a_set_that_stays() -> None:
    asked: list[int] = []

    def draw(m: int, generator: torch.Generator) -> Tensor:
        asked.append(m)
        return torch.randn(m, 4, generator=generator)

    net = nn.Linear(4, 3)
    divergence = Divergence(lambda network, x: network(x), draw, examples=200)
    assert divergence.fresh
    d = divergence.against(net)
    assert (d.examples, asked) == (200, [200, 40])
    rows = torch.arange(50)
    other = nn.Linear(4, 3)
    value = float(d.part(rows)(other).detach())
    assert asked[2:] == [50]
    assert value == float(d.part(rows)(other).detach()) != float(d.part(rows + 1)(other).detach())
    assert float(d(other).detach()) == float(d(other).detach())
    with torch.no_grad():
        net.weight.zero_()  # the search changes what it was given, and the original's copy stays the same
    assert float(d.part(rows)(other).detach()) == value
    faith = d.faithfulness(other)
    assert (faith.searched.inputs, faith.held_out and faith.held_out.inputs) == (200, 40)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (3, "inputs: expected a tensor, a dict of tensors or a DataLoader of either, got int"),
        ("text", "inputs: expected a tensor, a dict of tensors or a DataLoader of either, got str"),
        ([], "inputs: expected at least one example, got none"),
        (torch.zeros(0, 3), "inputs: expected at least one example, got none"),
        (torch.tensor(1.0), "inputs: expected a tensor with a row for each example, got a number"),
        ({"a": torch.zeros(3), "b": torch.zeros(4)}, "inputs: expected tensors with a row for each example, got lengths"),
        ({"a": [1, 2]}, "inputs: a: expected a tensor with a row for each example, got list"),
        ([1, 2], "inputs: expected tensors, dicts of tensors, or pairs of one of these and labels of whole numbers, got a int"),
        ((torch.zeros(3), torch.zeros(2).long()), "inputs: expected a label for each of 3 examples, got shape"),
    ],
)
def test_inputs_that_are_none_are_refused(inputs: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Divergence(identity, inputs)


def test_a_probe_may_be_drawn() -> None:
    seeds: list[int] = []

    def draw(m: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        seeds.append(generator.initial_seed())
        x = torch.randn(m, 3, generator=generator, dtype=torch.float64)
        return x, x.argmax(1)

    network = {"w": randn(3, 3)}
    found = Divergence(lambda w, x: x @ w["w"], draw, probe=draw, examples=50).against(network).faithfulness(network)
    assert found.held_out is not None
    assert (found.searched.inputs, found.held_out.inputs, found.held_out.right_to_wrong) == (50, 50, 0)
    assert len(set(seeds)) == 2  # the probe has other inputs than the search
    # The mask has one row for each input, so it doesn't fit the probe.
    masked = Divergence(lambda w, x: x[..., None] * w["w"][0], randn(4, 2), mask=torch.ones(4, 2), probe=lambda m, g: randn(m, 2))
    held_out = masked.against(network).faithfulness(network).held_out
    assert held_out is not None
    assert held_out.inputs == 1024


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"outputs": 1}, "outputs: expected a function of a network and inputs, got int"),
        ({"batch": 0}, "batch: expected a whole number of at least 1, got 0"),
        ({"examples": 1.5}, "examples: expected a whole number of at least 1, got 1.5"),
        ({"probe": 1.0}, "probe: expected inputs, or a share of the inputs from 0 up to 1, got 1.0"),
        ({"labels": torch.zeros(2)}, r"labels: expected a tensor with a label for each of the 5 inputs, got shape \(2,\)"),
        (
            {"inputs": lambda m, generator: rows_of(3)},
            "inputs: expected a function that draws 1024 inputs, got 3 inputs from it",
        ),
        ({"inputs": lambda m, generator: rows_of(m), "labels": rows_of(5)}, "labels: expected none with a function that draws"),
        (
            {"inputs": lambda network: rows_of(5)},
            r"inputs: expected inputs, or a function draw\(m, generator\) that draws m inputs, got the function <lambda>\(network\)",
        ),
        ({"probe": lambda network: rows_of(5)}, r"probe: expected inputs, or a function draw\(m, generator\) that draws"),
        ({"mask": 1}, r"mask: expected a name, a function of the inputs, a tensor \(n, t\) or None, got 1"),
        ({"mask": "mask"}, "mask: expected the name of a tensor of the inputs, got 'mask' and inputs that are one tensor"),
        (
            {"mask": "mask", "inputs": {"rows": rows_of(5)}},
            "mask: expected the name of a tensor of the inputs, got 'mask' and inputs with rows; give",
        ),
        ({"inputs": TensorDataset(rows_of(5))}, r"got TensorDataset; wrap it: DataLoader\(dataset, batch_size=256\)"),
    ],
)
def test_arguments_that_are_unusable_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Divergence(**{"outputs": identity, "inputs": rows_of(5), **options})


@pytest.mark.parametrize(
    ("outputs", "kind", "words"),
    [
        (lambda w, x: 1.0, "kl", r"outputs: expected a tensor \(m, ...\), got float"),
        (lambda w, x: w["w"][:2], "kl", "outputs: expected a row for each of 5 inputs"),
        (lambda w, x: w["w"][:, 0], "kl", "outputs: expected logits .* use kind='bernoulli'"),
        (lambda w, x: w["w"][:, :1], "kl", "outputs: expected logits .* of two classes or more"),
        (lambda w, x: w["w"] * math.nan, "kl", "outputs: expected numbers from the original network, got NaN"),
        (lambda w, x: torch.ones(5, 2), "mse", "outputs: expected outputs that differ between inputs"),
        (
            lambda w, x: w["w"],
            lambda g, f: (f - g).abs(),
            r"kind: expected a function that returns \(5,\) divergences for 5 outputs",
        ),
        (
            lambda w, x: w["w"],
            lambda g, f: 1 + (f - g).abs().sum(1),
            "kind: expected a divergence that is 0 for equal outputs",
        ),
    ],
)
def test_outputs_that_are_unusable_are_refused(outputs: Any, kind: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Divergence(outputs, rows_of(5), kind, probe=0).against({"w": randn(5, 3)})


def test_outputs_of_another_shape_than_the_originals_are_refused() -> None:
    d = Divergence(lambda network, x: network["w"], rows_of(5), probe=0).against({"w": randn(5, 3)})
    with pytest.raises(InputError, match=r"outputs: expected the original's shape \(5, 3\), got \(5, 4\)"):
        d({"w": randn(5, 4)})


def test_a_divergence_alone_knows_no_original() -> None:
    with pytest.raises(InputError, match=r"a Divergence needs an original network.*divergence.against\(original\)"):
        Divergence(identity, rows_of(5))({"w": randn(5, 3)})


def test_an_own_kind_is_taken_as_it_is() -> None:
    def total_variation(g: Tensor, f: Tensor) -> Tensor:
        return (g.softmax(1) - f.softmax(1)).abs().sum(1) / 2

    g, f = randn(9, 4), randn(9, 4, seed=1)
    d = Divergence(identity, rows_of(9), total_variation, probe=0).against({"w": g})
    assert math.isclose(float(d({"w": f})), float(total_variation(g, f).mean()), rel_tol=1e-12)
    faith = d.faithfulness({"w": f})
    assert faith.kind == "total_variation"
    assert faith.searched.agreement == float((g.argmax(1) == f.argmax(1)).double().mean())


def test_it_travels_to_other_processes_without_the_loader_that_it_read() -> None:
    loader = DataLoader(TensorDataset(rows_of(20)), batch_size=6, generator=torch.Generator())
    sent = pickle.loads(pickle.dumps(Divergence(identity, loader, probe=0)))
    g, f = randn(20, 3), randn(20, 3, seed=1)
    assert math.isclose(float(sent.against({"w": g})({"w": f})), float(kl(g, f).mean()), rel_tol=1e-12)
    assert repr(sent) == "Divergence(kl on 20 inputs)"


# ---- how faithful a file is


def test_agreement_and_flips_of_classes() -> None:
    g = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
    f = torch.eye(4)[[0, 1, 2, 0, 1, 2]]
    labels = torch.tensor([0, 1, 3, 3, 1, 3])
    faith = Divergence(identity, rows_of(6), labels=labels, probe=0).against({"w": g}).faithfulness({"w": f})
    found = faith.searched
    assert (found.agreement, found.flips) == (0.5, 0.5)
    assert math.isclose(found.right_to_wrong or 0, 1 / 6)  # the fourth
    assert math.isclose(found.wrong_to_right or 0, 1 / 6)  # the fifth
    assert found.most_bits == 12
    assert faith.agreement == (0.5, None)


def test_agreement_of_sides_of_a_half_and_of_numbers() -> None:
    g, f = torch.tensor([[1.0, -1.0], [2.0, 3.0]]), torch.tensor([[1.0, 1.0], [-2.0, 0.5]])
    labels = torch.tensor([[1, 1], [1, 0]])
    found = Divergence(identity, rows_of(2), "bernoulli", labels=labels, probe=0).against({"w": g}).faithfulness({"w": f}).searched
    assert (found.agreement, found.most_bits) == (0.5, 4)
    assert (found.right_to_wrong, found.wrong_to_right) == (0.25, 0.25)
    found = Divergence(identity, rows_of(2), "mse", probe=0).against({"w": g}).faithfulness({"w": f}).searched
    assert found.agreement == 1 - found.divergence
    assert (found.flips, found.most_bits) == (None, None)


def test_agreement_of_tokens_counts_those_that_are_not_masked() -> None:
    g = torch.eye(3)[torch.tensor([[0, 1, 2], [0, 1, 2]])]
    f = torch.eye(3)[torch.tensor([[0, 2, 2], [1, 1, 0]])]
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    labels = torch.tensor([[0, 1, 2], [0, 1, 0]])
    faith = Divergence(identity, masked(g, mask), labels=labels, probe=0).against({"w": g}).faithfulness({"w": f})
    assert (faith.searched.agreement, faith.searched.right_to_wrong, faith.searched.wrong_to_right) == (0.5, 0.25, 0.25)
    assert math.isclose(faith.searched.most_bits or 0, 4 * math.log2(3))


def test_labels_that_do_not_fit_show_before_a_search() -> None:
    with pytest.raises(InputError, match=r"labels: expected one for each answer, \(5,\) in all, got \(15,\)"):
        Divergence(identity, rows_of(5), labels=torch.zeros(5, 3), probe=0).against({"w": randn(5, 3)})


@pytest.mark.parametrize(
    ("kind", "classes", "labels", "came"),
    [
        ("kl", 3, torch.arange(9) % 3 + 1, "from 0 to 2, .* got numbers from 1 to 3"),
        ("kl", 3, torch.arange(9) % 3 + 0.5, r"from 0 to 2, .* got numbers from 0\.5 to 2\.5"),
        ("bernoulli", 1, torch.arange(9)[:, None] % 2 * 2 - 1, "from 0 to 1, .* got numbers from -1 to 1"),
    ],
)
def test_labels_that_are_no_classes_are_refused(kind: str, classes: int, labels: Tensor, came: str) -> None:
    with pytest.raises(InputError, match=f"labels: expected classes {came}; count classes from 0"):
        Divergence(identity, rows_of(9), kind, labels=labels, probe=0).against({"w": randn(9, classes)})


def test_examples_without_a_label_are_neither_right_nor_wrong() -> None:
    g, f = torch.eye(3)[[0, 1, 2, 0]], torch.eye(3)[[0, 1, 0, 1]]
    labels = torch.tensor([0, -100, 2, -100])
    d = Divergence(identity, rows_of(4), labels=labels, probe=0)
    found = d.against({"w": g}).faithfulness({"w": f}).searched
    assert (found.agreement, found.right_to_wrong, found.wrong_to_right) == (0.5, 0.5, 0)
    assert d.chance == 0.5
    nothing = Divergence(identity, rows_of(4), labels=torch.full((4,), -100), probe=0)
    assert nothing.against({"w": g}).faithfulness({"w": f}).searched.right_to_wrong is None
    assert nothing.chance is None


@pytest.mark.parametrize(
    ("kind", "outputs", "words"),
    [
        ("kl", randn(9, 3).softmax(1), "outputs: expected logits, got probabilities: .* add"),
        ("kl", randn(9, 3).softmax(1).half(), "outputs: expected logits, got probabilities"),
        ("kl", randn(9, 3).long(), "outputs: expected logits, got torch.int64, as answers have; return the numbers before argmax"),
        ("bernoulli", randn(9, 3) > 0, "outputs: expected logits, got torch.bool"),
        ("mse", randn(9, 3) + 1j, r"outputs: expected real numbers, got complex ones; return torch.view_as_real\(outputs\)"),
        ("kl", randn(9, 3) / 0, "outputs: expected finite numbers from the original network, got infinity"),
        ("mse", -randn(9, 3).abs() / 0, "outputs: expected finite numbers from the original network, got infinity"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(kind: str, outputs: Tensor, words: str) -> None:
    words = words.replace(".* add", "they are not negative, and each row adds up to 1; return the numbers before softmax")
    with pytest.raises(InputError, match=words):
        Divergence(identity, rows_of(9), kind, probe=0).against({"w": outputs})


def test_logarithms_of_probabilities_are_logits() -> None:
    g, f = randn(9, 3), randn(9, 3, seed=1)
    d = Divergence(identity, rows_of(9), probe=0)
    same = d.against({"w": g.log_softmax(1)})({"w": f.log_softmax(1)})
    assert torch.allclose(same, d.against({"w": g})({"w": f}), rtol=1e-12)


def test_yes_or_no_outputs_that_may_be_probabilities_are_worth_a_warning() -> None:
    weights = {"w": randn(20, 2).sigmoid()}
    (warning,) = estimate(weights, Divergence(identity, rows_of(20), "bernoulli", probe=0), 0.1, method="quantize").warnings[:1]
    assert "All outputs are from 0 to 1, as probabilities are, and the divergence takes them for logits" in warning
    logits = {"w": randn(20, 2)}
    assert Divergence(identity, rows_of(20), "bernoulli", probe=0).against(logits).doubts is None


def test_a_mask_that_is_added_to_scores_is_refused() -> None:
    g = randn(4, 5, 3)
    for mask, words in (
        (
            torch.where(torch.arange(5) < 3, 0.0, -1e9).expand(4, 5),
            r"mask: expected 1 for each token .* got numbers from -1e\+09 to 0",
        ),
        (torch.ones(4, 1, 5, 5), r"mask: expected a row of tokens for each input, \(4, 5\), got \(4, 1, 5, 5\)"),
    ):
        with pytest.raises(InputError, match=words):
            Divergence(identity, masked(g, mask), probe=0).against({"w": g})
        assert float(Divergence(identity, masked(g, mask), mask=None, probe=0).against({"w": g})({"w": g})) == 0


def test_held_out_inputs_have_a_token_that_counts() -> None:
    mask = torch.zeros(10, 5, dtype=torch.long)
    mask[0] = 1
    with pytest.raises(InputError, match="mask: expected at least one token that counts among the held-out inputs, got none"):
        Divergence(identity, masked(randn(10, 5, 3), mask), probe=masked(randn(10, 5, 3), 0 * mask)).against({"w": randn(10, 5, 3)})


def test_a_divergence_below_zero_is_refused() -> None:
    d = Divergence(identity, rows_of(5), kind=lambda g, f: -(g - f).square().sum(1), probe=0).against({"w": randn(5, 3)})
    with pytest.raises(
        InputError, match=r"kind: expected divergences of at least 0, got -\d.*; let a larger number mean a larger difference"
    ):
        d({"w": randn(5, 3, seed=1)})


def test_held_out_inputs_are_those_of_the_probe() -> None:
    g, f = randn(30, 4), randn(30, 4, seed=1)
    d = Divergence(identity, rows_of(20), probe=torch.arange(20, 30)).against({"w": g})
    faith = d.faithfulness({"w": f})
    assert (d.examples, faith.searched.inputs) == (20, 20)
    assert faith.held_out is not None
    assert math.isclose(faith.held_out.divergence, float(kl(g[20:], f[20:]).mean()), rel_tol=1e-12)
    assert faith.agreement.held_out == float((g[20:].argmax(1) == f[20:].argmax(1)).double().mean())


def test_a_file_that_is_faithful_only_where_it_was_searched_is_worth_a_warning() -> None:
    faith = Faithfulness("kl", Fidelity(100, 0.09, 0.98, most_bits=332.2), Fidelity(25, 0.16, 0.7, most_bits=83.0))
    (warning,) = faith.warnings(300, 0.1, fresh=False)
    assert "The divergence on held-out inputs is 0.16, over 1.5 ε = 0.15" in warning
    assert "search with more inputs, or give a function that draws fresh ones" in warning
    assert faith.warnings(300, 0.2, fresh=False) == []
    (warning,) = faith.warnings(333, 0.2, fresh=True)
    assert "333 bits, and the answers to all 100 searched inputs have at most 332" in warning
    assert "fresh ones" not in warning


def test_a_divergence_that_is_no_number_is_worth_a_warning_and_null_in_json() -> None:
    faith = Faithfulness("kl", Fidelity(100, 0.09, 0.98), Fidelity(25, math.inf, 0.7))
    assert len(faith.warnings(300, 0.1, fresh=False)) == 1
    assert faith.to_dict()["held_out"]["divergence"] is None


def test_units_are_examples_or_tokens() -> None:
    assert units(torch.zeros(3, 4, 5), None, kind_of("kl")).shape == (12, 5)
    assert units(torch.zeros(3, 4, 5), None, kind_of("mse")).shape == (3, 20)
    assert units(torch.zeros(3), None, kind_of("bernoulli")).shape == (3, 1)


def test_the_same_names_in_another_folder_are_another_divergence(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that serves several calls has modules with one name from several folders."""
    named = NamedDivergence("outputs_here:logits", "outputs_here:inputs")
    found = []
    for width in (2, 3):
        folder = workplace / str(width)
        folder.mkdir()
        (folder / "outputs_here.py").write_text(
            f"import torch\ndef logits(network, x): return x\ndef inputs(): return torch.eye({width})\n", encoding="utf-8"
        )
        monkeypatch.chdir(folder)
        monkeypatch.delitem(sys.modules, "outputs_here", raising=False)
        found.append(named.make())
        assert named.make() is found[-1]
    assert found[0] is not found[1]
