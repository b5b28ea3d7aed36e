"""The points of a curve are measurements, and everything else in the curve follows from them."""

import itertools
import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from nncomplexity import InputError, estimate
from nncomplexity.bounds import bound, description_length
from nncomplexity.linalg import Fit, best_of, fitted, lower_hull
from nncomplexity.measure import DEFAULT_EPS, best_bound, rate_distortion
from nncomplexity.measure.curve import curve_of
from nncomplexity.show.plots.reading import read_results
from tests.cases import two_layers

EPS = [1.0, 0.3, 0.1, 0.03]


@pytest.fixture(scope="module")
def measured():
    weights, loss = two_layers(hidden=48, features=20)
    return weights, loss, rate_distortion(weights, loss, EPS, risk=lambda decoded: 0.1 if decoded else 1.0, n=64, budget=60)


def test_every_point_is_a_file_that_decodes(measured):
    weights, loss, curve = measured
    assert [report.eps for report in curve.reports] == EPS
    for report in curve.reports:
        assert abs(float(loss(report.coarse_weights())) - float(loss(weights))) == pytest.approx(report.distortion, rel=1e-5)
        assert report.distortion <= report.eps
    assert curve.evaluations <= 4 * 60
    assert curve.evaluations == pytest.approx(sum(report.evaluations for report in curve.reports))


def test_what_the_bits_promise_is_what_bound_and_description_length_say(measured):
    *_, curve = measured
    for report, promise, length in zip(curve.reports, curve.bounds, curve.lengths, strict=True):
        assert promise.value == bound(report.bits, risk=0.1, n=64, self_delimiting=False).value
        assert length == description_length(report.bits, loss=report.coarse_loss, n=64)
    assert curve.mdl[1].total_bits == min(length.total_bits for length in curve.lengths)
    assert curve.best_bound[1].value == min(promise.value for promise in curve.bounds)


def test_the_default_grid_has_twelve_eps():
    assert len(DEFAULT_EPS) == 12
    assert sorted(DEFAULT_EPS, reverse=True) == list(DEFAULT_EPS)


def test_the_paper_s_methods_give_their_own_answers():
    weights, loss = two_layers()
    curve = rate_distortion(weights, loss, EPS, method="quantize", budget=20)
    reports = estimate(weights, loss, EPS, method="quantize", budget=20)
    assert [report.bits for report in curve.reports] == [report.bits for report in reports]
    assert curve.evaluations < 2 * 20
    assert curve.bounds == curve.lengths == (None,) * len(EPS)
    assert curve.mdl is None
    assert curve.best_bound is None


def test_json_says_what_the_curve_is_and_reads_back(measured, tmp_path):
    *_, curve = measured
    document = json.loads(curve.to_json())
    assert [result["eps"] for result in document["results"]] == EPS
    assert document["curve"]["hull"] == list(curve.hull)
    assert document["curve"]["mdl"]["eps"] == curve.mdl[0].eps
    (tmp_path / "curve.json").write_text(curve.to_json())
    (read,) = read_results([str(tmp_path / "curve.json")]).networks
    assert read.curve.hull == curve.hull
    assert {fit.kind for fit in read.curve.fits} == {fit.kind for fit in curve.fits}


def test_eps_may_be_an_array():
    weights, loss = two_layers()
    curve = rate_distortion(weights, loss, np.geomspace(0.01, 1, 4), method="quantize", budget=4)
    assert [report.eps for report in curve.reports] == list(np.geomspace(0.01, 1, 4))
    assert '"eps": 0.01' in curve.to_json()


def test_a_risk_needs_n():
    weights, loss = two_layers()
    with pytest.raises(InputError, match="n: expected the number of training examples of `risk`, got none; pass n"):
        rate_distortion(weights, loss, EPS, risk=lambda _: 0.0)
    with pytest.raises(InputError, match=r"eps: expected a sequence of numbers, got 0.1; estimate takes a single one"):
        rate_distortion(weights, loss, 0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"risk": lambda _: 12.5}, "risk"),
        ({"risk": lambda _: "low"}, "risk"),
        ({"risk": 0.1}, "risk: expected a function, or None, got 0.1"),
        ({"risk": lambda _: 0.1, "chance": 7}, "chance: expected"),
        ({"chance": "much"}, "chance"),
        ({"delta": 2}, "delta"),
        ({"n": 0}, "n: expected"),
    ],
)
def test_what_is_wrong_with_the_bound_is_told_before_the_search(arguments, words):
    weights, loss = two_layers()
    called = []
    with pytest.raises(InputError, match=words):
        rate_distortion(weights, lambda w: called.append(w) or loss(w), EPS, **({"n": 64} | arguments))
    assert called == []


