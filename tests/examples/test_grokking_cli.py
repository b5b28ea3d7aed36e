"""The grokking example's scripts: what they print, and how wrong calls end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from examples.grokking import figures, measure, summary, train
from examples.grokking.display import TimeLeft

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--prime", "7", "--train-fraction", "0.6", "--d-model", "8", "--heads", "2", "--d-mlp", "16", "--epochs", "4"]
CHEAP = ["--method", "quantize", "--budget", "4"]


def run(out: Path, *arguments: str) -> int:
    return train.main([*TINY, *CHEAP, "--out", str(out), *arguments])


def test_a_run_prints_a_line_for_each_recorded_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", "--eps", "1", "--eps", "0.5") == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split()[:2] == ["epoch", "train_loss"]
    assert lines[0].split()[-2:] == ["bits@1", "bits@0.5"]
    assert [line.split()[0] for line in lines[1:-1]] == ["1", "2", "3", "4"]
    assert lines[-1] == f"done: {tmp_path / 'run' / 'metrics.jsonl'}"
    assert printed.err == ""
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["measuring"] == {"eps": ["1", "0.5"], "method": "quantize", "budget": 4, "seed": 0, "distortion": "loss"}
    assert config["training"]["prime"] == 7


def test_the_same_command_goes_on_and_another_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run") == 0
    assert run(tmp_path / "run") == 0
    assert "the run is complete" in capsys.readouterr().out
    assert run(tmp_path / "run", "--seed", "1") == 2
    assert capsys.readouterr().err.endswith("holds a run with another seed; name another folder\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--out'"),
        (["--out", "run", "--speed", "9"], "No such option"),  # versions of typer go on in different words
        (["--out", "run", "--preset", "slow"], "--preset: expected one of quick, paper, got 'slow'"),
        (["--out", "run", "--task", "modulo"], "--operation: expected one of addition, multiplication"),
        (["--out", "run", "--prime", "12"], "--prime: expected a prime of at least 3, got 12"),
        (["--out", "run", "--train-fraction", "2"], "--train-fraction: expected a number between 0 and 1, got 2"),
        (["--out", "run", "--prime", "many"], "Invalid value for '--prime'"),
        (["--out", "run", "--device", "cuda:99"], "--device: expected a device of this machine"),
        (["--out", "run", "--eps", "-1"], "--eps: expected a finite number of at least 0, got '-1'"),
        (["--out", "run", "--budget", "0"], "--budget: expected at least 1 evaluation, got 0"),
        (["--out", "run", "--method", "exact"], "--method: expected one of"),
    ],
)
def test_wrong_calls_end_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("train.py: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert not list(tmp_path.iterdir())


def test_help_names_the_presets_and_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("--preset quick", "metrics.jsonl", "Table 1", "subtraction", "weight-decay", "summed"))


def test_it_runs_as_a_file_from_any_folder(tmp_path: Path) -> None:
    script = ROOT / "examples" / "grokking" / "train.py"
    command = [sys.executable, str(script), *TINY, *CHEAP, "--epochs", "1", "--out", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    script = ROOT / "examples" / "grokking" / "train.py"
    command = [sys.executable, str(script), *TINY, *CHEAP, "--epochs", "1", "--out", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        started.stdout.close()
        assert started.stderr.read() == ""
        assert started.wait(60) == 141


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train_run", interrupted)
    assert run(tmp_path / "run") == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_a_run_is_measured_and_drawn_under_the_function_distortion_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run(folder) == 0
    # A folder of the time when there was only the distortion of the loss.
    config = json.loads((folder / "config.json").read_text())
    del config["measuring"]["distortion"]
    (folder / "config.json").write_text(json.dumps(config))
    assert run(folder) == 0
    assert measure.main([str(folder), *CHEAP, "--distortion", "kl"]) == 0
    by_loss, by_kl = (
        [json.loads(line) for line in (folder / "measurements" / name).read_text().splitlines()]
        for name in ("quantize.jsonl", "quantize-kl.jsonl")
    )
    assert {(line["distortion"], line["eps"]) for line in by_kl} == {("kl", "0.1")}
    assert {line["loss"] for line in by_kl} == {0.0}  # the divergence of a network from itself
    assert all(line["loss"] > 0 for line in by_loss)
    pictures = tmp_path / "figures"
    chosen = ["--figure", "2", "--method", "quantize"]
    for distortion in ("loss", "kl"):
        assert figures.main([str(folder), "--out", str(pictures), *chosen, "--distortion", distortion]) == 0
    assert {path.name for path in pictures.iterdir()} == {"figure_02.png", "figure_02_kl.png"}
    assert summary.main([str(folder), "--method", "quantize", "--distortion", "kl"]) == 0
    assert f"{by_kl[-1]['bits'] / 8:,.0f}" in capsys.readouterr().out
    assert figures.main([str(folder), "--out", str(pictures), "--figure", "2", "--distortion", "kl"]) == 2
    assert "--method tight --distortion kl --eps 0.1" in capsys.readouterr().out
    assert measure.main([str(folder), "--distortion", "mse"]) == 2
    assert "distortion: expected loss or kl, got 'mse'" in capsys.readouterr().err


def test_measuring_again_adds_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run") == 0
    file = tmp_path / "run" / "measurements" / "quantize.jsonl"
    metrics = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    before = file.read_text()
    assert measure.main([str(tmp_path / "run"), *CHEAP, "--eps", "1", "--eps", "2"]) == 0
    assert file.read_text().startswith(before)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted((line["epoch"], line["eps"]) for line in lines) == [(epoch, eps) for epoch in (1, 2, 3, 4) for eps in ("1", "2")]
    assert measure.main([str(tmp_path / "run"), *CHEAP, "--last", "--eps", "0.5"]) == 0
    assert [json.loads(line)["epoch"] for line in file.read_text().splitlines()[8:]] == [4]
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics
    capsys.readouterr()
    assert measure.main([str(tmp_path)]) == 2
    assert "no run of train.py is here" in capsys.readouterr().err
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.unlink()
    assert measure.main([str(tmp_path / "run")]) == 2
    assert "it has no checkpoints yet; train it first" in capsys.readouterr().err


def test_the_time_left_counts_epochs_and_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr("examples.grokking.display.time.monotonic", lambda: clock)
    left = TimeLeft(10)
    assert left.seconds() is None
    assert left.text() == ""
    left.trained(0)
    clock = 2.0
    left.trained(1)
    clock = 32.0
    left.recorded()
    # Nine epochs of 2 s, and the records of epochs 2, 3, 4, 6, 8 and 10 at 30 s.
    assert left.seconds() == pytest.approx(9 * 2 + 6 * 30)
    assert left.text() == "about 3:18 left"
