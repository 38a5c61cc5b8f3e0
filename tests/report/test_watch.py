"""The page that follows runs: what it reads, whom it answers, and that it goes on."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER, opened

from mlx_transformers.core.errors import RunError
from mlx_transformers.report.watch import Watched, open_server

from .conftest import MakeRun


@contextmanager
def served(names: list[str], root: Path) -> Iterator[str]:
    with open_server(names, root, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def get(address: str, **headers: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return json.loads(answer.read())


def test_a_run_is_followed_as_its_log_grows_is_cut_and_begins_again(
    make_run: MakeRun, tmp_path: Path
) -> None:
    log = make_run("a") / "log.jsonl"
    whole = log.read_text()
    watched = Watched([], tmp_path / "runs")
    before = watched.snapshot()
    seen = before["runs"][0]
    assert (seen["name"], seen["step"], seen["steps"]) == ("a", 40, 40)
    assert seen["figures"]["Loss"]["training"][0] == (10, 4.0)
    assert "validation" in seen["figures"]["Loss"]
    log.write_text(whole + json.dumps({"step": 50, "tokens": 5000, "train_loss": 0.5}) + '\n{"st')
    grown = watched.snapshot()
    assert grown["version"] != before["version"]
    assert grown["runs"][0]["step"] == 50
    log.unlink()
    assert watched.snapshot()["runs"][0]["step"] == 0
    log.write_text(whole)
    assert watched.snapshot()["runs"][0]["step"] == 40
    make_run("b")
    assert {run["name"] for run in watched.snapshot()["runs"]} == {"a", "b"}


def test_it_answers_this_machine_alone(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("a")
    with served(["a"], tmp_path / "runs") as address:
        assert get(f"{address}/data")["runs"][0]["name"] == "a"
        for place, headers, status in (
            ("/data", {"Host": "evil.example"}, 403),
            ("/data", {"Host": "["}, 403),
            ("/../recipe.toml", {}, 404),
        ):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(address + place, **headers)
            assert refused.value.code == status
            refused.value.close()
        port = int(address.rpartition(":")[2])
        with pytest.raises(RunError, match="another --port"):
            open_server(["a"], tmp_path / "runs", port)
    with pytest.raises(RunError, match="There is no run 'c'"):
        open_server(["c"], tmp_path / "runs", 0)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file is no folder"):
        open_server([], tmp_path / "file", 0)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_browser_draws_the_curves(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("<b>bold")
    alone = {"tokens": 1, "tokens_per_s": 13384.0, "train_accuracy": 0.5}
    make_run("b", records=[{"step": step} | alone for step in (1, 2)])
    with served([], tmp_path / "runs") as address:
        shown, said = opened(
            address, tmp_path / "browser", "--dump-dom", "--virtual-time-budget=3000"
        )
    assert said == []
    assert 'data-ready="true"' in shown
    assert 'aria-label="Loss by step: &lt;b&gt;bold training' in shown
    assert 'aria-label="Accuracy by step: b training 0.5"' in shown  # though no other has it
    assert "13.4K" in shown
    assert "&lt;b&gt;bold" in shown
