"""Safety measures of a run, from files in the published formats."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..assembly.saved import load
from ..chat.assistant import Assistant, Request
from ..core.errors import FormatError, RunError, unknown
from ..core.parse import LINE, parse_json
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.generate import generate_batch
from ..decode.sample import Sampling
from ..decode.windows import rolling_windows, score_windows
from ..models.model import Decodable
from ..rl.judges import ClassifierReward
from ..rl.response import Judge, Response
from ..score.interval import Score
from ..score.safety import honest, refusals, stereotypes, toxicity, weat
from .chat import open_assistant
from .embed import open_embedder

Row = Mapping[str, Any]
MASK = "[M]"
"""Placeholder of the completion in a template of HONEST."""


@dataclass(frozen=True)
class Safety:
    """How answers and completions are generated.

    Attributes:
        lexicon: a file of hurtful words, one a line (`honest`).
        classifier: the run that tells toxic texts (`toxicity`).
        label: its class of toxic texts, in the sorted order of its labels.
        samples: completions of each prompt (`honest`, `toxicity`).
        max_tokens: of an answer or a completion.
        seed: of the draws.
    """

    lexicon: Path | None = None
    classifier: str | None = None
    label: int = 1
    samples: int = 5
    max_tokens: int = 40
    seed: int = 0


def measure_safety(
    run: str | Path | None, measure: str, file: Path, how: Safety
) -> tuple[list[Score], int]:
    """Measure a run; returns the scores and the number of rows.

    Args:
        run: a run's name or folder, or a checkpoint's; None takes the newest run.
        measure: one of `MEASURES`.
        file: rows in the published format of the measure: .csv, .tsv, .jsonl, or .json for WEAT.
        how: settings of generation.

    Raises:
        MlxtError: an unknown measure, a file that can't be read, or a run that doesn't suit.
    """
    if measure not in MEASURES:
        raise RunError(unknown("safety measure", measure, MEASURES))
    rows = read_rows(file)
    return MEASURES[measure](run, file, rows, how), len(rows)


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a table.

    Raises:
        RunError: it can't be read, has another suffix, or no row.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix in (".csv", ".tsv"):
            delimiter = "\t" if file.suffix == ".tsv" else ","
            rows: list[Row] = list(
                csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
            )
        elif file.suffix == ".jsonl":
            lines = enumerate(text.split("\n"), 1)
            rows = [_row(each, f"{file}, line {n}") for n, each in lines if each.strip()]
        elif file.suffix == ".json":
            rows = [_row(text, str(file))]
        else:
            raise RunError(f"{file}: rows are read from .csv, .tsv, .jsonl or .json.")
    except OSError as error:
        raise RunError(f"{file} can't be read: {error.strerror}.") from None
    except (ValueError, csv.Error) as error:  # of UTF-8, JSON or CSV
        raise RunError(f"{file} can't be read: {error}.") from None
    if not rows:
        raise RunError(f"{file} has no row.")
    return rows


def _row(text: str, where: str) -> Row:
    """The object of a JSON text.

    Raises:
        FormatError: it is none.
    """
    row = parse_json(text, where, LINE)
    if not isinstance(row, dict):
        raise FormatError(f"{where}: a row is a JSON object, and this is none.")
    return row


def _field(file: Path, number: int, row: Row, *names: str) -> str:
    """The first of the fields that a row has.

    Raises:
        RunError: it has none of them.
    """
    value = next((row[name] for name in names if isinstance(row.get(name), str)), None)
    if value is None:
        raise RunError(f"{file}, row {number}: there is no field {' or '.join(map(repr, names))}.")
    return str(value)


def _refusals(run: str | Path | None, file: Path, rows: list[Row], how: Safety) -> list[Score]:
    """XSTest's rows (`prompt`, `label` or `type`), AdvBench's (`goal`), or `prompt`, `harmful`."""
    assistant, _, _ = open_assistant(run)
    answers = []
    for number, row in enumerate(rows, 1):
        messages = [{"role": "user", "content": _field(file, number, row, "prompt", "goal")}]
        answers.append(_answer(assistant, messages, how))
    return refusals(answers, [_is_harmful(row) for row in rows])


def _is_harmful(row: Row) -> bool:
    if isinstance(row.get("harmful"), bool):
        return bool(row["harmful"])
    if "label" in row:
        return str(row["label"]).lower() in ("unsafe", "harmful", "1", "true")
    return "goal" in row or str(row.get("type", "contrast")).startswith("contrast")


def _answer(assistant: Assistant, messages: Sequence[Mapping[str, Any]], how: Safety) -> str:
    form = assistant.format
    request = Request(form.tokens(messages), how.max_tokens, Sampling(0.0), stop=tuple(form.stops))
    return "".join(piece.text for piece in assistant.stream(request))


def _crows_pairs(run: str | Path | None, file: Path, rows: list[Row], how: Safety) -> list[Score]:
    """CrowS-Pairs' rows: `sent_more` and `sent_less`; one score for all, and one by `bias_type`."""
    model, tokenizer = _decoder(run)
    sides = [
        np.array(_loglikelihoods(
            model, tokenizer, [_field(file, n, row, name) for n, row in enumerate(rows, 1)]
        ))
        for name in ("sent_more", "sent_less")
    ]  # fmt: skip
    kinds = np.array([str(row.get("bias_type", "")) for row in rows])
    scores = [stereotypes(*sides)]
    for kind in sorted(set(kinds) - {""}):
        score = stereotypes(*(side[kinds == kind] for side in sides))
        scores.append(Score(kind, score.value, score.low, score.high))
    return scores


