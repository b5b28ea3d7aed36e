"""Every public function takes a divergence instead of a loss, and then says how faithful each file is."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nncomplexity import Divergence, Tracker, estimate, rate_distortion, track
from nncomplexity.checkpoint import save_safetensors
from nncomplexity.cli import main
from nncomplexity.errors import InputError
from nncomplexity.measure.spread import Spread
from nncomplexity.network import NamedDivergence, most_frequent_error
from nncomplexity.network.divergence.inputs import count

TASK = """
import torch
X = torch.randn(300, 6, generator=torch.Generator().manual_seed(1))
LABELS = (X[:, 0] > 0).long()
def logits(network, x):
    return network(x) if isinstance(network, torch.nn.Module) else x @ network["weight"].T
def inputs():
    return X, LABELS
def unlabelled():
    return torch.randn(200, 6, generator=torch.Generator().manual_seed(2))
def draw(count, generator):
    return torch.randn(count, 6, generator=generator)
def loss(network):
    return torch.nn.functional.cross_entropy(logits(network, X), LABELS)
def error(network):
    return float((logits(network, X).argmax(1) != LABELS).double().mean())
def wrong(network):
    return logits(network, X).argmax(1) != LABELS
def halved(reference, outputs):
    return (reference - outputs).square().sum(1) / 2
def build():
    return torch.nn.Linear(6, 2, bias=False)
def broken(network, x):
    raise KeyError("absent")
