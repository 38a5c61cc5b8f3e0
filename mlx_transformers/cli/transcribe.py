"""`mlxt transcribe`: speech recognition of sound files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, Run, user_path


def transcribe(
    run: Run = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option(
            parser=user_path, help="A WAV file. Repeatable.", metavar="FILE", show_default=False
        ),
    ] = None,
    beams: Annotated[
        int, typer.Option(min=1, help="Beams of the search; 1 is greedy decoding.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Transcribe sound files with a run of speech recognition.

    A file lasts up to an hour, and is read window after window of data.batch.seconds.
    """
    from ..core.errors import RunError
    from ..data.sound.read import read_sound
    from ..decode.beam import Beams
    from ..runs.folder import find_checkpoint
    from ..verbs.transcribe import load_recognizer

    find_checkpoint(run)
    if not audio:
        raise RunError("No sound is given: name a WAV file, with --audio FILE.")
    recognizer = load_recognizer(run)
    for file in audio:
        text = recognizer.transcript(read_sound(file), Beams(beams))
        if as_json:
            typer.echo(json.dumps({"audio": str(file), "text": text}, ensure_ascii=False))
        else:
            typer.echo(text if len(audio) == 1 else f"{file}: {text}")
