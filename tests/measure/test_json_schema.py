"""The written JSON agrees with the published JSON Schemas, in every key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator, ValidationError
from safetensors.torch import save_file

from nncomplexity import InputError, Tracker, estimate
from nncomplexity.cli import main
from nncomplexity.file import Constant, Dense, LowRank, Pieces, form_of
from nncomplexity.file.coarse import lossless
from nncomplexity.measure import json_schema
from nncomplexity.network.layout import Blocks
from tests import rows

KINDS = ("report", "curve", "row")
TASK = """
import torch
from torch.nn.functional import cross_entropy

x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
labels = (x[:, 0] > 0).long()

def logits(weights, inputs):
    return inputs @ weights["weight"].T + weights["bias"]

def loss(weights):
    return cross_entropy(logits(weights, x), labels)

def error(weights):
    return (logits(weights, x).argmax(1) != labels).float().mean()

def norm(weights):
    return weights["weight"].norm()

def inputs():
    return x, labels

def fresh():
    return x[:20] + 0.1
"""
BOUND = ["--risk-fn", "mytask:error", "--n", "60", "--classes", "2"]
DIVERGENCE = ["--outputs", "mytask:logits", "--inputs", "mytask:inputs"]


def strict(schema: Any) -> Any:
    """The schema, made strict: it allows no further keys, because it knows all keys that this version writes."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    closed = found.get("type") == "object" and "properties" in found and "additionalProperties" not in found
    return {**found, "additionalProperties": False} if closed else found


def holds(kind: str, document: Any, *, metrics: tuple[str, ...] = ()) -> None:
    schema = strict(json_schema(kind))
    schema["patternProperties"] = {
        **schema.get("patternProperties", {}),
        **{f"^{name}(@.*)?$": {"type": "number"} for name in metrics},
    }
    Draft202012Validator(schema).validate(document)


@pytest.fixture
def folder(workplace: Path) -> Path:
    (workplace / "mytask.py").write_text(TASK, encoding="utf-8")
    (workplace / "run").mkdir()
    for step in (1, 2):
        weight = torch.tensor([[-3.0 * step, 0.1, 0, 0], [3.0 * step, 0, 0.1, 0]])
        save_file({"weight": weight, "bias": torch.zeros(2)}, workplace / "run" / f"step_{step}.safetensors")
    return workplace


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one(kind: str) -> None:
    Draft202012Validator.check_schema(json_schema(kind))


