"""A certificate: every promise about a model, measured on it."""

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.device import facts
from ..core.errors import MlxtError, RecipeError, RunError, unknown
from ..core.paths import expanded
from ..recipe.load import find
from ..report.certificates import FILE
from ..runs.durable import replace_text, writing
from ..runs.folder import RUNS, RunFolder, find_checkpoint, named_checkpoint
from .decoding import DECODING
from .derived import DERIVED
from .exported import EXPORTED
from .gradients import TRAINING
from .processes import PROCESSES, exit_on_signals
from .row import DoesNotApply, Measured, Row, Verdict, excused, judged
from .subject import Subject, subject_of_recipe

ROWS: tuple[Row, ...] = (*TRAINING, *DECODING, *PROCESSES, *EXPORTED, *DERIVED)
"""Every row of a certificate."""

Show = Callable[[Verdict], None]


@dataclass(frozen=True)
class Certificate:
    """The verdicts on a model.

    Attributes:
        of: the run or recipe.
        verdicts: one for each row.
    """

    of: str
    verdicts: list[Verdict]

    @property
    def holds(self) -> bool:
        """Whether no row is broken."""
        return all(verdict.state != "broken" for verdict in self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return {"of": self.of, "holds": self.holds, "rows": [asdict(v) for v in self.verdicts]}


def certify(
    what: str,
    sets: Sequence[str] = (),
    *,
    only: Sequence[str] = (),
    root: Path = RUNS,
    show: Show = lambda verdict: None,
) -> Certificate:
    """Measure every promise on a run or on a recipe; a run keeps the result as certificate.json.

    Args:
        what: a run's name or folder, one of its checkpoints, or a recipe.
        sets: "path=value" overrides of a recipe.
        only: the rows to measure, by name or a part of it; none: all. Nothing is kept then.
        root: the folder of runs.
        show: called with each verdict as soon as it is known.

    Raises:
        MlxtError: there is no such run, recipe or row, or the model can't be built.
    """
    rows = chosen(only)
    with exit_on_signals(), tempfile.TemporaryDirectory(prefix="mlxt-verify-") as work:
        subject = _subject(what, sets, root, Path(work))
        verdicts = []
        for row in rows:
            verdicts.append(measured(row, subject))
            show(verdicts[-1])
        certificate = Certificate(what, verdicts)
        if not only and not subject.folder.path.is_relative_to(work):
            keep(certificate, subject.folder)
    return certificate


def measured(row: Row, subject: Subject) -> Verdict:
    """Measure one row; a computation that fails breaks it."""
    began = time.perf_counter()
    try:
        measurement = row.measure(subject)
    except DoesNotApply as reason:
        return excused(row, str(reason), time.perf_counter() - began)
    except MlxtError as error:
        measurement = Measured(math.nan, str(error))
    except Exception as error:  # libraries raise many kinds, and other rows follow
        measurement = Measured(math.nan, f"{type(error).__name__}: {error}")
    return judged(row, measurement, time.perf_counter() - began)


def chosen(only: Sequence[str]) -> list[Row]:
    """Return the rows whose names contain one of the texts; all if there is none.

    Raises:
        RunError: a text is in no name.
    """
    for text in only:
        if not any(text in row.name for row in ROWS):
            raise RunError(unknown("row", text, [row.name for row in ROWS]))
    return [row for row in ROWS if not only or any(text in row.name for text in only)]


def keep(found: Certificate, folder: RunFolder) -> None:
    """Write a certificate into the folder of its run."""
    place = folder.path / FILE
    with writing(place):
        replace_text(place, json.dumps(found.to_dict() | {"machine": facts()}, indent=2) + "\n")


def _subject(what: str, sets: Sequence[str], root: Path, work: Path) -> Subject:
    path = expanded(what)
    is_run = named_checkpoint(path) or any(
        (place / "recipe.toml").is_file() for place in (path, root / what)
    )
    if not is_run:
        try:
            find(what)
        except RecipeError as error:
            raise RunError(f"'{what}' names no run in {root}/. {error}") from None
        return subject_of_recipe(what, sets, work)
    if sets:
        raise RunError(
            f"--set changes a recipe, and {what} is a run, which is measured as it was trained: "
            "leave --set out."
        )
    return Subject(*find_checkpoint(what, root), work)
