"""Measures of known sizes: the statistics against their definitions and SciPy, the networks, the measures, tables and picture."""

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import correlation
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.cases import known_sizes
from benchmarks.cases.planted import FAMILIES, Planted
from benchmarks.measuring import measures
from benchmarks.peers import weights_alone
from benchmarks.reporting import measures as reporting
from benchmarks.reporting.calibration import Calibration


def ranks(values: list[float]) -> list[float]:
    """The rank of each value from 1 on. Equal values share the mean of their ranks."""
    return [sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values]


def kendall(x: list[float], y: list[float]) -> float:
    """τ-b by its definition: pairs in the right order minus pairs in the wrong order, with ties counted."""
    signs = [((x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])) for i, j in combinations(range(len(x)), 2)]
    untied = [sum(pair[side] != 0 for pair in signs) for side in (0, 1)]
    return sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1])


SIZES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=3, max_size=12)


@given(SIZES)
def test_ranks_and_their_correlations_are_scipys(pairs: list[tuple[int, int]]) -> None:
    known, measured = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    assert ranks(known) == stats.rankdata(known).tolist()
    if len(set(known)) > 1 and len(set(measured)) > 1:
        fit, line = Calibration.of(measured, known), stats.linregress([*map(math.log, known)], [*map(math.log, measured)])
        assert kendall(known, measured) == pytest.approx(stats.kendalltau(known, measured).statistic)
        assert fit.kendall == pytest.approx(kendall(known, measured))
        assert fit.spearman == pytest.approx(stats.spearmanr(known, measured).statistic)
        assert fit.spearman == pytest.approx(correlation(ranks(known), ranks(measured)))
        assert (fit.slope, fit.r_squared) == pytest.approx((line.slope, line.rvalue**2))


def test_a_power_of_the_bits_is_read_without_error() -> None:
    known = [100.0, 300.0, 1000.0, 9000.0]
    fit = Calibration.of([3 * value**0.5 for value in known], known)
    assert (fit.slope, fit.r_squared, fit.largest, fit.spearman, fit.kendall) == pytest.approx((0.5, 1, 1, 1, 1))


def test_the_largest_error_is_a_factor_of_the_known_bits() -> None:
    # All networks have the same measure, so it says nothing: the line reads the geometric mean of 10 and 1,000, which is 100.
    assert Calibration.of([7.0, 7.0, 7.0, 7.0], [10.0, 10.0, 1000.0, 1000.0]).largest == pytest.approx(10)
    # 4 measured twice; without the pair, the line is exact.
    fit = Calibration.of([2.0, 4.0, 4.0, 8.0], [2.0, 2.0, 8.0, 8.0])
    assert fit.largest == pytest.approx(2)


@pytest.mark.parametrize(("measured", "known"), [([1.0, 2.0], [1.0, 2.0]), ([1.0, 0.0, 3.0], [1.0, 2.0, 3.0])])
def test_too_few_networks_or_no_logarithm_is_an_error(measured: list[float], known: list[float]) -> None:
    with pytest.raises(ValueError, match="at least three networks with positive values"):
        Calibration.of(measured, known)


def test_the_planted_networks_are_many_and_of_very_different_sizes() -> None:
    plain = [Planted(family, depth, width).drawn[1] for depth, width in known_sizes.SHAPES for family in FAMILIES]
    assert len(plain) >= 40
    assert max(plain) / min(plain) > 30


def test_random_labels_have_a_least_size_that_a_coin_would_need() -> None:
    # 64 labels of two classes that the network gives probability 1/2 each need no file: 64 bits − 64 bits − t.
    assert known_sizes.least_bits(64, 2, math.log(2), doubt=0) == pytest.approx(0)
    subject = known_sizes.of_random_labels(60, 3, seed=1)
    assert subject.case.loss(subject.case.weights) < 0.1
    expected = 60 * math.log2(3) - 60 * (subject.case.loss(subject.case.weights) + known_sizes.LABELS_EPS) / math.log(2) - 20
    assert subject.known_bits == pytest.approx(expected)
    assert not any(tensor.requires_grad for tensor in subject.case.weights.values())