"""
X = torch.randn(300, 6, generator=torch.Generator().manual_seed(1))
LABELS = (X[:, 0] > 0).long()


def weights() -> dict[str, Tensor]:
    return {"weight": torch.randn(2, 6, generator=torch.Generator().manual_seed(3))}


def module() -> nn.Module:
    made = nn.Linear(6, 2, bias=False)
    made.load_state_dict(weights())
    return made


def outputs(network: Any, x: Tensor) -> Tensor:
    found: Tensor = network(x) if isinstance(network, nn.Module) else x @ network["weight"].T
    return found


def loss(network: Any) -> Tensor:
    return cross_entropy(outputs(network, X), LABELS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    name = f"task_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(TASK)
    save_safetensors(str(tmp_path / "net.safetensors"), weights())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def named(folder: Path, function: str) -> str:
    return f"task_{folder.name.replace('-', '_')}:{function}"


def options(folder: Path) -> list[str]:
    return ["--outputs", named(folder, "logits"), "--inputs", named(folder, "inputs")]


@pytest.mark.parametrize("make", [weights, module])
def test_a_divergence_stands_where_a_loss_does(make: Any) -> None:
    divergence = Divergence(outputs, X, labels=LABELS)
    report = estimate(make(), divergence, 0.05, budget=60)
    assert report.loss == 0
    assert 0 < report.distortion <= 0.05
    assert report.coarse_loss == report.distortion
    again = divergence.against(weights()).faithfulness(report.coarse_weights())
    assert report.faithfulness is not None
    assert report.faithfulness.searched == again.searched
    assert report.faithfulness.held_out == again.held_out
    assert report.agreement == again.agreement
    assert report.agreement is not None
    assert report.agreement.held_out is not None
    assert report.subject.divergence == "kl"
    assert report.description_length(300) is None


def test_a_file_found_under_a_loss_says_how_faithful_it_is_and_is_the_same_file() -> None:
    divergence = Divergence(outputs, X)
    alone = estimate(weights(), loss, 0.05, budget=40)
    report = estimate(weights(), loss, 0.05, budget=40, faithfulness=divergence)
    assert report.file.content == alone.file.content
    assert alone.agreement is None
    assert report.agreement == divergence.against(weights()).faithfulness(report.coarse_weights()).agreement
    assert report.subject.divergence is None
    assert json.loads(report.to_json())["results"][0]["faithfulness"]["held_out"]["inputs"] == 60


def test_what_is_faithful_only_where_it_was_searched_is_a_warning() -> None:
    few = X[:3]
    report = estimate(weights(), Divergence(outputs, few, probe=X[3:]), 0.001, budget=60)
    assert report.faithfulness is not None
    assert report.faithfulness.held_out is not None
    over = report.faithfulness.held_out.divergence > 0.0015
    assert over == any("held-out inputs" in text for text in report.warnings)
    assert report.bits > 3
    assert any("the answers to all 3 searched inputs have at most 3" in text for text in report.warnings)


def test_fresh_inputs_at_each_step() -> None:
    divergence = Divergence(outputs, lambda count, generator: torch.randn(count, 6, generator=generator), examples=1100)
    report = estimate(module(), divergence, 0.02, budget=60)
    assert report.distortion <= 0.02
    assert report.faithfulness is not None
    assert report.faithfulness.held_out is not None
    assert report.faithfulness.held_out.inputs == 220
    again = estimate(module(), divergence, 0.02, budget=60)
    assert again.file.content == report.file.content


def test_several_seeds_give_the_best_file_and_the_spread() -> None:
    alone = [estimate(weights(), loss, [0.05, 0.01], budget=40, seed=seed) for seed in (0, 1, 2)]
    found = estimate(weights(), loss, [0.05, 0.01], budget=40, seeds=3)
    for index, report in enumerate(found):
        sizes = [run[index].bits for run in alone]
        assert report.bits == min(sizes)
        assert report.spread == Spread.of(sizes)
        assert report.evaluations == pytest.approx(sum(run[index].evaluations for run in alone))
    assert alone[0][0].spread is None


def test_a_spread_is_of_logarithms() -> None:
    spread = Spread.of([800, 1000, 1250])
    logs = [math.log(800), math.log(1000), math.log(1250)]
    assert spread.mean == pytest.approx(sum(logs) / 3)
    assert spread.sd == pytest.approx(math.sqrt(sum((x - sum(logs) / 3) ** 2 for x in logs) / 2))
    assert spread.in_words() == "125 ± 28"
    assert Spread.of([800]).sd == 0


def test_seeds_and_faithfulness_are_checked() -> None:
    with pytest.raises(InputError, match="seeds: expected a whole number of at least 1, got 0"):
        estimate(weights(), loss, 0.1, seeds=0)
    with pytest.raises(InputError, match="seeds: expected at most 1 from seed 4294967295 on, got 2"):
        estimate(weights(), loss, 0.1, seed=2**32 - 1, seeds=2)
    with pytest.raises(InputError, match="faithfulness: expected a Divergence, got function"):
        estimate(weights(), loss, 0.1, faithfulness=loss)  # type: ignore[arg-type]


def test_outputs_that_raise_are_said_in_one_line() -> None:
    with pytest.raises(InputError, match="outputs: it raised KeyError: 'nothing'"):
        estimate(weights(), Divergence(lambda network, x: network["nothing"], X), 0.1)


def test_relative_to_a_base_and_curves_take_it() -> None:
    base = {"weight": weights()["weight"] + 0.1}
    report = estimate(weights(), Divergence(outputs, X), 0.01, budget=40, relative_to=base)
    assert report.distortion <= 0.01
    curve = rate_distortion(weights(), Divergence(outputs, X), [0.2, 0.05, 0.01], budget=40, n=300, seeds=2)
    assert curve.lengths == (None, None, None)
    assert all(one.faithfulness and one.spread for one in curve.reports)


def test_a_tracker_measures_each_step_by_its_own_outputs() -> None:
    tracker = Tracker(Divergence(outputs, X), eps=0.1, budget=30)
    model = module()
    first = tracker(1, model)
    with torch.no_grad():
        model.weight.mul_(3)
    second = tracker(2, model)
    for row in (first, second):
        assert row["status"] == "measured"
        assert row["loss"] == 0
        assert row["distortion@0.1"] <= 0.1
        assert 0 <= row["held_out_agreement@0.1"] <= 1
    assert first["settings"]["divergence"] == "kl"
    assert "300" not in first["settings"]["inputs"].split(",")[0]  # a fifth is held out


def test_rows_of_files_under_other_inputs_do_not_mix(folder: Path) -> None:
    out = str(folder / "rows.jsonl")
    track("net.safetensors", Divergence(outputs, X), 0.1, out=out, budget=20)
    with pytest.raises(InputError, match="inputs"):
        track("net.safetensors", Divergence(outputs, X + 1), 0.1, out=out, budget=20)


def test_measure_and_verify_by_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["measure", "net.safetensors", *options(folder), "--eps", "0.05", "--budget", "40", "--seeds", "2"]
    assert main([*call, "--save", "net.coarse", "--json", "report.json"]) == 0
    page = capsys.readouterr().out
    assert "distortion: kl between the outputs and the original's" in " ".join(page.split())
    assert "(searches: " in page
    assert "held-out inputs: agreement" in page
    document = json.loads((folder / "report.json").read_text())
    assert (document["divergence"], document["inputs"]) == ("kl", named(folder, "inputs"))
    result = document["results"][0]
    assert result["spread"]["searches"] == 2
    assert result["faithfulness"]["searched"]["inputs"] == 240
    checked = ["verify", "net.coarse", *options(folder), "--against", "net.safetensors"]
    assert main([*checked, "--eps", "0.05", "--claims", "report.json"]) == 0
    page = capsys.readouterr().out
    assert "reported agreement, held out" in page
    result["faithfulness"]["held_out"]["agreement"] -= 0.1
    (folder / "report.json").write_text(json.dumps(document))
    assert main([*checked, "--claims", "report.json"]) == 1
    assert main(["verify", "net.coarse", *options(folder)]) == 2
    assert "--outputs: it needs --against CHECKPOINT" in capsys.readouterr().err


def test_curve_and_track_by_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curve", "net.safetensors", *options(folder), "--eps", "0.2", "--eps", "0.1", "--budget", "20", "--n", "300"]) == 0
    page = capsys.readouterr().out
    assert "agree" in page
    assert "a divergence between outputs, so it is not a code length of labels" in " ".join(page.split())
    call = ["track", "net.safetensors", *options(folder), "--eps", "0.1", "--budget", "20", "--out", "rows.jsonl"]
    assert main([*call, "--model", named(folder, "build"), "--constant", "--untrained"]) == 0
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == {"checkpoint", "constant", "untrained"}
    assert all("agreement@0.1" in row and row["settings"]["outputs"] == named(folder, "logits") for row in rows)


def test_under_a_loss_with_a_probe_of_other_inputs(folder: Path) -> None:
    call = ["measure", "net.safetensors", "--loss-fn", named(folder, "loss"), *options(folder), "--eps", "0.1", "--budget", "20"]
    assert main([*call, "--probe", named(folder, "unlabelled"), "--json", "report.json"]) == 0
    result = json.loads((folder / "report.json").read_text())["results"][0]
    assert result["faithfulness"]["held_out"]["inputs"] == 200
    assert result["faithfulness"]["searched"]["right_to_wrong"] is not None
    assert result["faithfulness"]["held_out"]["right_to_wrong"] is None


@pytest.mark.parametrize(("probe", "held_out"), [("0.5", 0.5), ("50%", 0.5), ("0", 0), ("0 %", 0)])
def test_a_probe_is_a_share_in_either_form(folder: Path, probe: str, held_out: float) -> None:
    named_divergence = NamedDivergence.of(named(folder, "logits"), named(folder, "inputs"), None, probe)
    assert named_divergence is not None
    found = named_divergence.make()
    assert count(found._held_out) == held_out * (count(found._held_out) + count(found._searched))


def test_an_own_divergence_and_inputs_that_are_drawn_by_names(folder: Path) -> None:
    drawn = ["--outputs", named(folder, "logits"), "--inputs", named(folder, "draw"), "--divergence", named(folder, "halved")]
    assert main(["measure", "net.safetensors", *drawn, "--eps", "0.1", "--budget", "20", "--json", "report.json"]) == 0
    result = json.loads((folder / "report.json").read_text())["results"][0]
    assert result["faithfulness"]["kind"] == "halved"
    assert result["faithfulness"]["searched"]["inputs"] == 1024


def test_bound_ends_in_a_sentence_to_quote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["bound", "net.safetensors", "--loss-fn", named(folder, "loss"), "--risk-fn", named(folder, "error"), "--n", "300"]
    common = ["--eps", "0.5", "--eps", "0.1", "--budget", "20"]
    assert main([*call, *common]) == 0
    assert "chance: taken as 1" in capsys.readouterr().err
    more = ["--outputs", named(folder, "logits"), "--unlabelled", named(folder, "unlabelled"), "--holdout", named(folder, "inputs")]
    assert main([*call, *common, *more, "--json", "bound.json", "--save", "best.coarse"]) == 0
    out, err = capsys.readouterr()
    assert "the error of the most frequent label of --holdout" in err
    page = " ".join(out.split())
    assert "With probability at least 0.95 over the draw of 300 training examples and 200 unlabelled inputs" in page
    document = json.loads((folder / "bound.json").read_text())
    assert document["best_bound"]["original"]["m"] == 200
    assert document["best_bound"]["holdout"]["n"] == 300
    assert document["results"][0]["bound"]["chance"] < 1
    assert (folder / "best.coarse").exists()
    assert main([*call, *common, "--holdout", named(folder, "wrong"), "--classes", "2"]) == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "--loss-fn: expected MODULE:FUNCTION, or --outputs and --inputs instead, got neither"),
        (["--outputs", "T:logits"], "--inputs: expected MODULE:FUNCTION with --outputs"),
        (["--inputs", "T:inputs"], "--outputs: expected MODULE:FUNCTION with --inputs"),
        (["--loss-fn", "T:loss", "--probe", "0.1"], "--probe: it needs --outputs and --inputs"),
        (["--outputs", "T:logits", "--inputs", "T:inputs", "--divergence", "tv"], "--divergence: expected kl, bernoulli, mse"),
        (
            ["--outputs", "T:logits", "--inputs", "T:loss"],
            "--inputs: expected inputs, or a function draw(m, generator) that draws m",
        ),
        (["--outputs", "T:logits", "--inputs", "T:logits"], "logits, called with a number and a generator to draw inputs, raised"),
        (
            ["--outputs", "T:logits", "--inputs", "T:inputs", "--probe", "much"],
            "--probe: expected MODULE:FUNCTION of held-out inputs, or a share",
        ),
        (["--outputs", "T:broken", "--inputs", "T:inputs"], "it raised KeyError: 'absent'"),
    ],
)
def test_options_that_make_no_distortion_end_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], given: list[str], words: str
) -> None:
    given = [named(folder, one[2:]) if one.startswith("T:") else one for one in given]
    assert main(["measure", "net.safetensors", *given, "--eps", "0.1"]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--unlabelled", "T:unlabelled"], "--outputs: expected MODULE:FUNCTION, for the network's outputs on --unlabelled"),
        (["--holdout", "T:inputs"], "--outputs: expected MODULE:FUNCTION, for the network's answers on --holdout"),
        (
            ["--unlabelled", "T:draw", "--outputs", "T:logits"],
            "--unlabelled: expected a function without arguments that returns inputs",
        ),
    ],
)
def test_options_that_make_no_bound_end_with_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], given: list[str], words: str
) -> None:
    given = [named(folder, one[2:]) if one.startswith("T:") else one for one in given]
    call = ["bound", "net.safetensors", "--loss-fn", named(folder, "loss"), "--risk-fn", named(folder, "error"), "--n", "300"]
    assert main([*call, *given]) == 2
    assert words in capsys.readouterr().err


def test_chance_is_told_by_the_labels_of_the_inputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["measure", "net.safetensors", *options(folder), "--eps", "0.1", "--budget", "20", "--json", "report.json"]
    assert main([*call, "--risk-fn", named(folder, "error"), "--n", "300"]) == 0
    assert "chance: taken as" in capsys.readouterr().err
    kept = Divergence(outputs, (X, LABELS))
    bound = json.loads((folder / "report.json").read_text())["results"][0]["bound"]
    assert kept.chance is not None
    assert bound["chance"] == pytest.approx(kept.chance)
    assert main([*call, "--risk-fn", named(folder, "error"), "--n", "300", "--chance", "0.4"]) == 0
    assert json.loads((folder / "report.json").read_text())["results"][0]["bound"]["chance"] == 0.4


def test_the_error_of_the_most_frequent_label() -> None:
    assert most_frequent_error(torch.tensor([1, 1, 1])) is None
    assert most_frequent_error(torch.tensor([[1, 0], [1, 0], [0, 0], [0, 1]])) == 0.5
