"""`mlxt chat`: a conversation with a run in the terminal, or on a page in the browser."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import MlxtError, RunError, reason
from ..core.paths import expanded, shown
from ..core.terminal import is_terminal
from .failures import report
from .generate_options import MaxTokens, MinP, Penalty, Seed, Temp, TopK, TopP, Window
from .modes import refuse_unread
from .options import Run, Template, ToolSets, user_path

if TYPE_CHECKING:
    from ..chat.assistant import Request
    from ..chat.conversation import Conversation, Event
    from ..serve.app import Opened

HELP = """/system TEXT   set the instructions (without TEXT: show them)
/reset         forget the conversation
/undo          remove the last question and its answer
/regenerate    draw another answer to the last question
/save FILE     write the conversation to a new .jsonl file
/exit          leave; so does Ctrl-D. Ctrl-C ends an answer early.
A line that ends in \\ continues on the next one."""

System = Annotated[
    str | None,
    typer.Option(
        "--system",
        "--system-prompt",
        help="Instructions at the beginning of the conversation.",
        show_default=False,
    ),
]
Web = Annotated[
    bool, typer.Option("--web", help="Open a page for the browser instead (this machine only).")
]
Port = Annotated[int, typer.Option(help="Port of the page.", metavar="P", min=0, max=65535)]
Preferences = Annotated[
    Path,
    typer.Option(
        parser=user_path,
        help="The file that choices on the page are appended to.",
        metavar="FILE",
    ),
]


TERMINAL, WEB = ("system",), ("port", "preferences")
"""Parameters of a conversation in the terminal alone, and of the page alone, which has a field for
its instructions."""


def chat(
    ctx: typer.Context,
    run: Run = None,
    system: System = None,
    template: Template = None,
    web: Web = False,
    port: Port = 8000,
    preferences: Preferences = Path("preferences.jsonl"),
    max_tokens: MaxTokens = 512,
    temp: Temp = 0.7,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    repetition_penalty: Penalty = 1.0,
    repetition_window: Window = None,
    seed: Seed = 0,
    set: ToolSets = None,
) -> None:
    """Talk with a run in the terminal, or in the browser (--web).

    Answers are printed while they are generated; the oldest turns are dropped when the model's
    context is full. Type /help for the commands. With --set tools.calculator=true or --set
    tools.retrieval.folder=FOLDER the model may call tools.
    """
    others, mode = (TERMINAL, "--web") if web else (WEB, "a conversation in the terminal")
    refuse_unread(ctx, [name for name in ctx.params if name not in others], mode)
    from ..chat.assistant import Request as Options
    from ..chat.conversation import Conversation
    from ..decode.sample import Sampling
    from ..verbs.chat import open_assistant

    sampling = Sampling(temp, top_p, top_k, min_p, repetition_penalty, repetition_window)
    options = Options((), max_tokens, sampling, seed)
    if web:
        _web(
            lambda: open_assistant(run, template=template, set=set or []),
            options,
            port,
            preferences,
        )
        return
    assistant, toolbox, name = open_assistant(run, template=template, set=set or [])
    _ = assistant.format  # an error now, not at the first message
    conversation = Conversation(assistant, options, system=system, toolbox=toolbox)
    if is_terminal(sys.stdin):
        import readline  # noqa: F401  (line editing and history for input)

        typer.echo(f"Talking with {name}. /help lists the commands.", err=True)
    for text in _lines():
        _respond(conversation, text)


def _web(load: "Callable[[], Opened]", options: "Request", port: int, preferences: Path) -> None:
    """Serve the page until Ctrl-C."""
    from .serve import serving

    module = serving()
    from ..serve.app import Limits, Opened
    from ..serve.page import Page
    from ..serve.worker import Worker

    def routes(worker: Worker[Opened]) -> list[Any]:
        _ = worker.state[0].format  # an error now, not at the first message
        return Page(worker, options, Limits(), preferences).routes()

    def ready(address: str) -> None:
        typer.echo(f"Open {address} in a browser (Ctrl-C ends it).", err=True)

    module.serve(load, port=port, pages=routes, ready=ready)


def _lines() -> Iterator[str]:
    """Yield the lines that the user types, joined where one ends in a backslash, until the end."""
    prompt, unfinished = ("> " if is_terminal(sys.stdin) else ""), ""
    while True:
        try:
            line = input(". " if unfinished and prompt else prompt)
        except EOFError:
            if prompt:
                print()
            return
        except KeyboardInterrupt:
            print()
            unfinished = ""
            continue
        except UnicodeDecodeError:
            report("That line is not UTF-8 text.")
            continue
        if line.endswith("\\"):
            unfinished += line[:-1] + "\n"
            continue
        text, unfinished = unfinished + line, ""
        if text.strip() in ("/exit", "/quit"):
            return
        if text.strip():
            yield text


def _respond(conversation: "Conversation", text: str) -> None:
    """Carry out a command, or show the answer to a message; errors don't end the conversation."""
    try:
        if text.startswith("/"):
            _command(conversation, *text.split(maxsplit=1))
        else:
            show_answer(conversation.ask(text))
    except MlxtError as error:
        report(str(error))


def _command(conversation: "Conversation", command: str, argument: str = "") -> None:
    if command == "/help":
        print(HELP)
    elif command == "/system":
        if argument:
            conversation.set_system(argument)
        print(conversation.system or "There are no instructions.")
    elif command == "/reset":
        conversation.reset()
        print("Forgotten.")
    elif command == "/undo":
        removed = conversation.undo()
        print("There is nothing to undo." if removed is None else f"Removed: {removed}")
    elif command == "/regenerate":
        show_answer(conversation.again())
    elif command == "/save":
        _save(conversation, argument)
    else:
        from ..core.errors import unknown

        names = ("/system", "/reset", "/undo", "/regenerate", "/save", "/help", "/exit")
        report(unknown("command", command, names))


def show_answer(events: "Iterator[Event]") -> None:
    """Print an answer as it is made, and calls of tools to standard error; Ctrl-C ends it."""
    try:
        for event in events:
            if event.dropped:
                messages = "1 message" if event.dropped == 1 else f"{event.dropped} messages"
                typer.echo(f"(The context is full: the oldest {messages} left out.)", err=True)
            if event.call is not None:
                arguments = json.dumps(dict(event.call.arguments), ensure_ascii=False)
                typer.echo(f"[{event.call.name} {arguments}]\n{event.result}", err=True)
            sys.stdout.write(event.text)
            sys.stdout.flush()
            if event.end in ("length", "context"):
                limit = "--max-tokens" if event.end == "length" else "the model's context"
                typer.echo(f"\n(The answer ended at the limit of {limit}.)", err=True)
    except KeyboardInterrupt:
        typer.echo(" (interrupted)", err=True)
    print(flush=True)


def _save(conversation: "Conversation", name: str) -> None:
    """Write the conversation as a row for training.

    Raises:
        RunError: there is no name, the file exists, or it can't be written.
    """
    if not name:
        raise RunError("Name the file: /save talk.jsonl")
    path = expanded(name)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(json.dumps({"messages": conversation.messages}, ensure_ascii=False) + "\n")
    except FileExistsError:
        raise RunError(f"{path} exists already. Choose another name.") from None
    except (OSError, ValueError) as error:  # of a name with a NUL
        raise RunError(f"{shown(str(path))} can't be written: {reason(error)}.") from None
    print(f"Wrote {path}.")
