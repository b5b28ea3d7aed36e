"""The benchmark of the bound by disagreement: a row agrees with its parts, and the shipped record has the table's claims."""

import json
import sys

import pytest
import torch

from benchmarks.cases.networks import ROOT, find_cases
from benchmarks.measuring import disagreement
from benchmarks.reporting.disagreement import disagreement as table
from examples.digits import task
from nncomplexity import Report
from nncomplexity.bounds import binomial_upper_limit, bound

RECORD = ROOT / "benchmarks" / "results" / "disagreement.json"


def test_a_row_agrees_with_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in find_cases([ROOT / "examples" / "digits"]) if case.name == "digits/convnet")
    kept: list[Report] = []

    def short(*given: object, **options: object) -> Report:
        kept.append(real(*given, budget=15, **options))
        return kept[-1]

    real = disagreement.estimate
    monkeypatch.setattr(disagreement, "estimate", short)
    row = disagreement.measured(case, "loss", 0.5)
    decoded, (images, labels) = kept[0].coarse_weights(), task.split("test")
    answers = [task.logits(weights, images).argmax(1) for weights in (case.weights, decoded)]
    assert row["disagreements"] == int((answers[0] != answers[1]).sum())
    assert row["test_error"] == pytest.approx(float((answers[1] != labels).double().mean()))
    assert row["limit"] == pytest.approx(binomial_upper_limit(row["disagreements"], 360, 0.045))
    decoded_part = bound(row["bits"], risk=row["train_error"], n=1437, delta=0.005).value
    assert row["original_bound"] == pytest.approx(min(1.0, decoded_part + row["limit"]))


def test_the_difference_is_never_below_the_share_of_answers_that_differ() -> None:
    for row in json.loads(RECORD.read_text(encoding="utf-8"))["rows"]:
        assert row["original_bound"] - row["decoded_bound"] > row["disagreements"] / row["m"]


def test_the_table_is_printed_without_a_search(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["disagreement", "--table", "--output", str(RECORD)])
    threads = torch.get_num_threads()
    disagreement.main()
    torch.set_num_threads(threads)
    assert capsys.readouterr().out.strip() == table(json.loads(RECORD.read_text(encoding="utf-8"))).strip()
