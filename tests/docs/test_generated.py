"""What tools/docs.py puts into the marked regions of a page."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .pages import ROOT

RUNG = {
    "recipe": "base_tiny",
    "parameters": 1_055_232,
    "active_parameters": 1_055_232,
    "tokens": 3_072_000,
    "val_loss": 3.9,
    "val_bpb": 2.25,
    "delta_bpb": None,
    "tokens_per_s": 9000.0,
    "peak_gib": 0.14,
    "decode_tokens_per_s": 700.0,
    "cache_bytes_per_token": 4096.0,
    "seconds": 300.0,
}


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tool, its docs in a folder of the test."""
    spec = importlib.util.spec_from_file_location("docs_tool", ROOT / "tools" / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DOCS", tmp_path)
    return module


def climbed(folder: Path, delta: float) -> None:
    above = RUNG | {"recipe": "gpt2_tiny", "val_bpb": 2.25 + delta, "delta_bpb": delta}
    (folder / "ladder.json").write_text(json.dumps([RUNG, above]))


def test_a_region_is_made_anew_and_the_rest_of_the_page_stays(tool: Any) -> None:
    page = ROOT / "docs" / "page.md"
    text = "Before.\n<!-- begin recipe mistral_tiny -->\nold\n<!-- end recipe -->\nAfter.\n"
    made = tool.filled(page, text)
    recipe = (ROOT / "recipes" / "mistral_tiny.toml").read_text().rstrip()
    assert f"```toml\n{recipe}\n```" in made
    assert "(../recipes/mistral_tiny.toml)" in made
    assert "old" not in made
    assert made.startswith("Before.\n<!-- begin recipe mistral_tiny -->\n")
    assert made.endswith("<!-- end recipe -->\nAfter.\n")
    assert tool.filled(page, made) == made


def test_an_unknown_region_is_an_error(tool: Any) -> None:
    with pytest.raises(KeyError, match="unknown region 'receipt'"):
        tool.filled(Path("page.md"), "<!-- begin receipt -->\n<!-- end receipt -->")


@pytest.mark.parametrize(
    ("delta", "said"),
    [
        (-0.125, "-0.125 bits per byte against its parent: better."),
        (0.05, "+0.050 bits per byte against its parent: worse at this size and budget."),
        (0.012, "+0.012 bits per byte against its parent: no difference that one seed can show."),
    ],
)
def test_an_effect_is_told_with_its_sign(tool: Any, tmp_path: Path, delta: float, said: str):
    climbed(tmp_path, delta)
    text = tool.effect_region(tmp_path / "phases" / "gpt2.md", "gpt2_tiny")
    assert text.startswith("After 3.1 million tokens, ")
    assert said in text
    assert f"| {2.25 + delta:.3f} | {delta:+.3f} |" in text
    assert "| base_tiny |" in text


def test_without_numbers_a_page_says_how_to_make_them(tool: Any, tmp_path: Path) -> None:
    text = tool.effect_region(tmp_path / "phases" / "gpt2.md", "gpt2_tiny")
    assert "`mlxt ladder recipes/mixtral_tiny.toml`" in text
    assert "(../ladder.md)" in text
    assert "ladder.json" in tool.ladder_region(tmp_path / "ladder.md", "")
    climbed(tmp_path, -0.1)
    assert "| gpt2_tiny |" in tool.ladder_region(tmp_path / "ladder.md", "")
