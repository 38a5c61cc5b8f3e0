"""Measures tools: questions answered in a conversation, without the tools and with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...chat.assistant import Assistant, Request
from ...chat.conversation import Conversation
from ...chat.toolbox import Toolbox
from ...core.errors import RunError
from ...decode.sample import Sampling
from ...score.interval import Score, mean
from ..chat import open_assistant
from .question import NORMALISED, Question, read_plain_questions


@dataclass(frozen=True)
class ToolUse:
    """Accuracy with or without tools.

    Attributes:
        tools: whether the model was offered the tools of `[tools]`.
        accuracy: share of questions whose final answer is the right one.
        called: share of questions for which a tool was called.
    """

    tools: bool
    accuracy: Score
    called: float


def with_and_without_tools(
    run: str | Path | None,
    file: Path,
    *,
    limit: int | None = None,
    max_tokens: int = 256,
    set: Sequence[str] = (),
) -> list[ToolUse]:
    """Ask each question of a file in a conversation of its own, without tools and with those of
    `[tools]`; the most probable answers are taken.

    Args:
        run: a run's name or folder, or a checkpoint's; None takes the newest run.
        file: the questions, as `read_plain_questions` takes them.
        limit: how many questions are asked; None asks all.
        max_tokens: the most tokens of a turn of the model.
        set: "path=value" strings that change `[tools]`.

    Raises:
        MlxtError: as `open_assistant` and `read_plain_questions`, or there is no tool.
    """
    questions = read_plain_questions(file)[:limit]
    assistant, toolbox, name = open_assistant(run, set=set)
    if not toolbox:
        raise RunError(
            f"{name} has no tools to measure: add one with --set tools.calculator=true or --set "
            "tools.retrieval.folder=FOLDER."
        )
    return [_measured(assistant, box, questions, max_tokens) for box in (Toolbox(()), toolbox)]


def _measured(
    assistant: Assistant, toolbox: Toolbox, questions: Sequence[Question], max_tokens: int
) -> ToolUse:
    options = Request((), max_tokens, Sampling(0.0))
    right, called = [], []
    for question in questions:
        conversation = Conversation(assistant, options, toolbox=toolbox)
        events = list(conversation.ask(question.text))
        answer = str(conversation.messages[-1]["content"])
        right.append(NORMALISED.same(answer.strip(), question.answer))
        called.append(any(event.call is not None for event in events))
    accuracy = mean("accuracy", np.array(right, dtype=np.float64))
    return ToolUse(bool(toolbox), accuracy, float(np.mean(called)))
