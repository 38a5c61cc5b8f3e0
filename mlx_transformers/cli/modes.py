"""Which options of a verb were given: those that its mode doesn't read are refused."""

from collections.abc import Sequence

import typer

from ..core.errors import RunError


def given_flags(ctx: typer.Context) -> dict[str, str]:
    """The parameters that the command line gives, in its order of help, each as it is spelled."""
    flags = {}
    for param in ctx.command.params:
        source, name = ctx.get_parameter_source(param.name or ""), param.name or ""
        if source is not None and source.name == "COMMANDLINE":
            turned_off = ctx.params[name] is False and param.secondary_opts
            flags[name] = (param.secondary_opts if turned_off else param.opts)[0]
    return flags


def refuse_unread(ctx: typer.Context, reads: Sequence[str], mode: str) -> None:
    """Refuse the options that a mode doesn't read, all in one sentence.

    Args:
        ctx: the command.
        reads: names of the parameters that have an effect.
        mode: the mode in words, or as the command line spells it.

    Raises:
        RunError: one was given that has none.
    """
    flags = [flag for name, flag in given_flags(ctx).items() if name not in reads]
    if flags:
        verb, them = ("doesn't", "it") if len(flags) == 1 else ("don't", "them")
        raise RunError(f"{listed(flags)} {verb} go with {mode}: leave {them} out.")


def listed(flags: Sequence[str], last: str = "and") -> str:
    """Join flags to a list in words: --a, --b and --c."""
    return f" {last} ".join([", ".join(flags[:-1]), flags[-1]] if len(flags) > 1 else flags)
