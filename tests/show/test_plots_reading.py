"""Results files are read as docs/results.md describes them. Any other file is refused in one line."""

import json
import math
from pathlib import Path

import pytest
import torch

from nncomplexity import estimate
from nncomplexity.errors import InputError
from nncomplexity.show import read_results
from tests.rows import failed, report, row, write_rows


def test_a_row_keeps_what_the_file_says(tmp_path: Path) -> None:
    results = read_results(write_rows(tmp_path / "results.jsonl", [row(7, seed=3)]))
    (network,) = results.networks
    assert (network.run, network.step, network.seed, network.method) == ("runs/a", 7, 3, "tight")
    assert network.metrics == {"test_error": 0.25, "train_error": 0.0}
    point = network.at(0.1)
    assert point is not None
    assert point.bits == round(800 / 0.1**0.5)
    assert [layer.name for layer in point.layers] == ["embed.weight", "hidden.weight", "output.weight"]
    assert sum(layer.bits for layer in point.layers) + (point.shared_bits or 0) == point.bits
    assert point.bound is not None
    assert (point.bound.vacuous, point.bound.n, point.bound.delta) == (True, 2553, 0.05)
    assert results.eps == (1.0, 0.1)


def test_an_eps_is_found_under_its_shortest_spelling(tmp_path: Path) -> None:
    results = read_results(write_rows(tmp_path / "results.jsonl", [row(eps=[1e-5, 100.0])]))
    assert [point.eps for point in results.networks[0].points] == [1e-5, 100.0]


@pytest.mark.parametrize("eps", [-1, math.nan, math.inf, True, "1"])
def test_an_eps_that_is_no_distortion_bound_is_refused(tmp_path: Path, eps: object) -> None:
    document = report()
    document["results"][0]["eps"] = eps
    (tmp_path / "report.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match=rf"report\.json: expected a results\.jsonl.*, got eps = {eps!r}"):
        read_results(tmp_path / "report.json")
    one = row()
    with pytest.raises(InputError, match=rf"r\.jsonl, line 1: .*, got eps = {eps!r}"):
        read_results(write_rows(tmp_path / "r.jsonl", [one | {"eps": [eps]}]))


def test_failed_rows_and_cut_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    results = read_results(write_rows(tmp_path / "r.jsonl", [row(), failed(300)], end='{"schema": 1, "kind": "chec'))
    assert (len(results.networks), results.failures[0].error, results.cut_lines) == (1, "loss: it is nan", 1)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_texts_as_shells_redirect_them_are_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report()), encoding=encoding)
    (tmp_path / "plain.json").write_text(json.dumps(report()), encoding="utf-8")
    found, plain = (read_results(tmp_path / name).networks[0] for name in ("report.json", "plain.json"))
    assert found.points == plain.points
    (tmp_path / "r.jsonl").write_text("".join(f"{json.dumps(row(step))}\r\n" for step in (1, 2)), encoding=encoding)
    assert [network.step for network in read_results(tmp_path / "r.jsonl").networks] == [1, 2]


def test_the_last_row_on_a_checkpoint_counts(tmp_path: Path) -> None:
    rows = [failed(100), row(100, checkpoint="runs/a/step_100.safetensors"), row(100, scale=2.0), failed(100)]
    results = read_results(write_rows(tmp_path / "r.jsonl", rows))
    assert [network.at(1.0).bits for network in results.networks] == [1600]  # type: ignore[union-attr]
    assert results.failures == ()


def test_calibrations_are_no_checkpoints(tmp_path: Path) -> None:
    results = read_results(write_rows(tmp_path / "r.jsonl", [row(), row(None, kind="untrained"), row(None, kind="shuffled")]))
    assert (len(results.networks), [one.kind for one in results.calibrations]) == (1, ["untrained", "shuffled"])


