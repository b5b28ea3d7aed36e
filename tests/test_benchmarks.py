"""The parts of the comparison that need no other compressor: cases, record, int8 method, NNCodec's search, tables and docs."""

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.cases import trained
from benchmarks.cases.folding_networks import RECIPES, Adapter, multiplied_out, separable
from benchmarks.cases.networks import SHIPPED, Case, case_name, checkpoints_in, find_cases
from benchmarks.cases.record import Record, machine
from benchmarks.measuring import convergence, families, foldings, scale, settings, step_cost, tight_vs_peers
from benchmarks.peers import int8_zstd, nncodec_client
from benchmarks.peers.nncodec_client import Encoded, Settings
from benchmarks.peers.nncodec_search import COARSEST, FINEST, OCTAVE, Search
from benchmarks.reporting import comparison, docs
from benchmarks.reporting import convergence as report_convergence
from benchmarks.reporting import families as report_families
from benchmarks.reporting import foldings as report_foldings
from benchmarks.reporting import scale as report_scale
from benchmarks.reporting.picture import draw
from nncomplexity import estimate
from nncomplexity.network import skeleton_of
from nncomplexity.search import Tight

TASK = """
import torch
TARGET = torch.load(__file__.replace("task.py", "target.pt"))
def loss(weights):
    return sum(((weights[name] - target) ** 2).sum() for name, target in TARGET.items())
"""


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"w": torch.randn(12, 8, generator=generator), "b": torch.randn(8, 4, generator=generator)}


@pytest.fixture
def folder(workplace: Path) -> Path:
    """A folder like a user's: a task that imports nothing of the project, and one checkpoint."""
    here = workplace / "mine"
    here.mkdir()
    (here / "task.py").write_text(TASK, encoding="utf-8")
    torch.save(weights(), here / "target.pt")
    save_file(weights(), here / "net.safetensors")
    return here


@pytest.fixture
def case(folder: Path) -> Case:
    return find_cases([folder])[0]


def test_every_shipped_folder_has_a_task_and_checkpoints() -> None:
    names = [case_name(folder, file) for folder in SHIPPED for file in checkpoints_in(folder)]
    assert {"digits/mlp", "digits/convnet"} <= set(names)
    assert len(set(names)) == len(names)


def test_a_folder_is_known_by_its_last_component_and_measured_by_its_own_task(case: Case) -> None:
    assert case.name == "mine/net"
    assert case.loss(case.weights) == 0
    assert case.about()["parameters"] == 12 * 8 + 8 * 4


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected task\.py and \.safetensors files"):
        find_cases([tmp_path])


def test_an_unknown_case_is_refused_with_the_names_there_are(folder: Path) -> None:
    with pytest.raises(ValueError, match="expected some of mine/net, got mine/other"):
        find_cases([folder], ["mine/other"])


def test_int8_file_decodes_to_the_nearest_multiples_and_keeps_other_dtypes() -> None:
    tensors = {**weights(), "half": torch.tensor([0.5, -200.0], dtype=torch.float16), "count": torch.tensor([1 << 40])}
    skeleton = skeleton_of(tensors)
    step = 0.25
    decoded = int8_zstd.decode(skeleton, int8_zstd.encode(skeleton, tensors, step))
    for name in ("w", "b"):
        expected = np.round(tensors[name].double().numpy() / step) * step
        np.testing.assert_array_equal(decoded[name].double().numpy(), expected)
    assert decoded["half"].tolist() == [0.5, -127 * step]
    assert torch.equal(decoded["count"], tensors["count"])
    assert {name: (t.dtype, t.shape) for name, t in decoded.items()} == {name: (t.dtype, t.shape) for name, t in tensors.items()}


def test_int8_search_keeps_to_the_bound_and_a_larger_bound_is_no_larger_file(case: Case) -> None:
    loose, strict = int8_zstd.search(case, 4.0), int8_zstd.search(case, 0.5)
    assert strict.distortion <= 0.5
    assert loose.distortion <= 4.0
    assert loose.bytes is not None
    assert strict.bytes is not None
    assert loose.bytes < strict.bytes


def test_int8_search_says_so_where_nothing_is_within_the_bound(case: Case) -> None:
    assert int8_zstd.search(case, 1e-12).bytes is None


