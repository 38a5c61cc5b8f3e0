"""How sentence-transformers says that a text becomes one vector."""

import json
from pathlib import Path

import pytest

from mlx_transformers.convert.sentence_transformers import sentence_pool
from mlx_transformers.core.errors import ConvertError

NAMES = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize", "Dense": "2_Dense"}


def write(folder: Path, modules: list[str], pooling: dict[str, object]) -> Path:
    listed = [{"type": f"sentence_transformers.models.{n}", "path": NAMES[n]} for n in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def test_a_folder_without_modules_has_no_pool(tmp_path: Path) -> None:
    assert sentence_pool(tmp_path) is None


def test_mean_pooling_and_a_length_of_one(tmp_path: Path) -> None:
    told = {
        "word_embedding_dimension": 384,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
    }
    folder = write(tmp_path, ["Transformer", "Pooling", "Normalize"], told)
    assert sentence_pool(folder) == {"kind": "sentence", "reads": "mean", "normalize": True}


def test_the_first_token_as_it_is(tmp_path: Path) -> None:
    folder = write(tmp_path, ["Transformer", "Pooling"], {"pooling_mode_cls_token": True})
    assert sentence_pool(folder) == {"kind": "sentence", "reads": "first", "normalize": False}


@pytest.mark.parametrize(
    ("modules", "pooling", "said"),
    [
        (["Transformer", "Pooling", "Dense"], {"pooling_mode_mean_tokens": True}, "Dense"),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        (["Transformer", "Pooling"], {}, "chooses 0 poolings"),
        (
            ["Transformer", "Pooling"],
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            "chooses 2 poolings",
        ),
        (["Transformer"], {}, "has no Pooling"),
    ],
)
def test_what_is_not_built_is_named(
    tmp_path: Path, modules: list[str], pooling: dict[str, object], said: str
) -> None:
    with pytest.raises(ConvertError, match=said):
        sentence_pool(write(tmp_path, modules, pooling))
