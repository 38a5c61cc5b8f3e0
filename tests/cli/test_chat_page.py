"""From a conversation in a browser to DPO: the file of choices trains as the page wrote it."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER, opened

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")

from mlx_transformers import load  # noqa: E402
from mlx_transformers.chat.assistant import Assistant, Piece, Request  # noqa: E402
from mlx_transformers.chat.chat_format import ChatFormat  # noqa: E402
from mlx_transformers.chat.toolbox import Toolbox  # noqa: E402
from mlx_transformers.core.errors import RunError  # noqa: E402
from mlx_transformers.data.chat_template import CHATML, ChatTemplate  # noqa: E402
from mlx_transformers.serve import page as served_page  # noqa: E402
from mlx_transformers.serve.app import Limits, application  # noqa: E402
from mlx_transformers.serve.run import bound  # noqa: E402
from mlx_transformers.serve.worker import Worker  # noqa: E402

from .conftest import Mlxt  # noqa: E402

HOSTILE = "<img src=x onerror=\"document.body.dataset.broken='yes'\">"
ANSWERS = (f"one {HOSTILE}", f"two {HOSTILE}")
VISIT = """<script>
const found = name => [...document.querySelectorAll("button")].filter(b => b.textContent === name);
// The browser's clock stands still for a request, and otherwise runs ahead of a slow server.
const later = () => fetch(location).then(() => new Promise(go => setTimeout(go, 50)));
const count = async (name, n) => {
  while (found(name).length < n) await later();
};
(async () => {
  for (const n of [1, 2]) {
    input.value = QUESTION;
    $("form").requestSubmit();
    await count("This one is better", 2);
    found("This one is better")[0].click();
    await count("Chosen", n);
  }
  input.value = "fail";
  $("form").requestSubmit();
  while (!input.value || running) await later();
  document.body.dataset.kept = `${input.value}, ${document.querySelectorAll(".user").length}`;
  document.body.dataset.held = "yes";
})();
</script>"""
"""What a visitor does: asks twice, and chooses the first of two answers each time; then asks what
has no answer."""


class Writer(Assistant):
    """Writes one of two answers, by the seed."""

    def stream(self, request: Request) -> Iterator[Piece]:
        if "fail" in self.tokenizer.decode(list(request.tokens)):
            raise RunError("There is no answer.")
        yield Piece(ANSWERS[request.seed % 2])
        yield Piece("", end="end token", n_tokens=2)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_a_choice_in_the_browser_is_trained_on(
    mlxt: Mlxt, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ("data.tokenizer.kind=byte", "model.max_seq_len=512", "train.steps=1")
    sets = [word for each in small for word in ("--set", each)]
    assert mlxt("train", "tiny", "--name", "talker", *sets).code == 0
    visited = home / "visited.html"
    question = json.dumps(HOSTILE).replace("<", "\\u003c")
    visited.write_text(served_page.PAGE.read_text() + VISIT.replace("QUESTION", question))
    monkeypatch.setattr(served_page, "PAGE", visited)

    def talker() -> tuple[Any, Any, str]:
        model, tokenizer = load("runs/talker")
        form = ChatFormat(ChatTemplate(CHATML), tokenizer)
        return Writer(model, tokenizer, form), Toolbox(()), "talker"

    worker, limits, choices = Worker(talker, 2), Limits(), home / "preferences.jsonl"
    pages = served_page.Page(worker, Request((), 8), limits, choices).routes()
    with bound("127.0.0.1", 0) as listening:
        app = application(worker, limits, more=pages)
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            shown, said = opened(
                f"http://127.0.0.1:{listening.getsockname()[1]}",
                home / "browser",
                "--dump-dom",
                "--virtual-time-budget=60000",
            )
        finally:
            server.should_exit = True
            thread.join()
            worker.close(5)
    assert said == []
    assert 'data-held="yes"' in shown
    assert 'data-kept="fail, 2"' in shown, "the message goes back to where it was typed"
    assert "data-broken" not in shown.partition("<script>")[0]
    rows = [json.loads(line) for line in choices.read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert {row["chosen"], row["rejected"]} == {f"{each}<|im_end|>" for each in ANSWERS}
    wanted = ("objective.kind=dpo", "objective.reference=talker", "data.batch.kind=preferences")
    wanted += ("data.batch.special_tokens=true", "data.split=tail", "train.seq_len=512")
    sets = [word for each in wanted for word in ("--set", each)]
    tuned = mlxt(
        *("finetune", "talker", "runs/talker/recipe.toml", "--data", str(choices)),
        *("--name", "better", "--steps", "1", *sets),
    )
    assert tuned.code == 0, tuned.err
    lines = [json.loads(line) for line in (home / "runs/better/log.jsonl").read_text().splitlines()]
    assert lines[-1]["val_margin"] > 0, "training moved the policy towards what was chosen"