def test_a_report_and_a_curve_are_read(tmp_path: Path) -> None:
    curve = {
        "hull": [1.0, 0],
        "fits": {"log": {"a": -1.0, "b": 2.0, "r2": 0.9, "points": 3}, "power": None},
        "best_fit": "log",
        "mdl": None,
    }
    for name, content in (("report.json", report()), ("curve.json", report(curve=curve))):
        (tmp_path / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    plain, curved = (read_results(tmp_path / name).networks[0] for name in ("report.json", "curve.json"))
    assert plain.curve is None
    assert curved.curve is not None
    assert (curved.curve.hull, [fit.kind for fit in curved.curve.fits]) == ((1.0, 0.0), ["log"])
    assert plain.at(1.0).mdl_bits == 809.0  # type: ignore[union-attr]
    both = read_results([tmp_path / "report.json", tmp_path / "curve.json"])
    assert [source.form for source in both.sources] == [
        "report.json",
        "curve.json",
    ]


def test_what_a_measurement_writes_is_read(tmp_path: Path) -> None:
    weights = {"w": torch.eye(8)}
    measured = estimate(weights, lambda w: ((w["w"] - torch.eye(8)) ** 2).mean(), eps=0.01, method="quantize", budget=5)
    (tmp_path / "report.json").write_text(measured.to_json(), encoding="utf-8")
    (network,) = read_results(tmp_path / "report.json").networks
    assert (network.points[0].bits, network.loss) == (measured.bits, measured.loss)
    assert [layer.name for layer in network.points[0].layers] == [layer.name for layer in measured.layers]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "got an empty file"),
        ("loss,bits\n1,2\n", "got a file that is none of these"),
        ('{"epoch": 1}\n', r'line 1: expected a results.jsonl.*got \{"epoch": 1\}'),
        ("[1, 2]", r"got \[1, 2\]"),
        (json.dumps(row(schema=2)), "schema 2, which another version wrote"),
        (json.dumps({**row(), "bits@1": None}), "bits@1 = None"),
        (json.dumps({key: value for key, value in row().items() if key != "bits@1"}), "no 'bits@1'"),
        (json.dumps(row(kind="dream")), "kind 'dream'"),
        (json.dumps({"schema": 1, "results": [{"eps": 1}]}), "no 'bits'"),
        (json.dumps({"schema": 1, "results": []}), "got no result for any ε"),
        (json.dumps(row(eps=[])), "got a row without any ε"),
        (json.dumps(failed()), "no checkpoint was measured there; 1 failed: loss: it is nan"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "file"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        read_results(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing: cannot read it \(No such file"):
        read_results(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"results: expected .* got no file"):
        read_results([])


def test_methods_of_one_checkpoint_stand_beside_each_other(tmp_path: Path) -> None:
    by_method = [row(step, settings={"method": method}) for method in ("tight", "bayes") for step in (1, 2)]
    results = read_results([write_rows(tmp_path / f"{one['settings']['method']}.jsonl", by_method) for one in by_method])
    assert sorted((network.method, network.step) for network in results.networks) == [
        ("bayes", 1),
        ("bayes", 2),
        ("tight", 1),
        ("tight", 2),
    ]


def test_other_weights_under_one_name_are_runs_of_their_own(tmp_path: Path) -> None:
    """Such rows come from runs that were tracked from their own folders. The weights at the beginning may be the same."""
    files = []
    for name, sha256 in (("p", "cd"), ("q", "ef")):
        (tmp_path / name).mkdir()
        rows = [row(1, run="checkpoints"), row(2, run="checkpoints", sha256=sha256 * 32)]
        files.append(write_rows(tmp_path / name / "r.jsonl", rows))
    results = read_results(files)
    runs = [str(tmp_path / name / "r.jsonl" / "checkpoints") for name in ("p", "p", "q", "q")]
    assert [(network.run, network.step) for network in results.networks] == list(zip(runs, (1, 2, 1, 2), strict=True))
    assert [network.run for network in read_results([files[0], files[0]]).networks] == ["checkpoints"] * 2


@pytest.mark.parametrize(
    "other", [{"sha256": "ef" * 32}, {"loss": 1.5}, {"settings": {"method": "tight", "loss_fn": "task:other"}}]
)
@pytest.mark.parametrize("run", ["/scratch/run", "runs/a"])
def test_files_that_differ_in_their_ending_alone_stay_apart(tmp_path: Path, run: str, other: dict[str, object]) -> None:
    files = [write_rows(tmp_path / "r.jsonl", [row(1, run=run)]), write_rows(tmp_path / "r.json", [row(1, run=run) | other])]
    assert len({network.run for network in read_results(files).networks}) == 2


def test_a_failure_is_not_made_good_by_another_file(tmp_path: Path) -> None:
    files = [write_rows(tmp_path / "a.jsonl", [row(1), failed(2)]), write_rows(tmp_path / "b.jsonl", [row(2, sha256="ef" * 32)])]
    for several in (files, files[::-1]):
        assert len(read_results(several).failures) == 1


def test_results_at_other_eps_are_added_to_those_of_the_same_weights(tmp_path: Path) -> None:
    files = [
        write_rows(tmp_path / "one.jsonl", [row(1, eps=[1.0, 0.1], scale=2.0)]),
        write_rows(tmp_path / "two.jsonl", [row(1, eps=[0.1, 0.01])]),
    ]
    (network,) = read_results(files).networks
    assert [(point.eps, point.bits) for point in network.points] == [(1.0, 1600), (0.1, 2530), (0.01, 8000)]


@pytest.mark.parametrize(("key", "value"), [("bits@1", -1), ("distortion@1", -0.5), ("step", -3)])
def test_what_can_only_be_positive_is_refused_below_0(tmp_path: Path, key: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"r\.jsonl, line 1: .*, got {key} = {value}"):
        read_results(write_rows(tmp_path / "r.jsonl", [row() | {key: value}]))