def references(schema: Any) -> Iterator[str]:
    for key, value in schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ():
        yield from (value,) if key == "$ref" else references(value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_a_document_of_its_own(kind: str) -> None:
    schema = json_schema(kind)
    found = set(references(schema))
    assert found == {f"#/$defs/{name}" for name in schema["$defs"]}
    schema["$defs"].clear()
    assert json_schema(kind)["$defs"]


def test_there_is_no_other_kind() -> None:
    with pytest.raises(InputError, match="kind: expected one of report, curve, row, got 'rows'"):
        json_schema("rows")


def test_a_curve_is_a_report_with_a_summary() -> None:
    report, curve = json_schema("report"), json_schema("curve")
    assert {*curve["required"]} - {*report["required"]} == {"curve"}
    assert {key: curve[key] for key in ("properties", "$defs")} == {key: report[key] for key in ("properties", "$defs")}
    assert (report["title"], curve["title"]) == ("report.json of nncomplexity", "curve.json of nncomplexity")
    assert report["description"] != curve["description"]


def test_a_report_with_everything(folder: Path) -> None:
    about = ["--loss-fn", "mytask:loss", *DIVERGENCE, "--eps", "0.1", "--eps", "1%", "--seeds", "2", "--time-limit", "1m", *BOUND]
    base = ["--relative-to", "run/step_1.safetensors"]
    assert main(["measure", "run/step_2.safetensors", *about, *base, "--budget", "30", "--json", "report.json"]) == 0
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    holds("report", document)
    assert document["relative_to"]
    assert all(one["bound"] and one["spread"] and one["faithfulness"] for one in document["results"])


def test_a_report_of_the_papers_method(folder: Path) -> None:
    call = ["measure", "run/step_2.safetensors", *DIVERGENCE, "--eps", "0.1", "--method", "quantize", "--budget", "20"]
    assert main([*call, "--json", "report.json"]) in (0, 3)
    holds("report", json.loads((folder / "report.json").read_text(encoding="utf-8")))


def test_a_report_of_python() -> None:
    weights = {"w": torch.linspace(-1, 1, 12)}
    holds("report", json.loads(estimate(weights, lambda w: (w["w"] ** 2).sum(), eps=0.1, budget=20).to_json()))


def test_a_curve(folder: Path) -> None:
    call = ["curve", "run/step_2.safetensors", "--loss-fn", "mytask:loss", "--grid", "0.01:1:4", *BOUND, "--budget", "20"]
    assert main([*call, "--save-best", "best.coarse", "--json", "curve.json"]) == 0
    document = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
    holds("curve", document)
    assert document["curve"]["mdl"]
    assert document["curve"]["best_bound"]
    with pytest.raises(ValidationError, match="'curve' is a required property"):
        holds("curve", {key: value for key, value in document.items() if key != "curve"})


def test_the_report_of_the_smallest_bound(folder: Path) -> None:
    call = ["bound", "run/step_2.safetensors", "--loss-fn", "mytask:loss", *BOUND, "--eps", "0.1", "--budget", "20"]
    more = ["--outputs", "mytask:logits", "--unlabelled", "mytask:fresh", "--holdout", "mytask:inputs", "--json", "bound.json"]
    assert main([*call, *more]) == 0
    document = json.loads((folder / "bound.json").read_text(encoding="utf-8"))
    holds("report", document)
    assert document["best_bound"]["original"]
    assert document["best_bound"]["holdout"]


def test_rows_with_everything(folder: Path) -> None:
    (folder / "run" / "step_3.safetensors").write_bytes(bytes(10))
    call = ["track", "run/*.safetensors", "--loss-fn", "mytask:loss", *DIVERGENCE, "--eps", "0.1", "--eps", "1%", *BOUND]
    more = ["--metric", "norm=mytask:norm", "--constant", "--llc", "draws=2", "--llc", "chains=2", "--llc", "burn_in=1"]
    assert main([*call, *more, "--budget", "20", "--out", "results.jsonl"]) == 1
    found = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted((one["kind"], one["status"]) for one in found) == [
        ("checkpoint", "failed"),
        ("checkpoint", "measured"),
        ("checkpoint", "measured"),
        ("constant", "measured"),
    ]
    for one in found:
        holds("row", one, metrics=("norm",))
    with pytest.raises(ValidationError, match="is not of type 'integer'"):
        holds("row", {**found[0], "bits@0.1": "32"}, metrics=("norm",))


def test_a_row_of_a_training_loop(workplace: Path) -> None:
    tracker = Tracker(lambda w: (w["w"] ** 2).sum(), 0.1, out="live.jsonl", budget=20)
    tracker(1, {"w": torch.linspace(-1, 1, 12)})
    holds("row", json.loads((workplace / "live.jsonl").read_text(encoding="utf-8")))


def test_no_key_of_a_layer_is_one_of_its_row() -> None:
    schema = json_schema("row")
    assert not {*schema["$defs"]["layer"]["properties"]} & {*schema["properties"]}


def test_rows_made_by_hand_in_tests_are_rows() -> None:
    validator = Draft202012Validator(json_schema("row")["properties"]["seed"])
    validator.validate(rows.row()["seed"])
    assert {*rows.row()["layers@1"][0]} == {*json_schema("row")["$defs"]["layer"]["properties"]}


@pytest.mark.parametrize("kind", ["report", "row"])
def test_the_schema_names_every_form(kind: str) -> None:
    integers = np.ones((1, 1), dtype=np.int64)
    dense = Dense(integers, 1.0)
    forms = [Constant(0), Constant(1), dense, LowRank(integers, integers, 1.0, 1.0), lossless(torch.ones(1))]
    found = {form_of(one) for one in [*forms, Pieces(Blocks(0, 2), (dense, dense))]}
    words = json_schema(kind)["$defs"]["layer"]["properties"]["form"]["description"]
    assert set(re.findall(r"[a-z]+_?[a-z]+", words)) - {"or"} == found | {"unchanged"}  # with a base
