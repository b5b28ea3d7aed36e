"""What W&B keeps of a run in offline mode, read from its file: no value is dropped, and rows have their own axis."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from nncomplexity.errors import InputError
from nncomplexity.integrations import WandbWriter
from tests.written import reports, row

BLOCK, HEAD = 32768, 7


def records(folder: Path) -> Iterator[Any]:
    """The content of a run's file: records in pieces, in the format of LevelDB's logs."""
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    content, at, whole = path.read_bytes(), HEAD, b""
    while at + HEAD <= len(content):
        if (left := BLOCK - at % BLOCK) < HEAD:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEAD])
        at += HEAD + length
        whole += content[at - length : at]
        if kind in (1, 4):  # a whole record, or its last piece
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def name_of(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rows_that_come_late_are_kept_on_their_own_axis(workplace: Path) -> None:
    rows, given = [row(3), row(7, seed=1)], reports()
    with wandb.init(mode="offline", dir=str(workplace), project="tests", settings=wandb.Settings(silent=True)) as run:
        writer = WandbWriter()
        for step in range(20):
            run.log({"loss": 20 - step}, step=step)
            writer.row({12: rows[0], 18: rows[1]}.get(step))
        writer.report(given, name="net", step=9)
    wandb.teardown()  # another process of W&B writes the file, and the run doesn't wait for it
    found = list(records(workplace))
    history = [
        {name_of(item): json.loads(item.value_json) for item in one.history.item} for one in found if one.HasField("history")
    ]
    assert [one["loss"] for one in history if "loss" in one] == list(range(20, 0, -1))
    values = [(one["complexity/step"], one["complexity/bits_at_0.5"]) for one in history if "complexity/bits_at_0.5" in one]
    assert values == [*((one["step"], one["bits@0.5"]) for one in rows), (9, given[0].bits)]
    axes = {one.metric.glob_name: one.metric.step_metric for one in found if one.HasField("metric")}
    assert axes["complexity/*"] == "complexity/step"
    keys = {key for one in history for key in one}
    assert {"complexity/report/path", "complexity/rate_distortion/path"} <= keys
    (artifact,) = [one.artifact for one in found if one.HasField("artifact")]
    assert artifact.name == "complexity-net"
    files = {entry.path for entry in artifact.manifest.contents}
    assert files == {"net_0.5.coarse", "net_0.1.coarse", "net_0.coarse", "report.html", "report.json"}


def test_a_run_is_needed() -> None:
    with pytest.raises(InputError, match=r"run: expected a run of W&B, got none; call wandb.init\(\) first"):
        WandbWriter()
