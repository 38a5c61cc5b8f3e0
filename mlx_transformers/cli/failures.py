"""Explains errors to users, including those of the operating system."""

import errno
import sys

from ..core.terminal import is_terminal
from .terminal import console

INTERRUPTED = 130
"""Exit code after Ctrl-C, by the convention of shells."""

PLACES = "Runs go below --runs, prepared data below $MLXT_CACHE (~/.cache/mlxt)"

CURES = {
    errno.EACCES: f"Choose a place that you may write to. {PLACES}.",
    errno.EPERM: f"Choose a place that you may write to. {PLACES}.",
    errno.EROFS: f"Choose a place that can be written to. {PLACES}.",
    errno.ENOTDIR: f"A file stands where a folder is needed. {PLACES}.",
    errno.ENOSPC: f"Make room, or choose another disk. {PLACES}. What was saved before is whole.",
    errno.EDQUOT: f"Make room, or choose another disk. {PLACES}. What was saved before is whole.",
    errno.EFBIG: "A limit on the size of files is in force: `ulimit -f` shows it, raise it.",
    errno.EIO: "The disk can't be read or written there: check it, or choose another.",
    errno.EISDIR: "A folder stands where a file is needed: move it away.",
    errno.ELOOP: "A link there leads back to itself: remove it.",
    errno.EMFILE: "Allow more open files: ulimit -n 4096.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}
"""Advice for errors of the operating system that a user can cause."""

NO_MEMORY = (
    "unable to allocate",
    "attempting to allocate",
    "insufficient memory",
    "out of memory",
    "malloc or free",
    "resource temporarily unavailable",
    "can't start new thread",
)
"""Parts of messages that mean that memory ran out: of MLX and Metal, whose buffers have a limit
too; the last two of C++ and Python, which found none for the stack of a thread."""


def report(sentence: str) -> None:
    """Print an error to standard error, wrapped at words on a terminal."""
    from ..recipe.overrides import respelled

    sentence = respelled(sentence, sys.argv)
    if not is_terminal(sys.stderr):
        print(f"error: {sentence}", file=sys.stderr)
        return
    from rich.text import Text

    console(err=True).print(Text.assemble(("error: ", "bold red"), sentence))


def refused(error: Exception) -> str | None:
    """Explain an error of the operating system, or return None for a bug of mlxt."""
    if no_memory(error):
        detail = f" ({error})" if str(error) else ""
        return (
            f"There is no memory left{detail}. Set train.microbatch to half of "
            "train.batch_size or less: a step learns from the same rows, fewer at once. Or shorten "
            "train.seq_len, set train.recompute=all, or let --supervise halve them."
        )
    if isinstance(error, OSError):
        cure = CURES.get(error.errno or 0)
        place = f" {error.filename}" if error.filename else ""
        return f"The system refuses{place}: {error.strerror}. {cure}" if cure else None
    return None


def no_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, MemoryError):
        return True
    return any(sign in str(error).lower() for sign in NO_MEMORY)
