"""`mlxt serve`: OpenAI-compatible endpoints of a run."""

from typing import Annotated, Any

import typer

from ..core.errors import RunError
from .options import Run, Template, ToolSets

Port = Annotated[
    int, typer.Option(help="The port; 0 takes a free one.", metavar="P", min=0, max=65535)
]
Host = Annotated[
    str, typer.Option(help="The address to listen on; 127.0.0.1 is for this machine alone.")
]
Tokens = Annotated[
    int, typer.Option("--max-tokens", help="The most tokens of an answer.", metavar="N", min=1)
]
Waiting = Annotated[
    int,
    typer.Option(
        help="Requests that wait or run at once; more get the status 429.", metavar="N", min=1
    ),
]
BodySize = Annotated[
    int, typer.Option(help="The largest body of a request, in KiB.", metavar="KIB", min=1)
]


def serve(
    run: Run = None,
    port: Port = 8000,
    host: Host = "127.0.0.1",
    template: Template = None,
    max_tokens: Tokens = 2048,
    waiting: Waiting = 16,
    max_body: BodySize = 1024,
    set: ToolSets = None,
) -> None:
    """Serve a run over HTTP to OpenAI's clients.

    Answers /v1/models, /v1/completions and /v1/chat/completions, with streams, stop texts,
    log-probabilities and tools. Ctrl-C ends it.
    """
    module = serving()
    from ..serve.app import Limits
    from ..verbs.chat import open_assistant

    def ready(address: str) -> None:
        typer.echo(f"Serving at {address}/v1 (Ctrl-C ends it).", err=True)

    if not module.is_loopback(host):
        typer.echo(
            f"warning: {host} can be reached from other machines, and there is no password.",
            err=True,
        )
    module.serve(
        lambda: open_assistant(run, template=template, set=set or []),
        host=host,
        port=port,
        limits=Limits(max_body * 1024, max_tokens, waiting),
        ready=ready,
    )


def serving() -> Any:
    """Return the module of the server.

    Raises:
        RunError: the extra is not installed.
    """
    try:
        from ..serve import run
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise RunError(
            "The server needs starlette and uvicorn: pip install 'mlxt[serve]'."
        ) from None
    return run
