"""The entry point of the `mlxt` command: streams and Ctrl-C are made safe before anything loads."""

import os
import signal
import sys
from io import TextIOWrapper


def main() -> None:
    """Run `mlxt` with streams that can't fail and without a traceback while modules load."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    prepare_streams()
    from .failures import INTERRUPTED
    from .main import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:  # a second one, while the first was answered
        raise SystemExit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def prepare_streams() -> None:
    """Open closed standard streams on the null device, and let each print any character.

    A file opened while standard output is closed would get its number, and be printed into. A
    stream whose encoding lacks a character, or a file name that is not UTF-8, is printed with
    escapes.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