def _loglikelihoods(model: Decodable, tokenizer: Tokenizer, texts: Sequence[str]) -> list[float]:
    begins = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    before = list(tokenizer.prefix) or ([] if begins is None else [begins])
    windows = [rolling_windows(before, tokenizer.encode(text), model.max_seq_len) for text in texts]
    scores = iter(score_windows(model, [window for text in windows for window in text]))
    return [sum(next(scores).loglikelihood for _ in text) for text in windows]


def _honest(run: str | Path | None, file: Path, rows: list[Row], how: Safety) -> list[Score]:
    """HONEST's rows: `template_masked`, with [M] at the end, and a lexicon."""
    if how.lexicon is None:
        raise RunError("honest needs --lexicon, a file of hurtful words, one a line.")
    try:
        lexicon = [w.strip() for w in how.lexicon.read_text(encoding="utf-8").split("\n")]
    except OSError as error:
        raise RunError(f"{how.lexicon} can't be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise RunError(f"{how.lexicon} can't be read as UTF-8 text: {error}.") from None
    model, tokenizer = _decoder(run)
    texts = [_field(file, n, r, "template_masked", "template") for n, r in enumerate(rows, 1)]
    prompts = [text.partition(MASK)[0].rstrip() for text in texts]
    return [honest(_completions(model, tokenizer, prompts, how), filter(None, lexicon))]


def _toxicity(run: str | Path | None, file: Path, rows: list[Row], how: Safety) -> list[Score]:
    """RealToxicityPrompts' rows: `prompt`, a text or a table with `text`; and a classifier."""
    if how.classifier is None:
        raise RunError("toxicity needs --classifier, a run that tells toxic texts (class 1).")
    judge = Judge(*load(how.classifier))
    toxic = ClassifierReward(run=how.classifier, label=how.label).build(judge)
    model, tokenizer = _decoder(run)
    plain = [row["prompt"] if isinstance(row.get("prompt"), dict) else row for row in rows]
    prompts = [_field(file, n, row, "text", "prompt") for n, row in enumerate(plain, 1)]
    completions = _completions(model, tokenizer, prompts, how)
    answers = [Response("", text, [], [], True, {}) for group in completions for text in group]
    return toxicity(np.array(toxic(answers)).reshape(len(rows), how.samples))


def _completions(
    model: Decodable, tokenizer: Tokenizer, prompts: list[str], how: Safety
) -> list[list[str]]:
    """`samples` completions of each prompt, drawn at temperature 1, each of one line."""
    groups = generate_batch(
        model,
        tokenizer,
        prompts,
        samples=how.samples,
        max_tokens=how.max_tokens,
        sampling=Sampling(1.0),
        seed=how.seed,
        stop=("\n",),
    )
    return [[completion.text for completion in group] for group in groups]


def _weat(run: str | Path | None, file: Path, rows: list[Row], how: Safety) -> list[Score]:
    """A JSON object with lists of words: targets `X` and `Y`, attributes `A` and `B`."""
    names = ("X", "Y", "A", "B")
    lists = [rows[0].get(name) for name in names]
    if not all(isinstance(words, list) and len(words) > 1 for words in lists):
        raise RunError(f"{file}: WEAT has lists of two words or more under {', '.join(names)}.")
    embed = open_embedder(run)
    score, p = weat(*(embed([str(word) for word in words]) for words in lists if words))
    return [score, Score("weat_p_value", p, p, p)]


def _decoder(run: str | Path | None) -> tuple[Decodable, Tokenizer]:
    model, tokenizer = load(run)
    if "causal_lm" not in model.tasks or not isinstance(model, Decodable):
        raise RunError("This measure is for models that continue a text, and this run's doesn't.")
    return model, tokenizer


Measure = Callable[[str | Path | None, Path, list[Row], Safety], list[Score]]
MEASURES: dict[str, Measure] = {
    "refusals": _refusals,
    "crows_pairs": _crows_pairs,
    "honest": _honest,
    "toxicity": _toxicity,
    "weat": _weat,
}
"""Safety measures by name."""
