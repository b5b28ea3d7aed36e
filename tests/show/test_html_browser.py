"""The page in a browser: links that choose a checkpoint, a table that sorts, and no sideways scrolling on a phone."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nncomplexity.show import page, read_results
from tests.rows import failed, report, row, write_rows

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=3000",
]  # fmt: skip
NO_SCRIPTS = "sandbox='allow-same-origin'"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the path")

# The script acts like a reader, and then notes what the page shows.
ACTS = """
<script>
  const slider = document.getElementById("eps");
  document.querySelectorAll("#layers-table thead button")[1].click();
  slider.value = 0;
  slider.dispatchEvent(new Event("input"));
  const chart = document.querySelector("figure.on .wide svg");
  chart.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  chart.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  document.body.dataset.read = chart.closest("figure").querySelector(".readout").textContent;
  chart.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  document.body.dataset.hash = location.hash;
</script>"""


def dom(path: Path, folder: Path, *flags: str, address: str = "") -> str:
    """The page's HTML after its scripts have run."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--dump-dom", f"file://{path}{address}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def shown_eps(text: str) -> list[str]:
    return re.findall(r'<figure class="(?:alt )?on" data-eps="([^"]+)"', text)


def layers(text: str) -> list[tuple[str, str]]:
    body = text.split("<tbody>")[1].split("</tbody>")[0]
    return [
        (re.sub(r"<[^>]+>", "", name), bits) for name, bits in re.findall(r'<th scope="row">(.*?)</th><td[^>]*>([\d,]+)</td>', body)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = [row(step, scale=scale, llc=30 * scale, llc_error=scale) for step, scale in ((0, 1.0), (10, 9.0), (100, 2.0))]
    for one in rows:
        for eps in ("1", "0.1"):
            for share, layer in enumerate(one[f"layers@{eps}"], start=1):
                layer["bits"] = one[f"bits@{eps}"] / 10 * (4 - abs(2 - share))
                layer["name"] += f" of <b>{one['step']}</b>"
    path = tmp_path / "page.html"
    path.write_text(page(read_results(write_rows(tmp_path / "one.jsonl", [*rows, failed()]))), encoding="utf-8")
    return path


def test_an_address_chooses_eps_checkpoint_and_order(path: Path, tmp_path: Path) -> None:
    text = dom(path, tmp_path, address="#eps=1&step=10&sort=-bits")
    assert shown_eps(text) == ["1", "1"]
    assert "<b>900</b>" in text
    assert "step 10</span> within ε = " in text
    assert [bits for _, bits in layers(text)] == ["2,160", "2,160", "2,880"]
    assert '<th scope="col" class="" aria-sort="ascending"><button type="button">bits</button>' in text
    assert layers(text)[0][0] == "embed.weight of &lt;b&gt;10&lt;/b&gt;"
    assert "Not vacuous</strong>" in text


def test_slider_headers_and_keys_work(path: Path, tmp_path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{ACTS}</body>"), encoding="utf-8")
    text = dom(path, tmp_path)
    assert 'data-hash="#eps=1&amp;step=10&amp;sort=bits"' in text
    assert 'data-read="training step 10ε = 1900 bytestrain1test0.75"' in text
    assert [bits for _, bits in layers(text)] == ["2,880", "2,160", "2,160"]
    assert shown_eps(text) == ["1", "1"]
    assert 'aria-valuetext="ε = 1"' in text
    assert re.search(r'class="verdict">Within ε = 1, complexity rose to 900 bytes', text)


def framed(folder: Path, width: int, wanted: str, sandbox: str = "") -> Any:
    """The result of the script `wanted` in the page's document, shown in a frame of this width."""
    note = f"document.body.dataset.found = JSON.stringify((page => {wanted})(this.contentDocument))"
    frame = folder / "frame.html"
    frame.write_text(
        f'<body><iframe {sandbox} src="page.html" style="width:{width}px;height:900px;border:0" onload="{note}"></iframe></body>',
        encoding="utf-8",
    )
    text = dom(frame, folder, "--allow-file-access-from-files", "--window-size=1400,1000")
    found = re.search(r'data-found="([^"]*)"', text)
    assert found, text
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", [360, 1200])
def test_a_page_is_no_wider_than_its_window(path: Path, tmp_path: Path, width: int) -> None:
    root = "page.documentElement"
    assert framed(path.parent, width, f"{root}.scrollWidth - {root}.clientWidth") == 0


OUTSIDE = """[...page.querySelectorAll('svg.chart text')].filter(text => {
        const own = text.getBoundingClientRect(), all = text.closest('svg').getBoundingClientRect();
        return own.width > 0 && (own.left < all.left - 1 || own.right > all.right + 1 || own.bottom > all.bottom + 1 || own.top < all.top - 1);
    }).map(text => text.textContent)"""


def test_text_in_charts_is_not_cut(path: Path, tmp_path: Path) -> None:
    assert [framed(path.parent, width, OUTSIDE) for width in (360, 1200)] == [[], []]


def test_the_last_label_is_not_cut_on_a_phone(path: Path, tmp_path: Path) -> None:
    found = report(eps=(10.0, 1.0, 0.1, 0.01))
    for result, distortion in zip(found["results"], (1.9999e-4, 1.3e-4, 6e-5, 3e-5), strict=True):
        result["distortion"] = distortion / 1.2995  # a label is at the end of the axis
    (tmp_path / "curve.json").write_text(json.dumps(found), encoding="utf-8")
    path.write_text(page(read_results(tmp_path / "curve.json")), encoding="utf-8")
    assert framed(path.parent, 360, OUTSIDE) == []


def test_without_scripts_the_figures_are_seen(path: Path, tmp_path: Path) -> None:
    seen = "[...page.querySelectorAll('figure')].filter(one => one.offsetHeight > 100).map(one => one.dataset.eps || '')"
    assert framed(path.parent, 800, seen, NO_SCRIPTS) == ["1", "0.1", "", "0.1", "", "", ""]
    assert framed(path.parent, 800, seen) == ["0.1", "", "0.1", "", "", ""]
    controls = "page.getElementById('controls').offsetHeight > 0"
    assert [framed(path.parent, 800, controls, sandbox) for sandbox in (NO_SCRIPTS, "")] == [False, True]
