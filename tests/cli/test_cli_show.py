"""`plot` and `report` as their users see them."""

from pathlib import Path

import pytest

from nncomplexity.cli import main
from nncomplexity.show import KINDS
from tests.rows import failed, row, write_rows


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "results.jsonl", [row(step) for step in (1, 10)] + [failed()], end="{")
    (tmp_path / "empty.json").write_text('{"schema": 1, "results": []}', encoding="utf-8")
    return tmp_path


def test_plot_writes_a_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "results.jsonl", "--out", "figure.svg", "--eps", "0.1", "--title", "Mine"]) == 0
    assert capsys.readouterr().out == "wrote figure.svg: dynamics of 2 checkpoints; left out: 1 failed, 1 cut\n"
    assert "Mine" in Path("figure.svg").read_text(encoding="utf-8")


def test_a_dollar_is_a_dollar(capsys: pytest.CaptureFixture[str]) -> None:
    formula = r"$\frac{a$"
    rows = [row(step, run=f"runs/{run}") for run in (formula, "$b$") for step in (1, 10)]
    for one in rows:
        one["layers@1"][0]["name"] = one["layers@0.1"][0]["name"] = formula
    write_rows(Path("results.jsonl"), rows)
    for kind in KINDS:
        assert main(["plot", "results.jsonl", "--kind", kind, "--out", f"{kind}.svg", "--title", formula]) == 0, kind
        assert formula in Path(f"{kind}.svg").read_text(encoding="utf-8")
    assert "$b$" in Path("dynamics.svg").read_text(encoding="utf-8")


def test_plot_takes_several_files_and_a_mean(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(Path("b.jsonl"), [row(step, run="runs/b") for step in (1, 10)])
    options = ["--kind", "rate-distortion", "--step", "10", "--unit", "bits", "--out", "figure.png"]
    assert main(["plot", "results.jsonl", "b.jsonl", *options]) == 0
    assert main(["plot", "results.jsonl", "b.jsonl", "--mean", "--out", "figure.pdf"]) == 0
    assert "4 checkpoints of 2 runs" in capsys.readouterr().out


def test_report_writes_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "results.jsonl", "--out", "report.html", "--title", "Mine & yours"]) == 0
    assert capsys.readouterr().out == "wrote report.html: 2 checkpoints; left out: 1 failed, 1 cut\n"
    assert "<h1>Mine &amp; yours</h1>" in Path("report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (["plot", "results.jsonl", "--out", "figure.gif"], "figure.gif: expected a name that ends in"),
        (["plot", "results.jsonl", "--out", "no/figure.svg"], "no/figure.svg: cannot write there"),
        (
            ["plot", "results.jsonl", "--out", "figure.svg", "--eps", "much"],
            "--eps: expected a finite number of at least 0, got 'much'",
        ),
        (["plot", "results.jsonl", "--out", "figure.svg", "--step", "-1"], "--step: expected a finite number"),
        (["plot", "results.jsonl", "--out", "figure.svg", "--kind", "pie"], "--kind: expected one of"),
        (["plot", "absent.jsonl", "--out", "figure.svg"], "absent.jsonl: cannot read it"),
        (["plot", "empty.json", "--out", "figure.svg"], "empty.json: expected a results.jsonl, report.json or curve.json"),
        (["report", "empty.json", "--out", "page.html"], "empty.json: expected a results.jsonl, report.json or curve.json"),
        (
            ["plot", "results.jsonl", "--out", "figure.svg", "--step", "10"],
            "--step: only rate-distortion can show chosen steps, and dynamics",
        ),
        (
            ["plot", "results.jsonl", "--out", "figure.svg", "--kind", "rate-distortion", "--mean"],
            "--mean: rate-distortion shows the curve of each network",
        ),
        (["plot", "page.svg", "--out", "page.svg"], "page.svg: it would overwrite another file of this call"),
        (["report", "results.jsonl", "--out", "page.txt"], "page.txt: expected a name that ends in .html; choose such a name"),
        (["report", "results.jsonl", "--out", "results.jsonl"], "results.jsonl: expected a name that ends in .html"),
    ],
)
def test_a_wrong_call_is_one_line(call: list[str], words: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert main(call) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"nncomplexity: {words}")
    assert printed.err.count("\n") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["empty.json", "results.jsonl"]
