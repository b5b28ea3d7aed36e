"""No control character of a name reaches a terminal or a page."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nncomplexity import estimate
from nncomplexity.cli import main
from nncomplexity.show import read_results
from nncomplexity.show.html.controls import inert
from nncomplexity.show.html.page import page
from tests.rows import failed, row, write_rows
from tests.training_run import make_training

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f"
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def test_only_control_characters_are_changed() -> None:
    text = "".join(map(chr, range(0x250))) + "日本語 ε ☃"
    changed = inert(text)
    assert not CONTROLS.search(changed)
    assert all(one == other for one, other in zip(text, changed, strict=True) if not CONTROLS.match(one))
    assert (inert("\n\t"), inert("\x1b"), inert("\x7f"), inert("\x9b")) == ("\n\t", "␛", "␡", "�")


def test_a_page_has_none(tmp_path: Path) -> None:
    rows = [row(1, run=f"a{HOSTILE}"), row(2, run=f"a{HOSTILE}"), failed(3, f"it is {HOSTILE}", run=f"a{HOSTILE}")]
    rows[1]["layers@1"][0]["name"] = HOSTILE
    html = page(read_results(write_rows(tmp_path / "results.jsonl", rows)), title=f"of {HOSTILE}")
    assert not CONTROLS.search(html)
    assert "of ␛]0;owned␇␛[2J" in html


def test_a_notebook_has_none() -> None:
    report = estimate({HOSTILE: torch.eye(4)}, lambda weights: weights[HOSTILE].sum(), 0.1, method="quantize")
    assert not CONTROLS.search(report._repr_html_())


@pytest.mark.skipif(Path("/").anchor != "/", reason="file names elsewhere can't have them")
def test_a_file_in_a_folder_is_named_with_escapes(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_training(workplace)
    (workplace / "model").mkdir()
    save_file({"weight": torch.eye(3, 6), "bias": torch.zeros(3)}, workplace / "model" / f"net{HOSTILE}.safetensors")
    call = ["--loss-fn", "mytask:small", "--eps", "0.1", "--method", "quantize"]
    for argv in (["measure", "model", *call], ["track", "model", *call, "--out", "rows.jsonl"]):
        assert main(argv) in (0, 3)
        out, err = capsys.readouterr()
        assert not CONTROLS.search((out + err).replace("\r", ""))
        assert argv[0] == "track" or r"net\x1b]0;owned\x07" in err
    argv = ["decompress", "none.coarse", "--out", f"{HOSTILE}.safetensors"]
    assert main(argv) == 2
    assert not CONTROLS.search("".join(capsys.readouterr()))


def test_names_that_are_written_are_printed_with_escapes(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_training(workplace)
    call = ["run/step_10.safetensors", "--loss-fn", "mytask:small", "--eps", "0.1", "--method", "quantize"]
    for command in ("measure", "curve"):
        assert main([command, *call, "--save", f"{HOSTILE}.coarse"]) in (0, 3)
        out, _ = capsys.readouterr()
        assert not CONTROLS.search(out)
        assert r"Written: \x1b]0;owned" in out
