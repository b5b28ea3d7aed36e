"""The benchmark of bits and the learning coefficient: the checkpoints of a training, the table and the picture."""

from pathlib import Path
from typing import Any

import torch

from benchmarks.cases.trained import trained, untrained
from benchmarks.reporting import learning_coefficient as reporting


def test_a_share_of_a_training_is_a_checkpoint_of_it() -> None:
    begin, early, later = (
        [tensor.detach() for tensor in trained("random labels", share).network.parameters()] for share in (0.0, 0.01, 0.02)
    )
    assert all(torch.equal(a, b) for a, b in zip(begin, untrained("random labels").network.parameters(), strict=True))
    first, second = (sum(float((b - a).norm()) for a, b in zip(begin, end, strict=True)) for end in (early, later))
    assert 0 < first < second


def made_up() -> dict[str, Any]:
    rows = [
        {
            "network": name,
            "share": share,
            "loss": 0.5,
            "bits_loss": bits,
            "bits_kl": other,
            "critical_bits_loss": 2.0 + llc,
            "critical_bits_kl": None if share == 0.1 else 9.0 - llc,
            "llc_1000": llc,
            "llc_1000_error": 0.25,
            "llc_1000_drift": -0.5,
            "llc_100": 2 * llc,
            "llc_100_error": 0.5,
            "llc_100_drift": 1.5,
        }
        for name, share, bits, other, llc in (
            ("perceptron", 0.1, 100, 0, 1.0),
            ("perceptron", 0.2, 200, 10, 2.0),
            ("perceptron", 0.3, 300, 1000, 3.0),
            ("perceptron", 1.0, 400, 100, 4.0),
            ("recurrent", 0.5, 5000, 10, 5.0),
            ("recurrent", 1.0, 3000, 20, 6.0),
        )
    ]
    return {"rows": rows}


def test_the_table_says_how_much_of_each_quantity_the_coefficient_explains() -> None:
    lines = reporting.learning_coefficient(made_up()).splitlines()[2:]
    assert lines[0] == "| bits, loss | perceptron | 1.00, 1.00 (4) | 1.00, 1.00 (4) | 1.00, 1.00 (4) | 1.00, 1.00 (4) |"
    assert lines[1] == "| bits, loss | recurrent | 1.00, -1.00 (2) | 1.00, -1.00 (2) | 1.00, -1.00 (2) | 1.00, -1.00 (2) |"
    assert lines[2].startswith("| bits, loss | all | 0.58, 0.94 (6) | ")
    # 0, 10, 1,000, 100 against 1, 2, 3, 4.
    assert lines[3].startswith("| bits, outputs (KL) | perceptron | 0.12, 0.80 (4) | ")
    # A checkpoint without critical bits is left out.
    assert lines[9].startswith("| critical bits, outputs (KL) | perceptron | 1.00, -1.00 (3) | ")


def test_coefficients_below_zero_are_told_apart() -> None:
    content = made_up()
    content["rows"][0]["llc_1000"] = -1.0
    line = reporting.learning_coefficient(content).splitlines()[2]
    assert line == "| bits, loss | perceptron | 0.91, 1.00 (4) | 1.00, 1.00 (3) | 1.00, 1.00 (4) | 1.00, 1.00 (4) |"


def test_a_row_of_the_table_of_checkpoints() -> None:
    told = reporting.checkpoints(made_up()).splitlines()[2]
    assert told == "| perceptron | 10% | 0.5000 | 100 | 0 | 3 | – | 1.0 ± 0.2 | -0.5 | 2.0 ± 0.5 | +1.5 |"


def test_the_picture_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        reporting.draw(made_up(), tmp_path / f"{name}.svg", made_by="nncomplexity 0.1.0")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert all(word in text for word in ("critical bits, outputs (KL)", "recurrent", "γ = 100", "measured by nncomplexity 0.1.0"))
