"""What TensorBoard reads of a run: values at their steps, also late ones, the picture, and the files in the run's folder."""

import warnings
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from nncomplexity import Report, estimate, load
from nncomplexity.errors import InputError
from nncomplexity.integrations import TensorBoardWriter
from tests.cases import mean_square
from tests.pages import run_section
from tests.written import NUMBERS, PICTURE, network, reports, row, value_in


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_rows_are_at_their_steps_beside_a_loss_that_is_ahead(tmp_path: Path) -> None:
    summary, rows = SummaryWriter(str(tmp_path)), [row(3), row(7, seed=1)]
    writer = TensorBoardWriter(summary)
    for step in range(20):
        summary.add_scalar("loss", 1.0, step)
        writer.row({12: rows[0], 18: rows[1]}.get(step))
    summary.close()
    events = read(tmp_path)
    assert len(events.Scalars("loss")) == 20
    for name in NUMBERS:
        found = [(one.step, one.value) for one in events.Scalars(f"complexity/{name}")]
        assert found == [(one["step"], pytest.approx(value_in(one, name))) for one in rows]


def test_a_report_is_values_a_picture_and_files(tmp_path: Path) -> None:
    given = reports()
    TensorBoardWriter(tmp_path, prefix="mine/").report(given, name="net", step=9)
    events = read(tmp_path)
    assert [(one.step, one.value) for one in events.Scalars("mine/bits_at_0.1")] == [(9, given[1].bits)]
    assert events.Images("mine/rate_distortion")[0].step == 9
    folder = tmp_path / "mine" / "net_step_9"
    files = {"net_0.5.coarse", "net_0.1.coarse", "net_0.coarse", "report.html", "report.json", "rate_distortion.png"}
    assert {path.name for path in folder.iterdir()} == files
    assert torch.equal(load(folder / "net_0.1.coarse")["w"], given[1].coarse_weights()["w"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "net" in page
    assert "/tmp" not in page


def test_one_report_alone_and_a_network_without_a_distortion(tmp_path: Path) -> None:
    lossless = estimate(network(), mean_square, 0.0)
    assert isinstance(lossless, Report)
    TensorBoardWriter(tmp_path).report(lossless)
    assert PICTURE not in read(tmp_path).Tags()["images"]
    assert (tmp_path / "complexity" / "model_step_0" / "model_0.coarse").read_bytes() == lossless.file.content


def test_a_tracker_that_is_gone_is_said_once(tmp_path: Path) -> None:
    class Gone(SummaryWriter):
        def add_scalar(self, *_: object, **__: object) -> None:
            raise OSError("no space left")

    writer = TensorBoardWriter(Gone(str(tmp_path)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for step in (1, 2):
            writer.row(row(step))
    assert [str(one.message) for one in said] == ["step 1: its numbers were not written (OSError: no space left); training goes on"]


def test_a_wrong_argument_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="prefix: expected letters"):
        TensorBoardWriter(tmp_path, prefix="of the run: ")
    with pytest.raises(InputError, match="name: expected a name without folders, got 'a/b'"):
        TensorBoardWriter(tmp_path).report(reports(), name="a/b")
    with pytest.raises(InputError, match="reports: expected at least one Report, got none"):
        TensorBoardWriter(tmp_path).report([])


def test_the_program_of_the_page_runs(workplace: Path) -> None:
    run_section("TensorBoard, W&B and MLflow", workplace)["summary"].close()
    assert [one.step for one in read(Path("runs/mlp")).Scalars("complexity/bits_at_0.1")] == [0, 1, 2, 3]
    assert Path("runs/mlp/complexity/mlp_step_3/report.html").exists()
