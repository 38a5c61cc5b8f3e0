"""Which options of a verb were given: those that its mode doesn't read are refused."""

from collections.abc import Sequence

import typer


def given_flags(ctx: typer.Context) -> dict[str, str]:
    """The parameters that the command line gives, in its order of help, each as it is spelled."""
    flags = {}
    for param in ctx.command.params:
        source, name = ctx.get_parameter_source(param.name or ""), param.name or ""
        if source is not None and source.name == "COMMANDLINE":
            turned_off = ctx.params[name] is False and param.secondary_opts
            flags[name] = (param.secondary_opts if turned_off else param.opts)[0]
    return flags


def listed(flags: Sequence[str], last: str = "and") -> str:
    """Join flags to a list in words: --a, --b and --c."""
    return f" {last} ".join([", ".join(flags[:-1]), flags[-1]] if len(flags) > 1 else flags)
