"""Answers in OpenAI's form: whole, or as chunks of a stream."""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ..chat.assistant import Assistant, Request
from ..chat.chat_format import Call
from ..chat.conversation import Conversation
from ..chat.toolbox import Toolbox
from ..core.errors import RunError
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.generate import prompt_tokens
from ..decode.sample import Sampling
from ..decode.top_tokens import TokenLogprob
from .bodies import Body, ChatBody, CompletionBody

REASONS = {"stop": "stop", "stop string": "stop", "length": "length", "context": "length"}
"""OpenAI's names of why a text ended."""


@dataclass
class Part:
    """The part that is added to choice `index`, or its end."""

    index: int
    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    reason: str | None = None
    n_tokens: int = 0
    n_prompt: int = 0


def sampling(body: Body) -> Sampling:
    """The options of drawing."""
    return Sampling(body.temperature, body.top_p, body.top_k, body.min_p, body.repetition_penalty)


def complete(assistant: Assistant, body: CompletionBody, limit: int) -> Iterator[Part]:
    """Continue the prompts of a request, one after the other.

    Raises:
        MlxtError: a prompt has no token, or doesn't fit.
    """
    vocab_size = min(assistant.model.vocab_size, assistant.tokenizer.vocab_size)
    index = 0
    for prompt in body.prompts():
        tokens = prompt_tokens(assistant.tokenizer, prompt, vocab_size, special_tokens=True)
        request = Request(tokens, body.max_tokens or limit, sampling(body), top=body.logprobs,
                          stop=body.stops)  # fmt: skip
        for draw in range(body.n):
            yield from _parts(assistant, replace(request, seed=seed(body) + draw), index)
            index += 1


def answer(assistant: Assistant, toolbox: Toolbox, body: ChatBody, limit: int) -> Iterator[Part]:
    """Answer a conversation, `n` times.

    Without tools of the client's, the server's own are called here and their results fed back.

    Raises:
        MlxtError: the template refuses the conversation, or it doesn't fit.
    """
    form = assistant.format
    tools = body.tools if body.tools and body.tool_choice != "none" else None
    if tools and form.call_format is None:
        raise RunError("This model's chat template writes no calls of tools: leave out `tools`.")
    most = body.max_completion_tokens or body.max_tokens or limit
    top = (body.top_logprobs or 0) if body.logprobs else None
    request = Request((), most, sampling(body), top=top, stop=body.stops)
    if toolbox and not tools and body.tool_choice != "none":
        yield from _with_own_tools(assistant, toolbox, body, request)
        return
    request = replace(request, tokens=form.tokens(body.messages, tools))
    request = replace(request, stop=(*body.stops, *form.stops))
    for index in range(body.n):
        parts = _parts(assistant, replace(request, seed=seed(body) + index), index)
        yield from _calls_apart(assistant, parts) if tools else parts


def seed(body: Body) -> int:
    """The seed of the first choice: the request's, or another each time."""
    return body.seed if body.seed is not None else time.time_ns() % 2**31


def _parts(assistant: Assistant, request: Request, index: int) -> Iterator[Part]:
    for piece in assistant.stream(request):
        tokens = [] if piece.token is None else [piece.token]
        reason = REASONS[piece.end] if piece.end else None
        n_prompt = len(request.tokens)
        yield Part(index, piece.text, tokens, [], reason, piece.n_tokens, n_prompt)


def _calls_apart(assistant: Assistant, parts: Iterator[Part]) -> Iterator[Part]:
    """Hold back what may be a call, and give the calls with the end."""
    form = assistant.format.call_format
    assert form is not None, "answer has checked it"
    text, n_shown = "", 0
    for part in parts:
        text += part.text
        if part.reason is not None:
            content, calls = form.calls(text)
            remaining = "" if calls else text[n_shown:]
            if calls and len(content) > n_shown:
                remaining = content[n_shown:]
            reason = "tool_calls" if calls else part.reason
            yield replace(part, text=remaining, calls=calls, reason=reason)
        elif form.may_begin(text):
            yield replace(part, text="")
        else:
            yield replace(part, text=text[n_shown:])
            n_shown = len(text)


def _with_own_tools(
    assistant: Assistant, toolbox: Toolbox, body: ChatBody, request: Request
) -> Iterator[Part]:
    for index in range(body.n):
        request_of_choice = replace(request, seed=seed(body) + index)
        talk = Conversation(assistant, request_of_choice, toolbox=toolbox)
        talk.messages = list(body.messages)
        reason, n_tokens = "stop", 0
        for event in talk.answer():
            reason = REASONS[event.end] if event.end else reason
            n_tokens += event.n_tokens
            yield Part(index, event.text, n_prompt=talk.n_prompt)
        yield Part(index, reason=reason, n_tokens=n_tokens, n_prompt=talk.n_prompt)