class UniformCodec:
    """A substitute for NNCodec: plain rounding, 1 + log₂(1 + |k|) bits for a symbol and 5 bytes for a tensor."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.specs = {spec.name: spec for spec in case.skeleton.tensors}

    def encode(self, settings: Settings) -> Encoded:
        decoded, length = {}, 0.0
        for name, qp in settings.qp.items():
            step = (1 + qp % OCTAVE / OCTAVE) * 2.0 ** (qp // OCTAVE)
            symbols = (self.case.weights[name] / step).round()
            length += 5 + float((1 + (1 + symbols.abs()).log2()).sum()) / 8
            decoded[name] = symbols * step
        return Encoded(round(length), decoded)

    def encode_one(self, name: str, qp: int, use_dq: bool) -> Encoded:
        return self.encode(Settings({name: qp}, use_dq))

    def loss(self, weights: dict[str, torch.Tensor]) -> float:
        return self.case.loss(weights)


def lopsided(case: Case) -> Case:
    """The loss depends on `b` a thousand times as much as on `w`, so one step for both is wasteful."""

    def loss(network: dict[str, torch.Tensor]) -> torch.Tensor:
        squares = {name: ((network[name] - tensor) ** 2).sum() for name, tensor in case.weights.items()}
        return squares["w"] + 1e6 * squares["b"]

    return Case(case.name, case.sha256, case.weights, loss)


def test_a_step_per_tensor_beats_one_step_and_keeps_to_the_bound(case: Case) -> None:
    search = Search(UniformCodec(lopsided(case)), eps=1.0)  # type: ignore[arg-type]
    search.best_single()
    single = search.answer()
    search.best_per_tensor(budget=200)
    per_tensor = search.answer()
    assert single.bytes is not None
    assert per_tensor.bytes is not None
    assert per_tensor.bytes < 0.8 * single.bytes
    assert per_tensor.distortion <= 1.0
    assert per_tensor.evaluations <= single.evaluations + 200 + 1
    qp = per_tensor.settings["qp"]
    assert isinstance(qp, dict)
    assert qp["w"] > qp["b"]
    assert all(FINEST <= value <= COARSEST for value in qp.values())


def test_nncodec_is_skipped_with_a_reason_where_it_is_not_installed(case: Case, tmp_path: Path) -> None:
    nowhere = tmp_path / "no-such-python"
    assert "nncodec_env.sh" in str(nncodec_client.absence(nowhere))
    plan = tight_vs_peers.Plan(eps=(4.0,), methods=("nncodec",), nncodec_python=nowhere)
    record = tight_vs_peers.run([case], plan, tmp_path / "out.json")
    assert "nncodec_env.sh" in record.skipped["nncodec"]
    assert record.rows == []


def test_an_interpreter_without_nncodec_is_told_apart() -> None:
    assert "nncodec" in str(nncodec_client.absence(Path(sys.executable)))


def test_a_run_writes_every_row_and_a_second_run_measures_nothing(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out.json"
    plan = tight_vs_peers.Plan(eps=(4.0,), methods=("tight", "int8_zstd"), budgets=(5,))
    # The search without a budget is replaced by a short one here.
    short = lambda *given, budget=None, **more: estimate(*given, budget=budget or 20, **more)  # noqa: E731
    monkeypatch.setattr(tight_vs_peers, "estimate", short)
    tight_vs_peers.run([case], plan, output)
    content = comparison.read(output)
    assert [(row["method"], row.get("budget")) for row in content["rows"]] == [("tight", None), ("tight", 5), ("int8_zstd", None)]
    assert all(row["distortion"] <= 4.0 and row["bytes"] > 0 and row["cost"] > 0 for row in content["rows"])
    assert content["machine"] == machine()
    assert str(tmp_path) not in output.read_text(encoding="utf-8")

    monkeypatch.setattr(tight_vs_peers, "estimate", None)
    monkeypatch.setattr(int8_zstd, "search", None)
    tight_vs_peers.run([case], plan, output)
    assert comparison.read(output)["rows"] == content["rows"]


def test_again_forgets_a_methods_rows_on_the_cases_named(tmp_path: Path) -> None:
    rows = [{"case": case, "method": method} for case in ("a/b", "c/d") for method in ("tight", "bayes")]
    record = Record(tmp_path / "out.json", rows=rows)
    record.forget(["tight"], ["a/b"])
    assert record.rows == [rows[1], *rows[2:]]


def test_a_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text('{"schema": 99}', encoding="utf-8")
    with pytest.raises(ValueError, match="expected schema 1, got 99"):
        Record.open(tmp_path / "old.json", {})


def test_tables_take_the_median_over_seeds_and_leave_out_what_is_missing() -> None:
    row = {"case": "a/b", "eps": 0.1, "evaluations": 10, "cost": 20.0, "evaluation_cpu_seconds": 0.001}
    rows = [
        {**row, "method": "tight", "budget": None, "bytes": 1000},
        {**row, "method": "tight", "budget": 30, "bytes": 3000},
        *({**row, "method": "bayes", "seed": seed, "bytes": size} for seed, size in enumerate((9000, 4000, 2000))),
        {**row, "method": "int8_zstd", "bytes": None, "cost": 5.0},
    ]
    content = {"rows": rows, "cases": {"a/b": {"parameters": 12345}}}
    assert comparison.sizes([content]).splitlines()[-1] == "| a/b | 12,345 | 0.1 | 1,000 | 4,000 | – | – | – | – | 0.25 | – |"
    assert comparison.ratios([content]).splitlines()[2:] == ["| `bayes` | 1 | 0.250 | 0.250 |"]
    assert comparison.budgets([content]).splitlines()[-1] == "| a/b | 0.1 | 3,000 (20) | 1,000 (20) |"


def test_a_payload_of_no_bytes_counts_as_one_in_a_mean_of_ratios() -> None:
    row = {"case": "a/b", "eps": 1.0, "seed": 0}
    rows = [{**row, "method": "tight", "budget": None, "bytes": 0}, {**row, "method": "bayes", "bytes": 500}]
    assert comparison.ratios([{"rows": rows}]).splitlines()[2:] == ["| `bayes` | 1 | 0.002 | 0.002 |"]


def test_picture_is_the_same_each_time_and_names_networks_and_methods(tmp_path: Path) -> None:
    rows = [{"case": "a/b", "eps": eps, "method": "tight", "budget": None, "bytes": 10} for eps in (1.0, 0.1)]
    content = {"rows": rows, "cases": {"a/b": {}}}
    draw([content], tmp_path / "one.svg", made_by="nncomplexity 0.1.0, source 0123456789ab")
    draw([content], tmp_path / "two.svg", made_by="nncomplexity 0.1.0, source 0123456789ab")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert all(f">{word}<" in text for word in ("a/b", "tight", "ε = 1 nats", "ε = 0.1 nats"))


def test_docs_sections_without_marks_are_refused() -> None:
    one, two = Path("one.md"), Path("two.md")
    texts = {one: "<!-- x -->\nold\n<!-- end x -->", two: "<!-- y -->\n<!-- end y -->"}
    found = docs.rewritten(texts, {"x": "new", "y": "\\1"})
    assert found == {one: "<!-- x -->\nnew\n<!-- end x -->", two: "<!-- y -->\n\\1\n<!-- end y -->"}
    for given in ({"z": "new"}, {"x": "new"}):
        with pytest.raises(ValueError, match=r"expected one section between <!-- \w -->"):
            docs.rewritten({**texts, Path("three.md"): texts[one]}, given)


def test_docs_say_what_the_records_say() -> None:
    texts = {page: page.read_text(encoding="utf-8") for page in docs.pages()}
    assert docs.rewritten(texts, docs.sections()) == texts


def test_every_marked_section_of_the_docs_is_written() -> None:
    found = {name for page in docs.pages() for name in re.findall(r"<!-- end (\w+) -->", page.read_text(encoding="utf-8"))}
    assert found == set(docs.sections())


@pytest.mark.parametrize("path", sorted(comparison.RESULTS.glob("tight_vs_peers*.json")), ids=lambda path: path.stem)
def test_committed_rows_are_within_their_bound_and_name_no_folders(path: Path) -> None:
    content = comparison.read(path)
    for row in content["rows"]:
        assert row["bytes"] is None or row["distortion"] <= row["eps"]
        assert row["case"].count("/") == 1
    assert str(Path.home()) not in json.dumps(content)


def test_a_networks_row_is_measured_and_told() -> None:
    row = families.measure("nn.Transformer", 0.5, 20)
    assert row["exact"]
    assert row["within"]
    assert row["distortion"] <= 0.5
    told = report_families.families({"rows": [{"case": "nn.Transformer", "eps": 0.5, **row}]}).splitlines()[-1]
    assert told.startswith(f"| nn.Transformer | 42,880 | 64 | 0.5 | {row['bits'] // 8:,} | ")
    assert told.endswith("| yes |")


def test_every_recorded_network_gave_its_loss_again() -> None:
    rows = comparison.read(comparison.RESULTS / "families.json")["rows"]
    assert [row["case"] for row in rows] == list(families.FAMILIES)
    assert all(row["exact"] and row["within"] and row["distortion"] <= row["eps"] for row in rows)


@pytest.mark.parametrize("name", settings.SETTINGS)
def test_every_setting_can_be_halved_and_doubled(name: str) -> None:
    for factor in settings.FACTORS:
        ratio = getattr(settings.changed(name, factor), name) / getattr(Tight(), name)
        assert ratio == pytest.approx(factor, abs=0.01) or (name in ("target", "soft") and factor == 2)


def test_a_network_of_the_settings_benchmark_is_within_the_bound() -> None:
    row = settings.measured(0, Tight(budget=40), 0)
    assert row["bits"] > 0
    assert row["evaluations"] <= 40


def test_the_parts_of_a_step_take_less_than_the_step() -> None:
    (case,) = find_cases(SHIPPED, ["digits/convnet"])
    row = step_cost.measured(case, 0, steps=4)
    assert row["loss"] > 0
    assert 0 < row["gradient"] <= row["step"]  # each step contains its gradient
    assert step_cost.share({"gradient": 2.0, "step": 3.0}) == 0.5
    assert step_cost.summary([{"case": "a/b", "form": "dense", **row}]).count("\n") == 2


@pytest.mark.parametrize("network", foldings.SUBJECTS)
def test_tensors_presented_otherwise_are_the_same_network(network: str) -> None:
    recipe = replace(RECIPES[network], steps=3)
    if isinstance(recipe, Adapter):
        recipe = replace(recipe, encoder=replace(recipe.encoder, steps=3))
    case = recipe.trained(network, 0)
    subject = foldings.SUBJECTS[network]
    for method, shapes in PRESENTED[network].items():
        presented = subject.presented(case, method)
        assert [tuple(tensor.shape) for name, tensor in presented.weights.items() if "/" in name] == shapes
        assert presented.skeleton.parameters == case.skeleton.parameters
        assert presented.loss(presented.weights) == case.loss(case.weights)
    assert set(PRESENTED[network]) == set(subject.presentations)


PRESENTED: dict[str, dict[str, list[tuple[int, ...]]]] = {
    "encoder": {"q, k, v apart": [(32, 32)] * 6, "q, k, v apart by head": [(8, 32)] * 24},
    "gpt": {"q, k, v apart": [(64, 64)] * 3, "q, k, v apart by head": [(64, 16)] * 12},
    "lstm": {"gates apart": [*[(48, 8)] * 4, *[(48, 48)] * 12]},
    "convnet": {
        "out·in × k²": [(512, 25), (1024, 9)],
        "out·k × in·k": [(160, 80), (96, 96)],
        "in × out·k²": [(16, 800), (32, 288)],
    },
    "separable": {"out·k × in·k": [(80, 5), (160, 80), (96, 96)]},
    "adapter": {"q, k, v apart": [(32, 32)] * 6},
}


def test_a_presentation_is_measured_in_bits_of_the_whole_and_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foldings, "BUDGET", 30)
    case = replace(RECIPES["lstm"], steps=3).trained("lstm", 0)
    for method in (foldings.AS_IT_IS, foldings.ALL_DENSE):
        row = foldings.measure(foldings.SUBJECTS["lstm"].presented(case, method), method, 0.1, 0)
        assert row["within"]
        assert 0 <= row["bits_of_presented"] <= row["bits"]


def test_separable_kernels_are_multiplied_out_exactly() -> None:
    torch.manual_seed(0)
    network = separable()
    images = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(multiplied_out(network)(images), network(images))


def test_structure_is_left_to_the_search_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of one network differ only in what the search may do."""
    monkeypatch.setattr(foldings, "BUDGET", 100)
    case = replace(RECIPES["separable"], steps=60).trained("separable", 0)
    subject = foldings.SUBJECTS["separable"]
    found = {
        method: foldings.measure(subject.presented(case, method), method, 0.1, 0)
        for method in (foldings.AS_IT_IS, foldings.LAID_OUT)
    }
    assert found[foldings.LAID_OUT]["bits"] < found[foldings.AS_IT_IS]["bits"]


