"""A conversation with its history: turns, undo, and the oldest turns dropped when it is full."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import RunError
from .assistant import Assistant, Piece, Request
from .chat_format import Call
from .toolbox import Toolbox

ROUNDS = 5
"""The most times that tools are called for one answer."""

Message = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """An event of a conversation: a piece of the answer's text, a call of a tool with its result,
    how many of the oldest messages were left out, or the end with its count of tokens."""

    text: str = ""
    call: Call | None = None
    result: str = ""
    dropped: int = 0
    end: str | None = None
    n_tokens: int = 0


class Conversation:
    """Messages exchanged with an assistant.

    Attributes:
        messages: all of them, in the form of chat templates.
        dropped: messages that didn't fit into the context at the last answer.
        n_prompt: tokens of the last prompt.
    """

    def __init__(
        self,
        assistant: Assistant,
        options: Request,
        *,
        system: str | None = None,
        toolbox: Toolbox | None = None,
    ) -> None:
        """
        Args:
            assistant: the model.
            options: how answers are drawn; its tokens are replaced.
            system: the instructions at the beginning.
            toolbox: tools that the model may call.

        Raises:
            RunError: there are tools, and the model's template writes no calls.
        """
        self._assistant = assistant
        self._options = options
        self._toolbox = toolbox or Toolbox(())
        self._draws = 0
        self.messages: list[Message] = []
        self.dropped = self.n_prompt = 0
        if self._toolbox and assistant.format.call_format is None:
            raise RunError(
                "This run's chat template writes no calls of tools: leave out the tools, or give a "
                "template that does with --template (chatml_tools is one)."
            )
        if system:
            self.set_system(system)

    @property
    def system(self) -> str | None:
        """The instructions at the beginning."""
        first = self.messages[:1]
        return str(first[0]["content"]) if first and first[0]["role"] == "system" else None

    def set_system(self, text: str) -> None:
        """Replace the instructions; an empty text removes them."""
        turns = self.messages[self.system is not None :]
        self.messages = [*([{"role": "system", "content": text}] if text else []), *turns]

    def reset(self) -> None:
        """Forget all turns; the instructions stay."""
        self.messages = self.messages[: self.system is not None]
        self.dropped = 0

    def undo(self) -> str | None:
        """Remove the last message of the user and what followed it; returns its text."""
        users = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        if not users:
            return None
        text = str(self.messages[users[-1]]["content"])
        self.messages = self.messages[: users[-1]]
        return text

    def ask(self, text: str) -> Iterator[Event]:
        """Add a message of the user and generate the answer to it. If an error prevents one, the
        message is removed again; an answer that the caller leaves unfinished stays.

        Raises:
            RunError: the message is too long for the context.
        """
        before = list(self.messages)
        self.messages = [*before, {"role": "user", "content": text}]
        try:
            yield from self.answer()
        except Exception:
            self.messages = before
            raise

    def again(self) -> Iterator[Event]:
        """Replace the last answer by another draw. If an error prevents one, it stays.

        Raises:
            RunError: there is no answer yet.
        """
        before = list(self.messages)
        text = self.undo()
        if text is None:
            raise RunError("There is no answer to draw again yet.")
        try:
            yield from self.ask(text)
        except Exception:
            self.messages = before
            raise

    def answer(self) -> Iterator[Event]:
        """Generate the answer to the last message, calling tools as the model asks for them.

        Raises:
            RunError: the last turn is too long for the context.
        """
        tools = self._toolbox.schemas() or None
        for round_ in range(ROUNDS):
            room = self._assistant.room(self._options.max_tokens)
            tokens, self.dropped = self._assistant.format.fit(self.messages, room, tools)
            if self.dropped and not round_:
                yield Event(dropped=self.dropped)
            self._draws += 1
            self.n_prompt = len(tokens)
            seed = self._options.seed + self._draws - 1
            stop = (*self._options.stop, *self._assistant.format.stops)
            request = replace(self._options, tokens=tokens, seed=seed, stop=stop)
            calls = yield from self._stream(self._assistant.stream(request))
            if not calls or not self._toolbox:
                return
            for number, call in enumerate(calls):
                result = self._toolbox.run(call)
                turn = {"role": "tool", "name": call.name, "content": result}
                self.messages.append({**turn, "tool_call_id": call_id(number)})
                yield Event(call=call, result=result)

    def _stream(self, pieces: Iterator[Piece]) -> Generator[Event, None, list[Call]]:
        """Yield the text that is no call of a tool; add the message, and return its calls."""
        form = self._assistant.format.call_format if self._toolbox else None
        text, n_shown, end, n_tokens = "", 0, None, 0
        try:
            for piece in pieces:
                text, end, n_tokens = text + piece.text, piece.end, piece.n_tokens
                may_be_call = form is not None and form.may_begin(text)
                if not may_be_call and len(text) > n_shown:
                    yield Event(text[n_shown:])
                    n_shown = len(text)
        finally:
            content, calls = (text, []) if form is None else form.calls(text)
            self.messages.append(message(content, calls))
        if not calls and len(text) > n_shown:
            yield Event(text[n_shown:])
        yield Event(end=end, n_tokens=n_tokens)
        return calls


def message(content: str, calls: Sequence[Call]) -> Message:
    """Return the assistant's message with its calls, as chat templates read them."""
    turn: Message = {"role": "assistant", "content": content}
    if calls:
        turn["tool_calls"] = [
            {
                "type": "function",
                "id": call_id(i),
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for i, call in enumerate(calls)
        ]
    return turn


def call_id(number: int) -> str:
    """The id of a call among those of its message: nine letters and digits, as Mistral's templates
    want it."""
    return f"call{number:05}"
