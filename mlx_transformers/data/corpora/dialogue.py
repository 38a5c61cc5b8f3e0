"""Conversations between two people."""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from .records import PackagedCorpus, Row, one_line, package

PACKAGE = package(
    "chitchat-dataset", "0.9.0", "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e"
)
PRIVATE = re.compile(r"\S+@\S+\.\S+|\b\d{3}[ .-]?\d{3}[ .-]?\d{4}\b")
"""Addresses and telephone numbers."""
TURNS = 8
"""Turns of a row."""


class Dialogue(PackagedCorpus):
    """Chats of two people (`messages`): who began is the user, the other one the assistant.

    Chats of at least six turns with four words each on average, without addresses and telephone
    numbers, in parts of eight turns; parts of a chat stay on one side of a split.
    """

    name = "dialogue"
    licence = "MIT"
    attribution = "chitchat-dataset, (c) Will Myers"
    size = "2.9 thousand chats, 8.1 MB to download"
    packages = (PACKAGE,)
    content = "c3156b11989d613a978025d2d15078c4bc8d3191a4619ddd3e02621665a9aa56"

    def rows(self) -> Iterator[Row]:
        (data,) = PACKAGE.read("chitchat_dataset/dataset.json").values()
        for name, chat in json.loads(data).items():
            turns = _turns(chat)
            n_words = sum(len(turn["content"].split()) for turn in turns)
            text = "\n".join(turn["content"] for turn in turns)
            if len(turns) < 6 or n_words < 4 * len(turns) or PRIVATE.search(text):
                continue
            for at in range(0, len(turns) - 1, TURNS):
                part = turns[at : at + TURNS]
                yield {
                    "messages": part,
                    "chat": name,
                    "text": "\n".join(turn["content"] for turn in part),
                }

    def group(self, row: Row) -> str | None:
        return str(row["chat"])


def _turns(chat: dict[str, Any]) -> list[dict[str, str]]:
    """The turns of a chat, neighbours of one sender joined."""
    messages_of_chat = [message for block in chat["messages"] for message in block]
    turns = []
    for i, (_, messages) in enumerate(
        groupby(messages_of_chat, key=lambda message: message["sender"])
    ):
        content = one_line(" ".join(message["text"] for message in messages))
        turns.append({"role": "assistant" if i % 2 else "user", "content": content})
    return turns
