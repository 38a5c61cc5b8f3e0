"""The page of `mlxt chat --web`: two answers to choose from, and the files that choices go to."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..chat.assistant import Assistant, Request
from ..chat.chat_format import GUARD
from ..chat.conversation import Conversation
from ..chat.toolbox import Toolbox
from ..core.errors import MlxtError, RunError
from .app import Limits, Opened, Refused, parsed, read_json
from .bodies import plain_message
from .worker import Worker

PAGE = Path(__file__).with_name("page.html")
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing, and talks to this server alone."""


class Talk(BaseModel):
    """A conversation that ends with the user's message."""

    model_config = ConfigDict(extra="forbid")
    messages: list[dict[str, Any]] = Field(min_length=1)
    answers: int = Field(1, ge=1, le=2)
    seed: int = Field(0, ge=0, lt=2**31)

    @field_validator("messages")
    @classmethod
    def _plain(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [plain_message(message, number) for number, message in enumerate(value, 1)]


class Choice(Talk):
    """The better and the worse answer to a conversation."""

    chosen: str
    rejected: str


class Rating(Talk):
    """Whether an answer is good."""

    answer: str
    good: bool


class Page:
    """Serves the page, generates its answers, and appends what the user chooses to files.

    A row of choices has `prompt` (the conversation as the chat template writes it), `chosen` and
    `rejected`, as `data.batch.kind = "preferences"` reads them; a row of ratings has `prompt`,
    `completion` and `label`.
    """

    def __init__(
        self, worker: Worker[Opened], options: Request, limits: Limits, preferences: Path
    ) -> None:
        self._worker, self._options, self._limits = worker, options, limits
        self.preferences = preferences
        self.ratings = preferences.with_name(f"{preferences.stem}-ratings{preferences.suffix}")

    def routes(self) -> list[Route]:
        """The routes of the page."""
        return [
            Route("/", self.page),
            Route("/page/answers", self.answers, methods=["POST"]),
            Route("/page/choice", self.choice, methods=["POST"]),
            Route("/page/rating", self.rating, methods=["POST"]),
        ]

    async def page(self, request: HttpRequest) -> Response:
        headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
        return Response(PAGE.read_text(encoding="utf-8"), media_type="text/html", headers=headers)

    async def answers(self, request: HttpRequest) -> Response:
        talk = await self._read(request, Talk)
        events = self._worker.run(lambda opened: self._answers(opened, talk))

        async def stream() -> AsyncIterator[str]:
            try:
                async for event in events:
                    yield json.dumps(event, ensure_ascii=False) + "\n"
            except MlxtError as error:
                yield json.dumps({"error": str(error)}) + "\n"
            finally:
                await events.aclose()

        return StreamingResponse(stream(), media_type="application/x-ndjson")

    async def choice(self, request: HttpRequest) -> Response:
        choice = await self._read(request, Choice)
        if choice.chosen.strip() == choice.rejected.strip():
            raise Refused(400, "Both answers are the same, so there is no choice.")
        row = {name: self._ended(getattr(choice, name)) for name in ("chosen", "rejected")}
        return self._append(self.preferences, choice, row)

    async def rating(self, request: HttpRequest) -> Response:
        rating = await self._read(request, Rating)
        row = {"completion": self._ended(rating.answer), "label": rating.good}
        return self._append(self.ratings, rating, row)

    async def _read(self, request: HttpRequest, kind: Any) -> Any:
        return parsed(await read_json(request, self._limits.body), kind)

    def _answers(self, opened: Opened, talk: Talk) -> Iterator[dict[str, Any]]:
        assistant, toolbox, _ = opened
        for index in range(talk.answers):
            request = replace(self._options, seed=talk.seed + index)
            conversation = Conversation(assistant, request, toolbox=toolbox)
            conversation.messages = list(talk.messages)
            for answer_event in conversation.answer():
                event: dict[str, Any] = {"index": index, "text": answer_event.text}
                if answer_event.call is not None:
                    event["call"] = {
                        "name": answer_event.call.name,
                        "arguments": dict(answer_event.call.arguments),
                    }
                    event["result"] = answer_event.result
                if answer_event.dropped:
                    event["dropped"] = answer_event.dropped
                yield event
            yield {"index": index, "end": True}

    def _ended(self, answer: str) -> str:
        """An answer with what ends it, unless that is the end-of-text token that training adds."""
        assistant: Assistant = self._worker.state[0]
        ids = assistant.tokenizer.special_ids
        mark = assistant.format.stops[0] if assistant.format.stops else ""
        return answer if ids.get(mark) == assistant.tokenizer.eos_id is not None else answer + mark

    def _append(self, path: Path, talk: Talk, row: dict[str, Any]) -> Response:
        """Add a row to a file, whole lines only.

        Raises:
            RunError: the file can't be written.
        """
        toolbox: Toolbox = self._worker.state[1]
        prompt = self._worker.state[0].format.text(talk.messages, toolbox.schemas() or None)
        prompt = prompt.replace(GUARD, "")
        line = json.dumps({"prompt": prompt, **row}, ensure_ascii=False) + "\n"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RunError(f"{path} can't be written: {error.strerror}.") from None
        return JSONResponse({"file": str(path)})
