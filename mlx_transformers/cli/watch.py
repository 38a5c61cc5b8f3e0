"""`mlxt watch`."""

from pathlib import Path
from typing import Annotated

import typer

from .completion import run_names
from .options import Runs

Port = Annotated[
    int, typer.Option(help="The port; 0 takes a free one.", metavar="P", min=0, max=65535)
]


def watch(
    run: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names or folders of runs.",
            metavar="RUN",
            show_default="the newest runs in ./runs",
            autocompletion=run_names,
        ),
    ] = None,
    port: Port = 8787,
    runs: Runs = Path("runs"),
) -> None:
    """Follow runs while they train, on a page of this machine: losses, rates, memory, samples.

    It reads their log files alone, so runs can be stopped and resumed meanwhile. Ctrl-C ends it.
    """
    from ..report.watch import open_server

    with open_server(run or [], runs, port) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}"
        typer.echo(f"Watching at {address} (Ctrl-C ends it).", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("", err=True)