def test_measures_of_the_weights_alone() -> None:
    weights = {"a": torch.diag(torch.tensor([3.0, 3.0, 0.0])), "b": torch.tensor([4.0]), "empty": torch.zeros(2, 2)}
    assert weights_alone.parameters(weights) == 14
    assert weights_alone.effective_ranks(weights) == pytest.approx(2)
    assert weights_alone.stable_ranks(weights) == pytest.approx(2)
    assert weights_alone.l2_norm(weights) == pytest.approx(math.sqrt(34))
    drawn = {"w": torch.randn(50, 50, generator=torch.Generator().manual_seed(0))}
    assert weights_alone.bzip2_bits(drawn, torch.float16) < 0.6 * weights_alone.bzip2_bits(drawn)


def test_each_measure_is_measured_once_and_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = known_sizes.planted(Planted("live", 2, 16, seed=300))
    monkeypatch.setattr(measures, "missing", lambda: {"NNCodec": "not here"})
    names = ["quantize", "allocate", "L2 norm", "NNCodec"]
    record = measures.run([subject], names, tmp_path / "out.json")
    assert record.skipped == {"NNCodec": "not here"}
    assert [row["measure"] for row in record.rows] == names[:3]
    assert record.cases[subject.case.name]["known_bits"] == pytest.approx(subject.known_bits, abs=0.1)
    found = {row["measure"]: row for row in record.rows}
    assert all(found[name]["distortion"] <= subject.eps for name in names[:2])
    assert found["allocate"]["value"] == pytest.approx(subject.known_bits, rel=0.2)
    again = measures.run([replace(subject, eps=-1.0)], names, tmp_path / "out.json")  # would be an error if it measured
    assert again.rows == record.rows


def made_up() -> dict[str, Any]:
    known = {f"net {number}": 100.0 * 4**number for number in range(4)}
    cases = {name: {"kind": "signs, rescaled" if name == "net 3" else "signs", "known_bits": bits} for name, bits in known.items()}
    cases["labels"] = {"kind": "random labels", "known_bits": 500.0, "parameters": 2000}
    rows = [{"case": name, "measure": "tight", "value": 2 * bits} for name, bits in known.items()]
    rows += [
        {"case": name, "measure": "stable rank", "value": value} for name, value in zip(known, (3.0, 9.0, 1.0, 2.0), strict=True)
    ]
    rows += [{"case": "labels", "measure": "tight", "value": 600}, {"case": "net 0", "measure": "NNCodec", "value": None}]
    return {"cases": cases, "rows": rows}


def test_the_tables_have_the_best_measure_first_and_random_labels_apart() -> None:
    lines = reporting.against_known(made_up()).splitlines()
    assert lines[2] == "| tight | 3 | 1.00 | 1.00 | 1.0 × | 1.00 | 1.00 | 2.00 (2.00 to 2.00) | 1.00 |"
    assert lines[3].startswith("| stable rank | 3 | -0.40 | ")
    assert len(lines) == 4
    assert reporting.against_least(made_up()).splitlines()[2:] == ["| labels | 2,000 | 500 | 600 |"]
    assert reporting.best(made_up()).splitlines()[2:3] == ["| tight | 1.00 | 1.0 × | 1.00 |"]


def test_the_picture_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        reporting.draw(made_up(), tmp_path / f"{name}.svg", made_by="nncomplexity 0.1.0")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert all(word in text for word in ("tight, R² = 1.00", "signs, rescaled", "random labels", "measured by nncomplexity 0.1.0"))


def test_no_recorded_file_of_random_labels_is_below_the_least_size() -> None:
    content = json.loads(measures.OUTPUT.read_text(encoding="utf-8"))
    kinds = {case: about["kind"] for case, about in content["cases"].items()}
    assert sum(kind in FAMILIES for kind in kinds.values()) >= 40
    files = [row for row in content["rows"] if "distortion" in row]
    assert all(row["distortion"] <= content["cases"][row["case"]]["eps"] for row in files)
    labels = [row for row in files if kinds[row["case"]] == reporting.LABELS]
    assert labels
    assert all(row["value"] > content["cases"][row["case"]]["known_bits"] for row in labels)
