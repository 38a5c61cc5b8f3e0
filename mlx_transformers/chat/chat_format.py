"""The format of a model's conversations: what its chat template writes, as tokens."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import RunError
from ..data.chat_template import ChatTemplate, Message, TemplateError
from ..data.tokenizers.tokenizer import Tokenizer

GUARD = "\ue000"
"""A private-use character inside special tokens that a message spells out, so they stay text."""
PROBE = "mlxtprobe"
"""A text that no template has of its own, to find where it writes something."""


@dataclass(frozen=True)
class Call:
    """A call of a tool.

    Attributes:
        name: the tool's name.
        arguments: by name, as the model gave them.
    """

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class CallFormat:
    """How the template writes calls of tools.

    Attributes:
        before: the text before a call, "" if calls are bare JSON.
        after: the text after one.
        arguments: the key of the arguments.
    """

    before: str
    after: str
    arguments: str

    def calls(self, answer: str) -> tuple[str, list[Call]]:
        """Split an answer into the text before its calls, and the calls; what isn't a complete call
        stays text."""
        decoder, all_calls, text, at = json.JSONDecoder(), list[Call](), "", 0
        opening = self.before.strip()
        while True:
            start = answer.find(opening, at) if opening else at
            if start < 0:
                break
            body = start + len(opening)
            body += len(answer[body:]) - len(answer[body:].lstrip())
            try:
                value, end = decoder.raw_decode(answer, body)
            except ValueError:
                break
            calls = [self._call(entry) for entry in (value if isinstance(value, list) else [value])]
            if not calls or None in calls:
                break
            text += answer[at:start]
            all_calls += [call for call in calls if call is not None]
            remaining = answer[end:].lstrip()
            closing = self.after.strip()
            at = len(answer) - len(remaining)
            at += len(closing) if closing and remaining.startswith(closing) else 0
            if not opening and at >= len(answer):
                break
        return (text + answer[at:]).strip() if all_calls else answer, all_calls

    def may_begin(self, text: str) -> bool:
        """Whether the end of a text may be, or follow, the beginning of a call."""
        opening = self.before.strip() or "{"
        if opening in text:
            return True
        return any(text.endswith(opening[:n]) for n in range(1, len(opening)))

    def _call(self, value: object) -> Call | None:
        if not isinstance(value, dict) or not isinstance(value.get("name"), str):
            return None
        arguments = value.get(self.arguments, {})
        if isinstance(arguments, str):  # some models write the arguments as a JSON text
            try:
                arguments = json.loads(arguments)
            except ValueError:
                return None
        return Call(value["name"], arguments) if isinstance(arguments, dict) else None


class ChatFormat:
    """Renders conversations with a chat template, and knows where answers and calls end.

    A message that spells a special token out (`<|im_end|>`) is text: only the template's own are
    tokens.

    Attributes:
        stops: texts that end an answer, in the order that the template writes them.
        call_format: how calls of tools are written; None for a template without them.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        """
        Raises:
            RunError: the template writes no conversation of a user and an assistant.
        """
        self.tokenizer = tokenizer
        self._template = template
        try:
            self.stops = self._find_stops()
        except TemplateError as error:
            raise RunError(f"{error} It can't be used for a conversation.") from None
        self.call_format = self._find_calls()

    def text(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> str:
        """Return the text of a conversation that prompts for an answer. Special tokens that
        messages spell out are marked with `GUARD`."""
        guarded = [self._guarded(message) for message in messages]
        return self._template.render(guarded, tools=tools or None, add_generation_prompt=True).text

    def tokens(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> list[int]:
        """Return the tokens of a conversation that prompts for an answer.

        Raises:
            TemplateError: the template refuses the conversation.
            RunError: a message isn't text.
        """
        text = self.text(messages, tools)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RunError("A message is not text: it has bytes that are not UTF-8.") from None
        if GUARD not in text:
            return self.tokenizer.encode_special(text)
        tokens: list[int] = []
        special = sorted(self.tokenizer.special_ids, key=len, reverse=True)
        for number, part in enumerate(re.split(f"({'|'.join(map(re.escape, special))})", text)):
            if number % 2:
                tokens.append(self.tokenizer.special_ids[part])
            elif plain := part.replace(GUARD, ""):
                tokens += self.tokenizer.encode(plain)
        return tokens

    def fit(
        self, messages: Sequence[Message], room: int, tools: Sequence[Any] | None = None
    ) -> tuple[list[int], int]:
        """Return the tokens of a conversation without its oldest turns, as many as have to go for
        it to have at most `room` tokens, and how many messages were left out.

        System messages at the beginning stay, and a turn goes with the answers to it.

        Raises:
            RunError: the last turn alone is too long.
        """
        first = next((i for i, m in enumerate(messages) if m["role"] != "system"), len(messages))
        turns = [i for i in range(first, len(messages)) if messages[i]["role"] == "user"]
        for start in [first, *turns]:
            tokens = self.tokens([*messages[:first], *messages[start:]], tools)
            if len(tokens) <= room:
                return tokens, start - first
        raise RunError(
            f"The last message has {len(tokens):,} tokens with the instructions before it, and the "
            f"model's context has room for {room:,} beside an answer. Shorten it."
        )

    def _guarded(self, value: object) -> Any:
        """A message whose texts can't be read as special tokens."""
        if isinstance(value, str):
            for special in self.tokenizer.special_ids:
                value = value.replace(special, special[:1] + GUARD + special[1:])
            return value
        if isinstance(value, Mapping):
            return {key: self._guarded(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._guarded(inner) for inner in value]
        return value

    def _find_stops(self) -> list[str]:
        """Find the text that the template writes after an answer; none if it is white space."""
        question = [{"role": "user", "content": "a"}]
        rendered = self._template.render([*question, {"role": "assistant", "content": PROBE}]).text
        after = rendered[rendered.rindex(PROBE) + len(PROBE) :] if PROBE in rendered else ""
        # A template without a mark ends an answer where the next message begins.
        more = [{"role": "assistant", "content": PROBE}, {"role": "user", "content": "b" + PROBE}]
        longer = self._template.render([*question, *more]).text
        between = longer.split(PROBE)[1] if longer.count(PROBE) > 1 else ""
        mark = after.strip() or between.rpartition("b")[0].strip()
        special = [text for text in self.tokenizer.special_ids if mark.startswith(text)]
        return [max(special, key=len)] if special else [mark] if mark else []

    def _find_calls(self) -> CallFormat | None:
        """How the template writes a call, found by letting it write one."""
        arguments = {PROBE + "argument": "value"}
        function = {"name": PROBE + "name", "arguments": arguments}
        call = {"type": "function", "id": "call00000", "function": function}
        question = [{"role": "user", "content": "a"}]
        turn = {"role": "assistant", "content": "", "tool_calls": [call]}
        schema = {"name": PROBE + "name", "description": "", "parameters": {"type": "object"}}
        tools = [{"type": "function", "function": schema}]
        try:
            begun = self._template.render(question, tools=tools, add_generation_prompt=True).text
            answer = {"role": "assistant", "content": PROBE}
            plain, text = (
                self._template.render([*question, each], tools=tools).text
                for each in (answer, turn)
            )
        except TemplateError:
            return None
        # An empty thought, say, that the template writes before any answer marks no call.
        before = plain.rpartition(PROBE)[0]
        start = before if text.startswith(before) else begun
        return _located(text.removeprefix(start), self.stops)


def _located(written: str, stops: Sequence[str]) -> CallFormat | None:
    """Find the JSON of the probe's call in what the template wrote."""
    at = written.find(PROBE + "name")
    decoder = json.JSONDecoder()
    for start in (i for i, c in enumerate(written[: max(at, 0)]) if c in "{["):
        try:
            value, end = decoder.raw_decode(written, start)
        except ValueError:
            continue
        inner = value[0] if isinstance(value, list) and value else value
        if not isinstance(inner, dict) or inner.get("name") != PROBE + "name":
            continue
        keys = [key for key, field in inner.items() if key != "name" and PROBE in json.dumps(field)]
        after = written[end:]
        for stop in stops:
            after = after.partition(stop)[0]
        before = written[:start].strip()
        return CallFormat(before, after.strip(), (keys or ["arguments"])[0])
    return None