@pytest.mark.parametrize("call", [rate_distortion, partial(best_bound, risk=lambda _: 0.0, n=10)])
def test_an_option_that_no_search_has_is_named_before_anything_is_measured(call):
    def loss(_weights):
        pytest.fail("measured")

    with pytest.raises(TypeError, match="expected options of estimate, got bugdet; expected method, codec, budget, "):
        call({"w": torch.eye(3)}, loss, eps=[0.1], bugdet=3)


def test_one_file_for_several_eps_has_its_risk_measured_once():
    weights, loss = two_layers()
    reports = estimate(weights, loss, [1.0, 1.0, 0.9999], budget=30)
    calls = []
    curve_of(reports, risk=lambda decoded: calls.append(decoded) or 0.0, n=10)
    assert len(calls) == len({id(report.file) for report in reports}) + 1
    assert not any(tensor.any() for tensor in calls[-1].values()), "a constant answer's, to compare with"


def test_a_negative_loss_is_no_code_length():
    weights = {"w": torch.eye(8)}
    curve = rate_distortion(weights, lambda w: -w["w"].sum(), [1.0, 0.1, 0.01], n=5, budget=20)
    assert curve.lengths == (None, None, None)


point = st.tuples(st.floats(0, 10, allow_subnormal=False), st.floats(1, 1000))


@given(st.lists(point, min_size=1, max_size=12))
def test_the_hull_lies_below_every_point(points):
    hull = [points[index] for index in lower_hull(points)]
    assert hull == sorted(hull)
    assert len({x for x, _ in hull}) == len(hull)
    assert all(after <= before for (_, before), (_, after) in itertools.pairwise(hull))
    for x, y in points:
        if hull[0][0] <= x <= hull[-1][0]:
            assert np.interp(x, *zip(*hull, strict=True)) <= y + 1e-6 * max(1.0, y)
        else:
            assert min(bits for _, bits in hull) <= y


def test_the_hull_is_that_of_scipy():
    generator = np.random.default_rng(0)
    points = [(float(x), float(10 / (x + 0.1) + 5 * noise)) for x, noise in generator.random((40, 2))]
    ours = {points[index] for index in lower_hull(points)}
    scipy = ConvexHull(np.array(points))
    lower = {
        points[index] for facet, plane in zip(scipy.simplices, scipy.equations, strict=True) if plane[1] < 0 for index in facet
    }
    assert ours <= lower
    assert all(points.index(one) >= 0 and one[1] >= min(y for _, y in points) for one in lower - ours)


@given(st.floats(-300, -1), st.floats(500, 3000))
def test_a_fit_finds_the_formula(a, b):
    x = (0.01, 0.05, 0.2, 0.9)
    log, _ = fitted([(d, a * math.log(d) + b) for d in x])
    assert log.a == pytest.approx(a)
    assert log.b == pytest.approx(b)
    assert log.r2 == pytest.approx(1)
    power_law = [(d, b * d ** (a / 300)) for d in x]
    best = best_of(fitted(power_law))
    assert best.r2 >= max(fit.r2 for fit in fitted(power_law)) - 1e-12
    _, power = fitted(power_law)
    assert power.a == pytest.approx(a / 300)
    assert power(0.5) == pytest.approx([b * 0.5 ** (a / 300)])


def test_there_is_no_fit_of_two_points():
    assert fitted([(0.1, 10.0), (0.2, 9.0), (0.0, 100.0)]) == ()
    assert best_of(()) is None
    assert Fit("power", -0.5, 50.0, 0.9).sentence() == "bits = 50·D^−0.5, R² = 0.900"


def test_a_fit_leaves_out_points_of_no_bits():
    points = [(0.1, 40.0), (0.2, 30.0), (0.4, 20.0)]
    assert fitted([*points, (2.0, 0.0), (0.0, 99.0)]) == fitted(points)
    assert fitted(points)[0].points == 3
