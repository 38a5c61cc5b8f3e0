"""Every error a user can cause, and the hint that names what they probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

from .names import nearest


class MlxtError(ValueError):
    """An error whose message is the whole story: what was wrong, where, and what to do."""


class FormatError(MlxtError):
    """A JSON or TOML document that can't be parsed, or is beyond the limits."""


class RecipeError(MlxtError):
    """A recipe that can't be read, merged or typed."""


class DataError(MlxtError):
    """A corpus, tokenizer or prepared data set that can't be had or can't be used."""


class CheckpointError(MlxtError):
    """A checkpoint that is absent, damaged or belongs to another recipe."""


class ConvertError(MlxtError):
    """A published model that can't be read, or a run that can't be written as one."""


class RunError(MlxtError):
    """A run folder, or a run in progress, that can't go on as asked."""


class Notice(UserWarning):
    """A fact about a run that its user should know. The command line prints it once, unadorned."""


def reason(error: Exception) -> str:
    """Why a file can't be read or written: the system's words, without the name of the file."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


LISTED = 60
"""Most names that an error lists; of more it lists the `NEAR` nearest."""
NEAR = 6


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a name that isn't known: the nearest one first, then all of them."""
    known = sorted(known)
    match = nearest(name, known)
    hint = f" Did you mean '{match}'?" if match else ""
    if len(known) > LISTED:
        near = ", ".join(get_close_matches(name, known, NEAR, cutoff=0.0))
        return f"Unknown {what} '{name}'.{hint} The nearest of {len(known):,}: {near}."
    return f"Unknown {what} '{name}'.{hint} Known: {', '.join(known)}."
