"""Every key of a report is either computed again and compared, or named as taken on trust."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nncomplexity.bounds import bound
from nncomplexity.checkpoint import Checkpoint, load_checkpoint, save_safetensors
from nncomplexity.errors import FormatError, InputError
from nncomplexity.file import CoarseFile, read_file
from nncomplexity.measure import Typed, Verification, certificate, check_claims, estimate, hashes_of, read_report, reports_json
from nncomplexity.measure.claims import alike, close, same
from nncomplexity.measure.reported import Reported
from nncomplexity.network import Divergence, Task
from nncomplexity.words import Relative

N = 40
INPUTS = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
LABELS = INPUTS[:, :3].argmax(1)
NOISE = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
WEIGHTS = {"weight": 4 * torch.eye(3, 6) + 0.1 * NOISE, "bias": torch.tensor([0.1, 0.0, 0.02])}
HERE = str(Path(__file__))


def logits(network: Any, inputs: torch.Tensor = INPUTS) -> torch.Tensor:
    return inputs @ network["weight"].T + network["bias"]


def loss(network: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(logits(network), LABELS)


def error(network: Any) -> float:
    return float((logits(network).argmax(1) != LABELS).double().mean())


TASK = Task(loss, risk_fn=error)
TYPED = Typed(n=N, delta=0.05, chance=0.9, functions={"loss_fn": "mytask:loss", "risk_fn": "mytask:error"}, task=(), data=())


class Case:
    """A network, a file of it, its report and its certificate."""

    def __init__(self, folder: Path) -> None:
        save_safetensors(folder / "net.safetensors", WEIGHTS)
        self.original: Checkpoint = load_checkpoint(folder / "net.safetensors")
        report = estimate(WEIGHTS, loss, Relative(0.1), method="quantize", faithfulness=Divergence(logits, INPUTS))
        report.save(folder / "net.coarse")
        self.file: CoarseFile = read_file(folder / "net.coarse")
        promise = report.bound(risk=error(report.coarse_weights()), n=N, chance=0.9, constant_risk=error(zeros()))
        document = json.loads(
            reports_json([report], sha256=self.original.sha256, key=None, loss_fn="mytask:loss", risk_fn="mytask:error")
        )
        length = report.description_length(N)
        assert length
        document["results"][0] |= {
            "bound": promise.to_dict(),
            "codec": report.file.codec.name,
            "file": "net.coarse",
            "description_length": {**dataclasses.asdict(length), "total_bits": length.total_bits},
        }
        self.report: dict[str, Any] = document
        found = self.verified(None)
        about = {
            "file": "net.coarse",
            "loss_fn": "mytask:loss",
            "risk_fn": "mytask:error",
            "data": [],
            "checkpoint": "net.safetensors",
        }
        self.certificate = certificate(
            self.file, found, task=TASK, against=self.original, eps=Relative(0.1), bound=promise, about=about
        ) | {"task": []}

    def verified(self, document: dict[str, Any] | None, typed: Typed = TYPED) -> Verification:
        return check_claims(
            *(self.file, TASK),
            against=self.original,
            eps=Relative(0.1),
            reported=None if document is None else reported_of(document),
            faithfulness=Divergence(logits, INPUTS),
            typed=typed,
        )


def zeros() -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in WEIGHTS.items()}


def reported_of(document: dict[str, Any]) -> Reported:
    about = {key: value for key, value in document.items() if key != "results"}
    return Reported(document["results"][0], document["loss"], document.get("sha256"), None, about)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values that aren't objects or lists of objects."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path


def falsified(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """The document with another value at this place, of the same type if there is one."""
    other = copy.deepcopy(document)
    holder: Any = other
    for part in path[:-1]:
        holder = holder[part]
    value = holder[path[-1]]
    if isinstance(value, bool):
        holder[path[-1]] = not value
    elif isinstance(value, int):
        holder[path[-1]] = value + 8
    elif isinstance(value, float):
        holder[path[-1]] = value * 0.75 + 0.01
    elif isinstance(value, str):
        holder[path[-1]] = f"{value}x"
    elif isinstance(value, list):
        holder[path[-1]] = [*value, "more"] if value and isinstance(value[0], str) else [*value, 3]
    else:
        holder[path[-1]] = 0.5
    return other


def named(path: tuple[Any, ...]) -> str:
    parts = [part for part in path if not isinstance(part, int) and part != "results"]
    return ".".join(parts)


@pytest.mark.parametrize("kind", ["report", "certificate"])
def test_every_key_is_checked_or_named_as_taken_on_trust(case: Case, kind: str) -> None:
    document = getattr(case, kind)
    honest = case.verified(document)
    assert honest.holds, [claim for claim in honest.claims if not claim.holds]
    passed = set()
    for path in leaves(document):
        if path in {("results", 0, "bound", "kind")}:  # which isn't among the kinds; the next test covers it
            continue
        try:
            found = case.verified(falsified(document, path))
        except InputError:
            continue
        name = named(path)
        on_trust = any(name == one or name.startswith(f"{one}.") for one in found.on_trust)
        assert on_trust or not found.holds, f"{name} may lie"
        passed |= {name} if found.holds else set()
    assert {"loss", "bound.n", "bound.value", "bits", "layers.bits", "eps", "zero_loss", "parameters"} & passed == set()
    assert passed <= set(honest.on_trust) | {f"{one}.{inner}" for one in honest.on_trust for inner in ("bits",)}


def test_a_bound_of_another_kind_is_false(case: Case) -> None:
    document = falsified(case.report, ("results", 0, "bound", "value"))
    document["results"][0]["bound"] = case.report["results"][0]["bound"] | {"kind": "hoeffding"}
    assert failing(case.verified(document)) == ["reported bound"]


def failing(found: Verification) -> list[str]:
    return [claim.name for claim in found.claims if not claim.holds]


def test_n_that_was_made_up_passes_only_where_nobody_says_another(case: Case) -> None:
    document = copy.deepcopy(case.report)
    result = document["results"][0]
    promise = result["bound"]
    far = bound(
        case.file.bits, risk=promise["risk"], n=10**9, chance=0.9, constant_risk=promise["constant_risk"], self_delimiting=False
    )
    result["bound"] = far.to_dict()
    del result["description_length"]
    assert far.value < 0.3
    found = case.verified(document, Typed())
    assert found.holds
    assert {"bound.n", "bound.delta", "bound.chance"} <= set(found.on_trust)
    assert failing(case.verified(document)) == ["reported bound.n"]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"n": 41}, ["reported description_length", "reported bound.n"]),
        ({"delta": 0.01}, ["reported bound.delta"]),
        ({"chance": 0.5}, ["reported bound.chance"]),
        ({"functions": {"loss_fn": "mytask:train_loss"}}, ["reported loss_fn"]),
        ({"functions": {"risk_fn": "other:error"}}, ["reported risk_fn"]),
        ({"functions": {"loss_fn": "/home/me/mytask.py:loss", "risk_fn": "package.mytask:error"}}, []),
        ({"functions": {"model": "mytask:build"}}, []),
    ],
    ids=str,
)
def test_what_is_typed_and_disagrees_is_a_claim_that_fails(case: Case, change: dict[str, Any], wrong: list[str]) -> None:
    assert failing(case.verified(case.report, dataclasses.replace(TYPED, **change))) == wrong


def test_an_eps_that_is_typed_and_disagrees_fails(case: Case) -> None:
    found = check_claims(case.file, TASK, against=case.original, eps=Relative(0.2), reported=reported_of(case.report))
    assert failing(found) == ["reported eps_relative"]
    found = check_claims(case.file, TASK, against=case.original, eps=5.0, reported=reported_of(case.report))
    assert failing(found) == ["reported eps"]


def test_a_certificate_of_other_sources_or_data_fails(case: Case, tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(b"one")
    first = hashes_of([str(tmp_path / "data.npz")])
    document = case.certificate | {"data": list(first), "task": list(hashes_of([HERE]))}
    typed = dataclasses.replace(TYPED, data=first, task=hashes_of([HERE]))
    assert case.verified(document, typed).holds
    (tmp_path / "data.npz").write_bytes(b"two")
    assert failing(case.verified(document, dataclasses.replace(typed, data=hashes_of([str(tmp_path / "data.npz")])))) == [
        "reported data"
    ]
    assert failing(case.verified(document, dataclasses.replace(typed, task=()))) == ["reported task"]
    assert {"data", "task"} <= set(case.verified(document, Typed()).on_trust)
    with pytest.raises(InputError, match=r"none\.npz: cannot read it .No such file or directory.; name a file"):
        hashes_of([str(tmp_path / "none.npz")])


def test_what_does_not_hold_is_not_certified(case: Case) -> None:
    found = check_claims(case.file, TASK, against=case.original, eps=1e-9)
    with pytest.raises(InputError, match=r"certificate: distortion fails, .* at most ε = 1e-09 claimed"):
        certificate(case.file, found, task=TASK, against=case.original, eps=1e-9)
    with pytest.raises(InputError, match="certificate: distortion fails, no --against"):
        certificate(case.file, check_claims(case.file, TASK), task=TASK, against=case.original, eps=1.0)


def test_results_of_other_files_are_named(case: Case, tmp_path: Path) -> None:
    document = case.report | {"results": [*case.report["results"], {"eps": 1.0, "file": "other.coarse"}]}
    (tmp_path / "report.json").write_text(json.dumps(document))
    reported = read_report(tmp_path / "report.json", "net.coarse")
    assert check_claims(case.file, TASK, reported=reported).on_trust[-1] == "1 results of other files"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": [3]}, "TypeError: layers is no list of objects"),
        ({"layers": {"name": "w"}}, "TypeError: layers is no list of objects"),
        ({"eps_relative": -1}, "TypeError: eps_relative is -1"),
        ({"description_length": {"model_bits": 1}}, "KeyError: 'data_bits'"),
    ],
    ids=str,
)
def test_a_key_of_another_type_is_no_report(case: Case, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    document = case.report | {"results": [case.report["results"][0] | change]}
    (tmp_path / "report.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match=rf"no report\.json of this program .{words}"):
        read_report(tmp_path / "report.json", "net.coarse")


def test_numbers_are_compared_as_their_kind_is_known() -> None:
    assert close("", 1.0, 1.00005).holds
    assert not close("", 1.0, 1.0005).holds
    assert close("", 0.0, 5e-7).holds
    assert not close("", 1.0, 10**400).holds
    assert alike([1, 2.0], (1, 2.0 + 1e-12))
    assert not alike(True, 1)
    assert not alike(3, 3.5)
    assert not alike(1.0, 10**400)
    assert "thousands of digits" in same("", 1, 10**5000).figures


def test_lossless_bits_beside_a_file_of_version_1_are_taken_on_trust(case: Case) -> None:
    """They are in files of a version that is no longer written."""
    file = dataclasses.replace(case.file, version=1)
    for of, on_trust in ((file, True), (case.file, False)):
        found = check_claims(of, TASK, against=case.original, eps=Relative(0.1), reported=reported_of(case.report))
        assert ("lossless_bits" in found.on_trust) is on_trust
        assert any(claim.name == "reported lossless_bits" for claim in found.claims) is not on_trust


def test_a_size_that_is_left_out_is_a_lie_and_one_of_an_unknown_codec_is_taken_on_trust(case: Case) -> None:
    sizes = case.report["lossless_bits"]
    for change, holds, on_trust in (({"xz": None}, False, False), ({"mine": 8}, True, True)):
        reported = reported_of(case.report | {"lossless_bits": sizes | change})
        found = check_claims(case.file, TASK, against=case.original, eps=Relative(0.1), reported=reported)
        (claim,) = [claim for claim in found.claims if claim.name == "reported lossless_bits"]
        assert claim.holds is holds, claim.figures
        assert ("lossless_bits" in found.on_trust) is on_trust
