"""The pages in a real browser, where there is one: nothing to complain of, nothing cut off."""

from pathlib import Path

import pytest
from browser import BROWSER, PHONE, asked, browse

from mlx_transformers.profile.sweep import Axis, Cell
from mlx_transformers.report.profiles import write_sweep
from mlx_transformers.report.runs import report

from .conftest import MakeRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here"),
]


def pages(make_run: MakeRun, folder: Path) -> list[Path]:
    """A run's report, a comparison, and a sweep."""
    runs = [make_run("narrow"), make_run("wide", dim=32)]
    axes = [Axis("train.dtype", ("float32", "bfloat16")), Axis("train.seq_len", ("8", "16"))]
    settings = [{axes[0].key: a, axes[1].key: b} for a in axes[0].values for b in axes[1].values]
    cells = [Cell(s, 100.0 * i, 1, 2, 0.5, 0.1) for i, s in enumerate(settings)]
    return [
        report(runs[:1]),
        report(runs, folder / "both.html"),
        write_sweep("tiny", axes, cells, "mlxt profile", folder / "sweep.html"),
    ]


def test_a_browser_has_nothing_to_complain_of(make_run: MakeRun, tmp_path: Path) -> None:
    for page in pages(make_run, tmp_path):
        picture = page.with_suffix(".png")
        _, said = browse(page, "--window-size=1280,1600", f"--screenshot={picture}")
        assert said == []
        assert picture.stat().st_size > 20_000


def test_a_complaint_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('planted')</script>")
    assert "planted" in browse(page, "--dump-dom")[1][0]


WIDTH = "f.contentDocument.documentElement.scrollWidth"
OUTSIDE = """[...f.contentDocument.querySelectorAll("svg text")].filter(text => {
    const own = text.getBoundingClientRect(), all = text.closest("svg").getBoundingClientRect()
    return own.left < all.left - 1 || own.right > all.right + 1
}).map(text => text.textContent).join("; ")"""


def test_no_page_is_wider_than_a_phone_and_no_letters_of_a_chart_are_cut_off(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """Wide tables move in boxes of their own."""
    for page in pages(make_run, tmp_path):
        assert "<text" in page.read_text()
        width, outside = asked(page, f"[{WIDTH}, {OUTSIDE}].join(' ')").split(" ", 1)
        assert int(width) <= PHONE
        assert outside == ""