def test_foldings_are_told_as_geometric_means_over_networks() -> None:
    rows = [
        {"case": f"net/{number}", "eps": 0.1, "method": method, "seed": 0, "bits": bits, "bits_of_presented": bits / 4}
        for number in range(2)
        for method, bits in (("apart", 2000 * 4**number), ("as it is", 4000))
    ]
    content = {"rows": rows, "settings": {"eps": [0.1]}, "cases": {"net/0": {"parameters": 12345}}}
    told = report_foldings.foldings(content).splitlines()[-1]
    assert told == "| net | apart | 12,345 | 500 | 25% | 1.00 | 1.00 ± 0.69 | 1.00 |"


def test_every_recorded_folding_is_within_its_bound() -> None:
    content = comparison.read(comparison.RESULTS / "foldings.json")
    assert all(row["within"] and row["distortion"] <= row["eps"] for row in content["rows"])
    searches = {(row["case"], row["method"]) for row in content["rows"]}
    methods = {name: kind.methods for name, kind in foldings.SUBJECTS.items()}
    trained = range(content["settings"]["trained"])
    assert searches == {(f"{name}/{number}", method) for name in methods for number in trained for method in methods[name]}


def test_a_growing_network_has_the_size_that_it_is_named_for() -> None:
    weights = scale.network("1M")
    assert weights["lm_head.weight"] is weights["wte.weight"]
    assert sum(tensor.numel() for name, tensor in weights.items() if name != "lm_head.weight") == pytest.approx(1e6, rel=0.1)
    loss = scale.loss_of(weights)
    assert float(loss(weights)) == 0
    assert float(loss({name: torch.zeros_like(tensor) for name, tensor in weights.items()})) == pytest.approx(1)


