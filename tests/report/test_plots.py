"""Plots show what they are given."""

from pathlib import Path

import pytest

from mlx_transformers.report.plot import alignment, group_curves, measure_curves

pytest.importorskip("matplotlib")


def test_an_alignment_is_drawn_with_the_tokens_of_both_sides(tmp_path: Path) -> None:
    weights = [[0.9, 0.1, 0.0], [0.0, 0.2, 0.8]]
    path = alignment(weights, ["le", "chat", "noir"], ["black", "cat"], tmp_path / "a.svg")
    text = path.read_text()
    assert "<image" in text
    for token in ("le", "chat", "noir", "black", "cat"):
        assert f"<!-- {token} -->" in text


def test_curves_have_a_line_and_a_name_for_each_model(tmp_path: Path) -> None:
    curves = {"with": {3: 0.9, 5: 0.8}, "without": {3: 0.9, 5: 0.4}}
    text = measure_curves(
        curves, tmp_path / "c.svg", "tokens of the source", "share right"
    ).read_text()
    for name in ("with", "without", "share right", "tokens of the source"):
        assert f"<!-- {name} -->" in text


def test_curves_of_groups_name_groups_and_models(tmp_path: Path) -> None:
    curves = {"with": [(9.0, 8.0, 10.0), (8.0, 6.0, 9.0)], "without": [(7.0, 6.0, 8.0)] * 2}
    text = group_curves(curves, ["1 to 4", "5 or more"], tmp_path / "g.svg", "BLEU").read_text()
    for name in ("with", "without", "1 to 4", "5 or more", "BLEU", "words of the source"):
        assert f"<!-- {name} -->" in text


def test_an_svg_follows_a_light_or_a_dark_ground_and_is_the_same_each_time(tmp_path: Path) -> None:
    curves = {"one": {1: 0.5, 2: 0.4}}
    text = measure_curves(curves, tmp_path / "a.svg", "tokens", "share").read_text()
    assert "prefers-color-scheme: dark" in text
    assert "stroke: var(--series-0)" in text
    assert "#000000" not in text.split("</style>", 1)[1]
    assert text == measure_curves(curves, tmp_path / "b.svg", "tokens", "share").read_text()
