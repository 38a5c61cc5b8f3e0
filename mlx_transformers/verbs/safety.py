"""Safety measures of a run, from files in the published formats."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..assembly.saved import load
from ..chat.assistant import Assistant, Request
from ..core.errors import RunError, unknown
from ..core.parse import LINE, parse_json, read_text
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
HARMFUL, HARMLESS = ("unsafe", "harmful", "true", "1"), ("safe", "harmless", "false", "0")
"""Values of a row that says whether its prompt is harmful."""


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
    compute, rows = find_measure(measure).compute, read_rows(file)
    return compute(run, file, rows, how), len(rows)


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a table.

    Raises:
        MlxtError: it can't be read, has another suffix, or no row.
    """
    text, suffix = read_text(file, str(file), RunError), file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        delimiter = "\t" if suffix == ".tsv" else ","
        try:
            rows: list[Row] = list(
                csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
            )
        except csv.Error as error:
            raise RunError(f"{file} can't be read: {error}.") from None
    elif suffix == ".jsonl":
        lines = enumerate(text.split("\n"), 1)
        rows = [_row(each, f"{file}, line {n}") for n, each in lines if each.strip()]
    elif suffix == ".json":
        rows = [_row(text, str(file))]
    else:
        raise RunError(f"{file}: rows are read from .csv, .tsv, .jsonl or .json.")
    if not rows:
        raise RunError(f"{file} has no row.")
    return rows


def _row(text: str, where: str) -> Row:
    """The object of a JSON text.

    Raises:
        MlxtError: it is none.
    """
    row = parse_json(text, where, LINE)
    if not isinstance(row, dict):
        raise RunError(f"{where}: a row is a JSON object, and this is none.")
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
    prompts = [_field(file, n, row, "prompt", "goal") for n, row in enumerate(rows, 1)]
    harmful = [_is_harmful(file, n, row) for n, row in enumerate(rows, 1)]
    assistant, _, _ = open_assistant(run)
    answers = [_answer(assistant, [{"role": "user", "content": p}], how) for p in prompts]
    return refusals(answers, harmful)


def _is_harmful(file: Path, number: int, row: Row) -> bool:
    """Whether the prompt of a row is harmful, by the first of its fields that says so.

    Raises:
        RunError: none of them does.
    """
    for name in ("harmful", "label"):
        if (value := row.get(name)) is not None:
            word = str(value).strip().lower()
            if word not in (*HARMFUL, *HARMLESS):
                raise RunError(
                    f"{file}, row {number}: {name!r} is {word[:40]!r}, which doesn't say whether "
                    f"the prompt is harmful ({', '.join(HARMFUL)}) or not ({', '.join(HARMLESS)})."
                )
            return word in HARMFUL
    if row.get("type") is not None:
        return str(row["type"]).startswith("contrast")
    if row.get("goal") is None:
        raise RunError(
            f"{file}, row {number}: there is no field 'harmful' (true or false), 'label' or "
            "'type', so nothing says whether the prompt is harmful."
        )
    return True


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
    lines = read_text(how.lexicon, str(how.lexicon), RunError).split("\n")
    lexicon = [word for line in lines if (word := line.strip())]
    if not lexicon:
        raise RunError(f"{how.lexicon} has no word: a lexicon has a hurtful word on each line.")
    texts = [_field(file, n, r, "template_masked", "template") for n, r in enumerate(rows, 1)]
    prompts = [text.partition(MASK)[0].rstrip() for text in texts]
    model, tokenizer = _decoder(run)
    return [honest(_completions(model, tokenizer, prompts, how), lexicon)]


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


class Measure(NamedTuple):
    """A safety measure.

    Attributes:
        compute: returns the scores of a run on the rows of a file.
        reads: the settings of `Safety` that it depends on.
    """

    compute: Callable[[str | Path | None, Path, list[Row], Safety], list[Score]]
    reads: tuple[str, ...] = ()


DRAWS = ("samples", "max_tokens", "seed")
MEASURES = {
    "refusals": Measure(_refusals, ("max_tokens",)),
    "crows_pairs": Measure(_crows_pairs),
    "honest": Measure(_honest, ("lexicon", *DRAWS)),
    "toxicity": Measure(_toxicity, ("classifier", "label", *DRAWS)),
    "weat": Measure(_weat),
}
"""Safety measures by name."""


def find_measure(name: str) -> Measure:
    """Return a safety measure.

    Raises:
        RunError: there is none of that name.
    """
    if name not in MEASURES:
        raise RunError(unknown("safety measure", name, MEASURES))
    return MEASURES[name]
