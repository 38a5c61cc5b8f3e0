"""The bodies of requests, as OpenAI's clients send them. What has no effect here is refused."""

import json
from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

Number = float


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

    prompt: str | list[str] | list[int] | list[list[int]] = ""
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
        ValueError: an unknown role, or a content that isn't text.
    """
    role = {"developer": "system"}.get(message.get("role", ""), message.get("role"))
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
        plain["tool_calls"] = []
        for call in calls:
            function = dict(call["function"])
            if isinstance(function.get("arguments"), str):
                function["arguments"] = json.loads(function["arguments"] or "{}")
            plain["tool_calls"].append({**call, "function": function})
    return plain
