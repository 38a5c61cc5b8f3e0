"""A run whose objective reads another one looks for it before it prepares anything."""

import pytest

from mlx_transformers.assembly import run_data
from mlx_transformers.core.errors import RecipeError

from . import tiny


@pytest.mark.parametrize(("kind", "role"), [("distill", "teacher"), ("dpo", "reference")])
def test_a_missing_teacher_or_reference_is_named_first(tmp_path, monkeypatch, kind, role):
    def never(*arguments, **options):
        raise AssertionError("the data was prepared first")

    monkeypatch.setattr(run_data, "prepare", never)
    sets = (f"objective.kind='{kind}'", f"objective.{role}='gone'")
    if kind == "dpo":
        sets = (*sets, "data.batch.kind='preferences'")
    with pytest.raises(RecipeError, match=rf"objective\.{role} = 'gone': There is no run"):
        tiny.run(tmp_path, *sets, name="a")
