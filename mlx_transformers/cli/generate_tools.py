"""`mlxt generate --tools`: each prompt is a message, and the model may call tools."""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.errors import RunError
from .chat import show_answer

if TYPE_CHECKING:
    from ..decode.sample import Sampling


def generate_with_tools(
    run: str | None,
    texts: list[str],
    drawing: "tuple[int, Sampling, int, list[str] | None]",
    samples: int,
    set: list[str] | None,
    as_json: bool,
) -> None:
    """Print the answer to each text, a message of the user; calls of tools go to standard error.

    Args:
        run: the run's name or folder; None takes the newest run.
        texts: the messages, each the first of a conversation of its own.
        drawing: the most tokens of a turn, the sampling, the seed and the stop texts; sample s of
            text p has the same seed as in `generate_batch`.
        samples: answers to each text.
        set: "path=value" strings that change `[tools]`.
        as_json: whether to print a line of JSON for each answer: prompt, sample, text, calls.

    Raises:
        RunError: there is no tool, or the run's chat template writes no calls.
    """
    from ..chat.assistant import Request
    from ..chat.conversation import Conversation
    from ..verbs.chat import open_assistant

    assistant, toolbox, name = open_assistant(run, set=set or [])
    if not toolbox:
        raise RunError(
            f"{name} has no tools, so --tools has no effect: add one with --set "
            "tools.calculator=true or --set tools.retrieval.folder=FOLDER, or leave it out."
        )
    max_tokens, sampling, seed, stop = drawing
    options = Request((), max_tokens, sampling, seed, tuple(stop or ()))
    single = len(texts) * samples == 1
    for p, text in enumerate(texts):
        for s in range(samples):
            request = replace(options, seed=options.seed + p * samples + s)
            answer = Conversation(assistant, request, toolbox=toolbox).ask(text)
            if as_json:
                print(json.dumps(_row(text, s + 1, list(answer)), ensure_ascii=False))
                continue
            if not single:
                sample = f", sample {s + 1}" if samples > 1 else ""
                print(f"--- prompt {p + 1}{sample} ---")
            show_answer(answer)


def _row(prompt: str, sample: int, turns: list[Any]) -> dict[str, Any]:
    """The line of JSON of an answer."""
    calls = [
        {"name": turn.call.name, "arguments": dict(turn.call.arguments), "result": turn.result}
        for turn in turns
        if turn.call is not None
    ]
    text = "".join(turn.text for turn in turns)
    return {"prompt": prompt, "sample": sample, "text": text, "calls": calls}
