"""The losses in a trainer's log, and the code length that they add up to."""

import json
import math
from pathlib import Path

import pytest
import torch

from nncomplexity import track
from nncomplexity.checkpoint import Logged, load_checkpoint, prequential_bits, save_safetensors
from nncomplexity.checkpoint.trainer_log import log_of


def test_a_coin_that_is_never_learned_takes_a_bit_for_each_example() -> None:
    log = tuple(Logged(epoch / 10, math.log(2)) for epoch in range(1, 11))
    assert prequential_bits(log, n=1000) == pytest.approx(1000)
    assert prequential_bits(log[:3], n=1000) == pytest.approx(300)


def test_it_is_the_sum_over_the_examples_of_a_pass() -> None:
    # 8 examples in batches of two; the log has the mean of the losses since its last entry.
    losses = [3.0, 2.5, 1.0, 0.25]
    log = (Logged(0.5, (losses[0] + losses[1]) / 2), Logged(0.75, losses[2]), Logged(1.0, losses[3]))
    assert prequential_bits(log, n=8) == pytest.approx(sum(2 * loss for loss in losses) / math.log(2))


@pytest.mark.parametrize("epochs", [(), (0.5, 1.1), (0.5, 0.5), (0.5, 0.2), (0.0, 0.5)])
def test_there_is_none_without_a_log_of_one_pass(epochs: tuple[float, ...]) -> None:
    assert prequential_bits(tuple(Logged(epoch, 1.0) for epoch in epochs), n=10) is None


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {},
        {"log_history": 3},
        {"log_history": [1, {"loss": 1.0}, {"epoch": 1, "loss": "x"}, {"epoch": math.nan, "loss": 1}]},
    ],
)
def test_what_is_no_log_has_no_entries(state: object) -> None:
    assert log_of(state) == ()


def test_track_gives_it_for_checkpoints_of_a_trainer(tmp_path: Path) -> None:
    history = [
        {"epoch": 0.4, "loss": 1.5, "step": 4},
        {"epoch": 0.4, "eval_loss": 1.2},
        {"epoch": 0.8, "loss": 0.5},
        {"epoch": 1.2, "loss": 0.1},
    ]
    for count in (1, 3, 4):
        folder = tmp_path / f"checkpoint-{count}"
        folder.mkdir()
        save_safetensors(folder / "model.safetensors", {"w": torch.ones(4) * count})
        state = {"global_step": count, "log_history": history[:count]}
        (folder / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    assert load_checkpoint(tmp_path / "checkpoint-3").log == (Logged(0.4, 1.5), Logged(0.8, 0.5))
    places = [str(tmp_path / f"checkpoint-{count}") for count in (1, 3, 4)]

    def rows(out: str, n: int | None) -> list[dict[str, object]]:
        return track(places, lambda network: network["w"].square().sum(), 1.0, method="quantize", budget=4, n=n, out=tmp_path / out)

    found = [row["prequential_bits"] for row in rows("with.jsonl", 50)]
    assert found == [pytest.approx(50 * 0.4 * 1.5 / math.log(2)), pytest.approx(50 * 0.4 * 2.0 / math.log(2)), None]
    assert all("prequential_bits" not in row for row in rows("without.jsonl", None))
