"""The bodies of requests, as OpenAI's clients send them. What has no effect here is refused."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

Number = float
T = TypeVar("T")
_Some = Annotated[list[T], Field(min_length=1)]


class Body(BaseModel):
    """Fields that completions and chat completions share."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str = ""
    temperature: Number = Field(1.0, ge=0, le=100)
    top_p: Number = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: Number = Field(0.0, ge=0, le=1)
    repetition_penalty: Number = Field(1.0, gt=0)
    seed: int | None = Field(None, ge=0, lt=2**62)
    n: int = Field(1, ge=1, le=8)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    logit_bias: dict[str, float] | None = Field(None, max_length=0)
    user: str | None = None
    """Of the client's own use."""
    metadata: dict[str, str] | None = None
    """Of the client's own use."""
    store: Literal[False] | None = None

    @field_validator("stop")
    @classmethod
    def _stops(cls, value: str | list[str] | None) -> str | list[str] | None:
        texts = [value] if isinstance(value, str) else value or []
        if len(texts) > 16 or not all(texts):
            raise ValueError("give at most 16 texts, none of them empty")
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def usage_wanted(self) -> bool:
        """Whether a stream ends with a chunk of counts."""
        return bool((self.stream_options or {}).get("include_usage"))


class CompletionBody(Body):
    """A request to continue texts."""

    prompt: str | _Some[str] | _Some[int] | _Some[list[int]] = ""
    max_tokens: int | None = Field(16, ge=1)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    best_of: Literal[1] | None = None

    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [[int(token) for token in self.prompt]]
        return cast(list[str | list[int]], self.prompt)


class ChatBody(Body):
    """A request to answer a conversation."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: Literal[True] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None

    @field_validator("messages")
    @classmethod
    def _plain(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [plain_message(message, number) for number, message in enumerate(value, 1)]


def plain_message(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A message as chat templates read it: one text, and the arguments of calls as objects.

    Raises:
        ValueError: an unknown role, a content that isn't text, or calls that aren't OpenAI's.
    """
    given = message.get("role")
    role = "system" if given == "developer" else given
    if role not in ("system", "user", "assistant", "tool"):
        raise ValueError(f"message {number} has the role {role!r}, none of system, user, "
                         "assistant, tool")  # fmt: skip
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            raise ValueError(f"message {number} has parts that aren't text")
        content = "".join(str(part.get("text", "")) for part in content)
    calls = message.get("tool_calls")
    if not isinstance(content, str) and not (content is None and calls):
        raise ValueError(f"message {number} has no content")
    plain = {**message, "role": role, "content": content or ""}
    if calls:
        if not isinstance(calls, list):
            raise ValueError(f"message {number}: tool_calls is no list")
        plain["tool_calls"] = [_plain_call(call, number) for call in calls]
    return plain


def _plain_call(call: object, number: int) -> dict[str, Any]:
    """A call whose arguments are an object instead of its JSON."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise ValueError(f"message {number} has a call without a function")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            raise ValueError(f"message {number}: the arguments of a call are no JSON") from None
    if arguments is not None and not isinstance(arguments, dict):
        raise ValueError(f"message {number}: the arguments of a call are no object")
    return {**call, "function": {**function, "arguments": arguments or {}}}