class Writer:
    """Turns the parts of a request into its response.

    Attributes:
        chat: whether it is a chat completion.
    """

    def __init__(self, tokenizer: Tokenizer, body: Body, model: str) -> None:
        self.chat = isinstance(body, ChatBody)
        self._tokenizer, self._body = tokenizer, body
        kind = "chat.completion" if self.chat else "text_completion"
        prefix = "chatcmpl" if self.chat else "cmpl"
        self._head = {
            "id": f"{prefix}-{uuid.uuid4().hex[:24]}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
        }
        self._begun: set[int] = set()
        self._offset: dict[int, int] = {}
        self._counts: dict[int, tuple[int, int]] = {}

    def chunk(self, part: Part) -> str | None:
        """One event of a stream; None for a part that shows nothing."""
        self._count(part)
        if not (part.text or part.calls or part.reason or part.tokens):
            return None
        head = self._head | ({"object": "chat.completion.chunk"} if self.chat else {})
        choice: dict[str, Any] = {"index": part.index, "finish_reason": part.reason}
        choice["logprobs"] = self._logprobs(part.index, part.tokens)
        if self.chat:
            delta: dict[str, Any] = {"content": part.text} if part.text else {}
            if part.index not in self._begun:
                self._begun.add(part.index)
                delta = {"role": "assistant", "content": "", **delta}
            if part.calls:
                calls = [c | {"index": i} for i, c in enumerate(map(_call, part.calls))]
                delta["tool_calls"] = calls
            choice["delta"] = delta
        else:
            choice["text"] = part.text
        return _event(head | {"choices": [choice]})

    def closing(self) -> str:
        """The last events of a stream."""
        head = self._head | ({"object": "chat.completion.chunk"} if self.chat else {})
        usage = _event(head | {"choices": [], "usage": self._usage()})
        return (usage if self._body.usage_wanted else "") + "data: [DONE]\n\n"

    def whole(self, parts: list[Part]) -> dict[str, Any]:
        """The response that isn't streamed."""
        choices = []
        for index in dict.fromkeys(part.index for part in parts):
            of_choice = [part for part in parts if part.index == index]
            for part in of_choice:
                self._count(part)
            text = "".join(part.text for part in of_choice)
            tokens = [token for part in of_choice for token in part.tokens]
            calls = [call for part in of_choice for call in part.calls]
            choice: dict[str, Any] = {"index": index, "finish_reason": of_choice[-1].reason}
            choice["logprobs"] = self._logprobs(index, tokens)
            if self.chat:
                message: dict[str, Any] = {"role": "assistant", "content": text}
                if calls:
                    message |= {"content": text or None, "tool_calls": [_call(c) for c in calls]}
                choice["message"] = message
            else:
                choice["text"] = text
            choices.append(choice)
        return self._head | {"choices": choices, "usage": self._usage()}

    def _count(self, part: Part) -> None:
        self._counts[part.index] = (part.n_prompt, part.n_tokens)

    def _usage(self) -> dict[str, int]:
        """Counts of tokens; the choices of a prompt share it."""
        prompts = sum(n for i, (n, _) in self._counts.items() if i % self._body.n == 0)
        drawn = sum(n for _, n in self._counts.values())
        return {
            "prompt_tokens": prompts,
            "completion_tokens": drawn,
            "total_tokens": prompts + drawn,
        }

    def _logprobs(self, index: int, tokens: list[TokenLogprob]) -> Any:
        n_top = self._body.logprobs if isinstance(self._body, ChatBody | CompletionBody) else None
        if n_top is None or n_top is False or not tokens:
            return None
        if self.chat:
            rows = [
                self._entry(t.token, t.logprob)
                | {"top_logprobs": [self._entry(i, p) for i, p in t.top]}
                for t in tokens
            ]
            return {"content": rows, "refusal": None}
        texts = [self._spelled(token.token) for token in tokens]
        offsets = []
        for token_text in texts:
            offsets.append(self._offset.setdefault(index, 0))
            self._offset[index] += len(token_text)
        return {
            "tokens": texts,
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{self._spelled(i): p for i, p in token.top} for token in tokens],
            "text_offset": offsets,
        }

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        text = self._spelled(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    def _spelled(self, token: int) -> str:
        return self._tokenizer.decode([token])


def _call(call: Call) -> dict[str, Any]:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