def test_what_a_wrapped_function_calls_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Work:
        def outer(self) -> None:
            self.inner()

        def inner(self) -> None:
            pass

    ticks = iter([0.0, 1.0, 4.0, 10.0])
    monkeypatch.setattr(scale.time, "perf_counter", lambda: next(ticks))
    watch = scale.Stopwatch()
    watch.wrap(Work, "outer", "coding")
    watch.wrap(Work, "inner", "decoding")
    Work().outer()
    assert watch.seconds == {"coding": 7.0, "decoding": 3.0}


def test_the_projection_is_the_formula_of_the_largest_row() -> None:
    seconds = {"seconds": 100.0, "loss_seconds": 10.0, "decomposition_seconds": 30.0}
    row = {"case": "125M", "method": "tight", "parameters": 10**8, "evaluations": 30, "peak_bytes": 5 * 10**8, **seconds}
    found = report_scale.constants({"rows": [row, {**row, "parameters": 10, "case": "1M"}]})
    assert found == {"parameters": 10**8, "a": pytest.approx(2e-8), "d": pytest.approx(30 / 768e8), "m": 5.0}


def test_the_table_of_convergence_has_spreads_and_ratios() -> None:
    key = {"network": "perceptron", "distortion": "kl", "eps": 0.01}
    default = [
        {**key, "effort": "default", "seed": seed, "bits": bits, "cpu_seconds": 2.0} for seed, bits in enumerate((800, 1250))
    ]
    others = [
        {**key, "effort": effort, "seed": 0, "bits": bits}
        for effort, bits in (("400", 1600), ("quarter", 1200), ("four times", 720))
    ]
    lines = report_convergence.convergence({"rows": default + others}).splitlines()
    spread = math.log(1250 / 800) / math.sqrt(2)
    assert lines[2] == f"| perceptron | kl | 0.01 | 1,000 | {spread:.3f} | 2.00 | 1.50 | 0.90 | 2 |"
    assert lines[3].endswith("| 2.00 | 1.50 | 0.90 |  |")


@pytest.mark.parametrize("case", convergence.CASES)
def test_the_cases_of_convergence_can_be_measured(case) -> None:
    """Untrained networks of the same kinds, by a search that ends at once: the losses and divergences fit the networks."""
    given = trained.untrained(case.network)
    loss = given.loss if case.distortion == "loss" else given.divergence
    assert estimate(given.network, loss, 10.0, method="quantize", budget=4).bits >= 0
