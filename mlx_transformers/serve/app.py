"""The ASGI application: routes, limits and errors."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..chat.assistant import Assistant
from ..chat.toolbox import Toolbox
from ..core.errors import MlxtError
from .answers import Part, Writer, answer, complete
from .bodies import Body, ChatBody, CompletionBody
from .worker import Busy, Worker

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
Opened = tuple[Assistant, Toolbox, str]
AnyBody = TypeVar("AnyBody", bound=Body)


@dataclass(frozen=True)
class Limits:
    """Limits of a client's requests.

    Attributes:
        body: bytes of a request.
        tokens: tokens of an answer, and its length where a request gives none.
        waiting: requests that wait or run at once.
    """

    body: int = 2**20
    tokens: int = 2048
    waiting: int = 16


class Refused(Exception):
    """A request that is answered by an error."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param = status, param


class Endpoints:
    """The handlers of OpenAI's endpoints."""

    def __init__(self, worker: Worker[Opened], limits: Limits) -> None:
        self._worker, self._limits = worker, limits
        self._started = int(time.time())

    @property
    def name(self) -> str:
        """The model's name."""
        return self._worker.state[2]

    def routes(self) -> list[Route]:
        """The routes of these endpoints."""
        return [
            Route("/health", self.health),
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
        ]

    async def health(self, request: HttpRequest) -> Response:
        return JSONResponse({"status": "ok"})

    async def models(self, request: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, request: HttpRequest) -> Response:
        if request.path_params["model"] != self.name:
            raise Refused(404, f"There is no model but '{self.name}'.", "model")
        return JSONResponse(self._card())

    async def completions(self, request: HttpRequest) -> Response:
        body = await self._read(request, CompletionBody)
        limit = self._tokens(body.max_tokens)
        return await self._respond(request, body, lambda opened: complete(opened[0], body, limit))

    async def chat(self, request: HttpRequest) -> Response:
        body = await self._read(request, ChatBody)
        limit = self._tokens(body.max_completion_tokens or body.max_tokens)
        return await self._respond(request, body, lambda opened: answer(*opened[:2], body, limit))

    def _card(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self._started, "owned_by": "mlxt"}

    def _tokens(self, asked: int | None) -> int:
        if asked is not None and asked > self._limits.tokens:
            raise Refused(
                400, f"max_tokens is at most {self._limits.tokens} here, not {asked}.", "max_tokens"
            )
        return self._limits.tokens

    async def _read(self, request: HttpRequest, kind: type[AnyBody]) -> AnyBody:
        """The checked body of a request.

        Raises:
            Refused: it is too large, no JSON, or not of this form.
        """
        body = parsed(await read_json(request, self._limits.body), kind)
        if body.model not in ("", self.name):
            raise Refused(404, f"There is no model '{body.model}' but '{self.name}'.", "model")
        return body

    async def _respond(
        self, request: HttpRequest, body: Body, make: Callable[[Opened], Iterator[Part]]
    ) -> Response:
        writer = Writer(self._worker.state[0].tokenizer, body, self.name)
        parts = self._worker.run(make)
        if not body.stream:
            found = []
            async with aclosing(parts):
                async for part in parts:
                    found.append(part)
                    if await request.is_disconnected():
                        return Response(status_code=499)
            return JSONResponse(writer.whole(found))
        # The first part is awaited, so that a bad request gets a status of its own.
        first = await anext(parts, None)
        return StreamingResponse(_events(writer, first, parts), media_type="text/event-stream")


async def _events(
    writer: Writer, first: Part | None, parts: AsyncGenerator[Part, None]
) -> AsyncIterator[str]:
    try:
        if first is not None and (event := writer.chunk(first)):
            yield event
        async for part in parts:
            if event := writer.chunk(part):
                yield event
        yield writer.closing()
    except MlxtError as error:
        yield f"data: {json.dumps(_error(str(error), 'server_error'))}\n\n"
    finally:
        await parts.aclose()


async def read_json(request: HttpRequest, limit: int) -> Any:
    """Return the JSON of a body.

    Raises:
        Refused: the body is too large, of another type, or no JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":
        raise Refused(415, "Send JSON with Content-Type: application/json.")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > limit:
            raise Refused(413, f"The body is larger than {limit:,} bytes.")
    try:
        value = json.loads(content)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused(400, "The body has half a surrogate pair, which is no character.") from None
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is no JSON: {error}.") from None
    return value


def parsed(value: object, kind: type[AnyBody]) -> AnyBody:
    """Return a body of a form.

    Raises:
        Refused: it has another form; names the first field that is wrong.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            what = "it isn't supported here"
        raise Refused(400, f"{where or 'body'}: {what}.", where or None) from None


def _error(message: str, kind: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


async def _refused(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, Refused)
    kind = "invalid_request_error"
    return JSONResponse(_error(str(error), kind, error.param), error.status)


async def _mistaken(request: HttpRequest, error: Exception) -> Response:
    return JSONResponse(_error(str(error), "invalid_request_error"), 400)


async def _busy(request: HttpRequest, error: Exception) -> Response:
    message = "Too many requests are waiting: try again later."
    return JSONResponse(_error(message, "rate_limit_error"), 429, {"Retry-After": "1"})


async def _absent(request: HttpRequest, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    message = f"{request.method} {request.url.path}: there is nothing here."
    return JSONResponse(_error(message, "invalid_request_error"), status)


def application(
    worker: Worker[Opened],
    limits: Limits,
    *,
    hosts: tuple[str, ...] = LOOPBACK,
    more: list[Route] | None = None,
) -> Starlette:
    """Return the application.

    Args:
        worker: runs the model.
        limits: what a client may ask for.
        hosts: names that requests may address it by; others are refused, so that a page of another
            site can't reach it by rebinding its name.
        more: further routes.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        yield {}
        worker.close()

    return Starlette(
        routes=[*Endpoints(worker, limits).routes(), *(more or [])],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={
            Refused: _refused,
            MlxtError: _mistaken,
            Busy: _busy,
            404: _absent,
            405: _absent,
        },
        lifespan=lifespan,
    )
