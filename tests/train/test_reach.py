"""The warning of a window, stride or number of landmarks beyond the rows of training."""

from pathlib import Path

import pytest

from mlx_transformers import load_recipe
from mlx_transformers.assembly.checks import check_reach

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("mistral_tiny", "window"),
        ("efficient/sparse_transformer_tiny", "stride"),
        ("efficient/nystromformer_tiny", "n_landmarks"),
    ],
)
def test_a_reach_beyond_the_rows_is_warned_of(name: str, field: str) -> None:
    sets = ["train.seq_len=128", "model.max_seq_len=128"]
    longest = load_recipe(RECIPES / f"{name}.toml", [*sets, f"model.block.mixer.{field}=128"])
    assert check_reach(longest) is None
    beyond = load_recipe(RECIPES / f"{name}.toml", [*sets, f"model.block.mixer.{field}=129"])
    assert f"mixer.{field} = 129 of kind" in (check_reach(beyond) or "")
    assert "the 128 tokens of a row" in (check_reach(beyond) or "")
