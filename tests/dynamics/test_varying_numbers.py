"""If no word in the names marks the training step, it is the number that differs between files of one folder."""

from pathlib import Path

from nncomplexity.dynamics.sources import find_sources


def test_the_number_that_varies_counts_and_not_the_last_one(tmp_path: Path) -> None:
    for name in ("net_3_10.pt", "net_4_10.pt", "alone/net_3_10.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    varying = {
        Path(source.path).relative_to(tmp_path).as_posix(): source.varying and source.varying.value
        for folder in (tmp_path, tmp_path / "alone")
        for source in find_sources(f"{folder}/*.pt")
    }
    assert varying == {"net_3_10.pt": 3, "net_4_10.pt": 4, "alone/net_3_10.pt": None}
