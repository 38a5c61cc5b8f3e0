"""Help and errors of all verbs: values by their metavars, and the name that a user meant."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from typer.core import TyperGroup

from ..core.names import equivalent, nearest

METAVARS = {"int": "N", "float": "X", "str": "TEXT", "Path": "FILE", "bool": ""}
"""Values of options in a help text, where an option doesn't name its own; a switch has none."""

EXTRA = "Nothing is expected after the arguments"
MAIN = ("--prompt", "--word", "--text", "--audio", "--questions", "--data")
"""Options whose value is easily given without them."""

PLAIN = {
    r"Value error, ": "",
    r"Input should be a valid integer\b.*": "give a whole number.",
    r"Input should be a valid number\b.*": "give a number.",
    r"Input should be greater than or equal to (.*)": r"give at least \1.",
    r"Input should be less than or equal to (.*)": r"give at most \1.",
    r"Got unexpected extra arguments?\(?s?\)? \((.*)\)": (
        rf"{EXTRA}: \1. Put quotes around a text with spaces."
    ),
}
"""Messages of typer's checks, and plainer words for them."""

ALIKE = 0.75
"""Least similarity of a misspelt option: higher than of a key, as many options are short."""

EPOCHS = ("epoch", "epochs", "n_epochs", "num_epochs", "num_train_epochs", "max_epochs")

ADAPTERS = ("lora", "dora", "vera", "ia3", "bitfit")
"""Kinds of a recipe's optional table [adapt] that other libraries have as options."""

USUAL = "llama_tiny"
"""The recipe whose tables and keys an unknown option is looked for in."""


class Verbs(TyperGroup):
    """A group that names the nearest of its verbs, and the nearest option of the one that runs."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """As in click, with the values of options by their metavars instead of Python's types."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and ctx is not None:
            name_values(command, ctx)
        return command

    def get_help(self, ctx: Any) -> str:
        """As in click."""
        name_values(self, ctx)
        return super().get_help(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As in click."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            verb = nearest(args[0], self.list_commands(ctx))
            few = f" Known: {', '.join(self.list_commands(ctx))}." if ctx.parent else ""
            hint = f" Did you mean '{verb}'?" if verb else few
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """As in click."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(getattr(error, "message", None), str) and hasattr(error, "ctx"):
                _explain(error)
            raise


def name_values(command: Any, ctx: Any) -> None:
    """Show the values of a command by their metavars, and by ours where it has none."""
    if (shown := command.get_help_option(ctx)) is not None:
        command.get_help_option = lambda ctx: shown  # click makes a new one each time
    for param in [*command.params, shown]:
        if param is not None:
            kind = re.match(r"<(?:list\[)?(\w+)", param.display_type(ctx) or "")
            if kind is None or kind[1] not in METAVARS:
                continue
            if param.param_type_name == "argument":
                param.display_type_rich = lambda ctx: None  # its metavar is its name
            elif param.metavar is None:
                param.metavar = METAVARS[kind[1]]


def _explain(error: Any) -> None:
    """Reword an error of a command line: plain words, and the nearest option of an unknown one."""
    for pattern, words in PLAIN.items():
        error.message = re.sub(pattern, words, error.message)
    if not error.message and getattr(error, "param", None) is not None:
        values = str(error.param.metavar)  # of a parameter that is missing
        listed = f" One of {values.replace('|', ', ')}." if "|" in values else ""
        error.message = f"{error.param.help or ''}{listed}"
    if error.message.startswith(EXTRA) and error.ctx is not None:
        flags = {flag for param in error.ctx.command.params for flag in param.opts}
        if flag := next((flag for flag in MAIN if flag in flags), None):
            error.message = error.message.replace(" Put ", f" Put {flag} before it, and ")
    if getattr(error, "option_name", None) and hasattr(error, "possibilities"):
        error.possibilities = None
        hint = "" if error.ctx is None else _hint(error.option_name, error.ctx.command.params)
        error.message = f"No such option: {error.option_name}.{hint}"


def _hint(option: str, params: list[Any]) -> str:
    """Name the option, or the key of --set, that `option` probably means."""
    flags = [flag for param in params for flag in (*param.opts, *param.secondary_opts)]
    flag_of = {flag.lstrip("-").replace("-", "_"): flag for flag in flags if flag.startswith("--")}
    name = option.lstrip("-").replace("-", "_")
    if name in EPOCHS and "steps" in flag_of:
        return (
            " Give --steps: an epoch has (training tokens) / (train.batch_size × "
            "train.accumulate × train.seq_len) of them."
        )
    argument_of = {
        word: param
        for param in params
        if param.param_type_name == "argument"
        for word in (param.name, *re.findall(r"\w+", str(param.metavar).lower()))
    }
    if hint := _among(flag_of, argument_of, partial(equivalent, name)):
        return hint
    sets = "set" in flag_of and any("RECIPE" in str(param.metavar) for param in params)
    if sets and name in ADAPTERS:
        return f" Did you mean --set adapt.kind={name}?"
    if hint := _among(flag_of, argument_of, partial(nearest, name, cutoff=ALIKE)):
        return hint
    return _key_hint(name) if sets else ""


def _among(
    flag_of: dict[str, str],
    argument_of: dict[str, Any],
    find: Callable[[Iterable[str]], str | None],
) -> str:
    """Name the option, or else the argument, that `find` finds; "" if neither is meant."""
    if (match := find(flag_of)) is not None:
        return f" Did you mean {flag_of[match]}?"
    if (match := find(argument_of)) is not None:
        return f" Give {argument_of[match].metavar} without an option, as the argument."
    return ""


def _key_hint(name: str) -> str:
    """Name the key of --set that `name` probably means, with the table that it needs; or ""."""
    from ..assembly.recipe import load_recipe
    from ..core.errors import RecipeError
    from ..recipe.keys import nearest_settable

    kind = f"adapt.kind={ADAPTERS[0]}"
    try:
        paths = nearest_settable(load_recipe(USUAL, [kind]), name)
    except RecipeError:  # this hint needs the recipes that come with the package
        return ""
    if not paths:
        return ""
    first = f"--set {kind} " if paths[0].startswith("adapt.") else ""
    return f" Did you mean {first}--set {paths[0]}=VALUE?"
