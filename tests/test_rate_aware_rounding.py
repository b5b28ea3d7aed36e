"""The rounding by rate, with which the benchmark compares: its limits, and a row of its benchmark."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.cases.networks import Case
from benchmarks.measuring.rate_aware_rounding import Subject, measured
from benchmarks.peers.rate_aware_rounding import Frequencies, Layer, parameter_of, search, step_of
from benchmarks.reporting.rate_aware_rounding import rate_aware_rounding
from nncomplexity import Divergence
from nncomplexity.codecs import Entropy
from nncomplexity.network import Distortion
from nncomplexity.search import Problem


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moment(k: int) -> Tensor:
    x = drawn(200, k, seed=1) @ drawn(k, k, seed=2)
    return x.T @ x / 200


def entropy(symbols: Tensor) -> float:
    shares = symbols.unique(return_counts=True)[1] / symbols.numel()
    return -float((shares * shares.log2()).sum())


def test_without_a_price_of_bits_it_is_nearest_rounding_where_inputs_are_not_correlated() -> None:
    W = drawn(20, 10)
    assert torch.equal(Layer(W, torch.diag(drawn(10, seed=3).square() + 0.1)).rounded(0.5, 0.0), (W / 0.5).round())


def test_a_higher_price_gives_fewer_bits_and_larger_errors_down_to_nothing() -> None:
    W, H, step = drawn(40, 16), moment(16), 0.3
    layer = Layer(W, H)
    found = [layer.rounded(step, price) for price in (0.0, 0.03, 0.3, 3.0, 1e6)]
    bits = [entropy(symbols) for symbols in found]
    errors = [float((((W - step * symbols) @ H) * (W - step * symbols)).sum()) for symbols in found]
    nearest = W - step * (W / step).round()
    assert bits == sorted(bits, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] < float(((nearest @ H) * nearest).sum())
    assert not found[-1].any()


def test_frequencies_are_shares_of_what_has_come() -> None:
    rates = Frequencies(torch.tensor([0.0, 0.0, 1.0]))
    rates.add(torch.zeros(1000, dtype=torch.float64))
    zero, one = rates.bits(torch.tensor([0.0, 1.0]).double()).tolist()
    assert zero < 0.01
    assert one == pytest.approx(math.log2(1002.4 / 1.1), abs=0.01)


@pytest.mark.parametrize("step", [1e-4, 0.7, 1.0, 1.03, 31.0])
def test_steps_are_the_nearest_of_nncodec(step: float) -> None:
    qp = parameter_of(step)
    assert all(abs(math.log(step_of(qp) / step)) <= abs(math.log(step_of(qp + more) / step)) for more in (-1, 1))


def subject() -> Subject:
    weights = {"w": drawn(12, 8).float(), "b": drawn(12, seed=1).float(), "v": drawn(3, 12, seed=2).float()}

    def outputs(given: dict[str, Tensor], x: Tensor) -> Tensor:
        return F.linear(F.relu(F.linear(x, given["w"], given["b"])), given["v"])

    return Subject(Case("small/net", "", weights, lambda _: 0.0), outputs, drawn(100, 8, seed=3).float())


def test_its_file_is_within_eps_and_holds_multiples_of_the_steps_that_nncodec_is_told() -> None:
    one = subject()
    with Distortion(one.case.weights, Divergence(one.outputs, one.inputs, probe=0)) as distortion:
        found = search(Problem(distortion, Entropy()), distortion.moments(), 0.05)
        assert found is not None
        assert distortion.loss(found.candidate.file.weights()) <= 0.05
    for name, qp in found.qp.items():
        multiples = found.tensors[name].double() / step_of(qp)
        torch.testing.assert_close(multiples, multiples.round(), rtol=0, atol=1e-4)


def test_a_row_says_what_the_peer_found() -> None:
    row = measured(subject(), "rate_aware_rounding", 0.05, 0, None)
    assert row["distortion"] <= 0.05
    assert 0 < row["bytes"] < 4 * 144
    key = {"case": "small/net", "eps": 0.05, "method": "rate_aware_rounding"}
    rows = [{**key, "seed": seed, "bytes": size} for seed, size in enumerate((100, 120, 110))]
    assert "| 110 ± 10 | – | – |" in rate_aware_rounding({"rows": rows})


def test_where_nncodec_is_not_a_python_of_its_own_it_fails_with_a_reason() -> None:
    with pytest.raises(RuntimeError, match="NNCodec ended"):
        measured(subject(), "rate_aware_rounding", 0.05, 0, Path(sys.executable))
