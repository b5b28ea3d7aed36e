"""From patterns to checkpoints: order, runs, folders, shards, and files that are no checkpoints."""

import json
from pathlib import Path

import pytest

from nncomplexity.dynamics.sources import find_sources
from nncomplexity.errors import InputError


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(*patterns: str) -> list[tuple[str, str]]:
    return [(source.path, source.run) for source in find_sources(patterns)]


def test_natural_order_over_several_patterns_each_file_once() -> None:
    touch("a/step_9.pt", "a/step_10.pt", "b/net_2.safetensors", "a/sub/step_1.pt")
    assert found("b/*", "a/*.pt", "./a/step_9.pt") == [("a/step_9.pt", "a"), ("a/step_10.pt", "a"), ("b/net_2.safetensors", "b")]
    assert [path for path, _ in found("a/**/*.pt")] == ["a/step_9.pt", "a/step_10.pt", "a/sub/step_1.pt"]


def test_a_path_stays_as_typed() -> None:
    touch("a/step_9.pt", "here_1.pt", "odd[1].pt")
    assert found("./a/*") == [("./a/step_9.pt", "a")]
    assert found("here_1.pt") == [("here_1.pt", ".")]
    assert found("odd[1].pt") == [("odd[1].pt", ".")]


def test_folders_of_models_are_checkpoints_and_their_run_is_the_folder_above() -> None:
    touch(
        "out/checkpoint-9/model.safetensors", "out/checkpoint-10/model.safetensors", "out/checkpoint-9/optimizer.pt", "out/logs/x"
    )
    folders = [("out/checkpoint-9", "out"), ("out/checkpoint-10", "out")]
    assert found("out/checkpoint-*") == found("out/*") == found("out") == found("out/**") == folders
    assert found("out/*/model.safetensors") == [(f"{path}/model.safetensors", run) for path, run in folders]


def test_shards_stand_for_their_index() -> None:
    shards = [f"run/step_5-0000{part}-of-00002.safetensors" for part in (1, 2)]
    touch(*shards, "run/step_6.safetensors", "run/lost-00001-of-00002.safetensors")
    Path("run/step_5.safetensors.index.json").write_text(json.dumps({"weight_map": {}}))
    expected = [("run/step_5.safetensors.index.json", "run"), ("run/step_6.safetensors", "run")]
    assert found("run/*.safetensors") == found("run/*") == found(*shards, "run/step_6.safetensors") == expected
    with pytest.raises(InputError, match="is a shard without its index"):
        found("run/lost-00001-of-00002.safetensors")


def test_what_trainers_write_beside_a_network_is_left_out() -> None:
    touch("run/optimizer.pt", "run/scheduler.pt", "run/config.json", "run/log.txt", "run/net_1.pt", "run/odd_1.weights")
    Path("run/unnamed_3").write_bytes(b"PK\x03\x04")
    assert [path for path, _ in found("run/*")] == ["run/net_1.pt", "run/unnamed_3"]
    assert found("run/*.weights") == [("run/odd_1.weights", "run")]


def test_data_that_may_be_checkpoints_are_taken_only_by_their_ending() -> None:
    touch("run/step_1.pt")
    Path("run/data_2.npz").write_bytes(b"PK\x03\x04")
    assert found("run/*") == [("run/step_1.pt", "run")]
    assert found("run/*.npz") == [("run/data_2.npz", "run")]


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ([], "expected files, folders or patterns such as 'run/\\*.safetensors', got none"),
        (["run/*.pt", "run/*.ckpt"], "'run/\\*.ckpt' matches no checkpoint; 'run' holds log.txt, step_1.pt"),
        (["away/*.pt"], "'away/\\*.pt' matches nothing, because there is no folder 'away'"),
        (["step.pt"], "there is no 'step.pt'; name a checkpoint"),
        (["empty"], "the folder 'empty' holds no checkpoint"),
    ],
)
def test_a_pattern_that_matches_nothing_is_one_clear_error(patterns: list[str], words: str) -> None:
    touch("run/step_1.pt", "run/log.txt")
    Path("empty").mkdir()
    with pytest.raises(InputError, match=words):
        find_sources(patterns)
    assert len(find_sources(patterns, least=0)) <= 1 if patterns else True


def test_a_link_does_not_stand_for_the_checkpoint_that_it_leads_to() -> None:
    touch("run/step_200.pt", "run/step_20.pt")
    Path("run/best.pt").symlink_to("step_200.pt")
    Path("run/link_5.pt").symlink_to("step_20.pt")
    assert found("run/*") == [("run/step_20.pt", "run"), ("run/step_200.pt", "run")]
    assert found("run/best.pt") == [("run/best.pt", "run")]
