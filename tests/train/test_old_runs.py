"""Runs that older code wrote open today: they are measured, write and go on as they did then.

`tools/old_runs.py` makes them, of each kind of file on disk, and never makes one again. The next
step of `spans` was noted anew when attention dropout came to be drawn block by block: same run,
other noise.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_transformers.verbs.evaluate import evaluate

OLD = Path(__file__).parents[1] / "old_runs"
EXPECTED: dict[str, dict[str, Any]] = json.loads((OLD / "expected.json").read_text("utf-8"))
TOLERANCE = {"half": 2e-3}
"""Relative differences that other machines may have, where half precision makes them larger."""
USUAL = 1e-4


@pytest.fixture
def tool(load_tool: Callable[[str], Any], tmp_path: Path) -> Iterator[Any]:
    """The tool that made the runs, and its texts in the current folder."""
    module = load_tool("old_runs")
    module.data(tmp_path)
    mx.disable_compile()
    yield module
    mx.enable_compile()


@pytest.mark.parametrize("name", EXPECTED)
def test_an_old_run_is_measured_writes_and_goes_on(tool: Any, name: str) -> None:
    run = Path("runs", name)
    shutil.copytree(OLD / name, run)
    close = TOLERANCE.get(name, USUAL)
    if name != tool.IMPORTED:
        _, values = evaluate(run / "checkpoints" / "last", batches=2)
        assert values["val_loss"] == pytest.approx(EXPECTED[name]["val_loss"], rel=close)
    assert tool.given(name) == {
        key: value if isinstance(value, str) else pytest.approx(value, rel=close)
        for key, value in EXPECTED[name].items()
    }


def test_every_kind_of_file_on_disk_has_an_old_run(tool: Any) -> None:
    assert {path.name for path in OLD.iterdir() if path.is_dir()} == set(tool.NAMES)
    assert set(EXPECTED) == set(tool.NAMES)
    stems = {path.stem for path in OLD.rglob("*.safetensors")}
    assert stems == {"model", "optimizer", "ema", "scaler", "carry"}
