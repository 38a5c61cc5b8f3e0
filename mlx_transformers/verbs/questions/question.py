"""Task files of questions: rows with an answer, perhaps choices and a chain of thought."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import DataError, RunError
from ...core.parse import LINE, parse_json, read_text
from ...data.tokenizers.tokenizer import Tokenizer
from ...score.extract import INVALID, Extraction, Normalisation

ANSWER_PHRASE = "The answer is"
"""Words before the answer at the end of a chain of thought."""
CHAIN_ANSWER = Extraction(rf"{ANSWER_PHRASE}:?\s*(.+?)\s*(?:\.\s|\.?$|\n)", which=-1)
"""The answer at the end of a chain of thought."""
FORM = "Question: {question}\nAnswer: {answer}"
"""The text of an example."""
LETTERS = "ABCDEFGHIJ"
NORMALISED = Normalisation((r"\.$", r"(?<=\d),(?=\d)"), ignore_case=True)
"""How answers are compared: without case, a final full stop and commas in numbers."""


@dataclass(frozen=True)
class Question:
    """A question of a task file.

    Attributes:
        text: the question.
        answer: the right answer, one of the choices if there are any.
        choices: the answers to choose from.
        reasoning: a chain of thought that ends with the answer.
        examples: questions with their answers that belong to this one alone, shown in its prompt
            instead of those of a pool.
    """

    text: str
    answer: str
    choices: tuple[str, ...] = ()
    reasoning: str | None = None
    examples: "tuple[Question, ...]" = ()


def read_questions(path: Path) -> list[Question]:
    """Return the questions of a JSON Lines file with `question` (or `prompt`), `answer` (a text, or
    the number of a choice), perhaps `choices`, `reasoning` and its own `examples`, a list of such
    rows. GSM8K's answers, which end in `#### 7`, are split.

    Raises:
        RunError: the file or a row can't be read.
    """
    found = []
    # at line feeds alone: U+2028 and its like are characters of a question
    for number, line in enumerate(read_text(path, str(path), RunError).split("\n"), 1):
        if line.strip():
            try:
                found.append(_question(parse_json(line, "the line", LINE)))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise RunError(
                    f"{path}, line {number}: a row has 'question' (or 'prompt') and 'answer' (a "
                    f"text, or the number of one of 'choices', from 0), and this one doesn't: "
                    f"{str(error).rstrip('.')}."
                ) from None
    if not found:
        raise RunError(f"{path} has no question.")
    return found


def read_plain_questions(path: Path) -> list[Question]:
    """Return the questions of a file, as `read_questions` does, that have no choices or examples.

    Raises:
        RunError: as `read_questions`, or a question has choices or examples.
    """
    questions = read_questions(path)
    if any(one.choices or one.examples for one in questions):
        raise RunError(
            f"{path} has rows with 'choices' or 'examples', which are not shown here: leave them "
            "out, or measure them with mlxt eval --questions and --shots."
        )
    return questions


def _question(row: object) -> Question:
    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    choices = row.get("choices") or []
    if not isinstance(choices, list) or len(choices) > len(LETTERS):
        raise ValueError(f"'choices' is a list of at most {len(LETTERS)} texts")
    given, reasoning = row["answer"], row.get("reasoning")
    if isinstance(given, int) and choices:
        if not 0 <= given < len(choices):
            raise ValueError(f"there is no choice {given}")
        given = choices[given]
    answer = str(given)
    if "####" in answer:
        reasoning, _, answer = answer.rpartition("####")
    if choices and answer not in choices:
        raise ValueError(f"{answer!r} is none of the choices")
    thought = None if reasoning is None else str(reasoning).strip()
    asked = row["question"] if "question" in row else row["prompt"]
    own = row.get("examples") or []
    if not isinstance(own, list) or not all(isinstance(one, dict) for one in own):
        raise ValueError("'examples' is a list of questions with their answers")
    examples = tuple(_question(one) for one in own)
    return Question(str(asked), answer.strip(), tuple(map(str, choices)), thought, examples)


def check_form(form: str) -> str:
    """Return the text of an example, `form`, whose fields are filled in.

    Raises:
        RunError: it hasn't `{question}` once with `{answer}` at its end.
    """
    once = form.count("{question}") == form.count("{answer}") == 1
    if not once or not form.endswith("{answer}"):
        raise RunError(
            f"--form {form!r} is the text of an example, with {{question}} once and {{answer}} at "
            "its end, as in '{question} = {answer}'."
        )
    return form


def check_readable(form: str, tokenizer: Tokenizer) -> None:
    """Check that a tokenizer can encode all characters of `form`; a character tokenizer may not.

    Raises:
        RunError: it lacks one.
    """
    try:
        tokenizer.encode(form.replace("{question}", "").replace("{answer}", ""))
    except DataError as error:
        raise RunError(
            f"Questions are asked in the form {form!r}. {error} Or ask in a form whose characters "
            "it has, as in --form '{question}={answer}'."
        ) from error


def prompt(
    shots: Sequence[Question],
    question: Question,
    *,
    chains: bool,
    letters: bool,
    form: str = FORM,
) -> str:
    """Return the text that ends where the answer begins.

    Args:
        shots: questions whose answers are shown.
        question: the one to be answered.
        chains: whether shots show their chains of thought.
        letters: whether choices are listed with letters, which are the answers.
        form: the text of an example; spaces before its answer belong to the answer.
    """
    examples = [
        _filled(form, shot, letters).replace("{answer}", _answer_of(shot, chains, letters)) + "\n\n"
        for shot in shots
    ]
    last = _filled(form, question, letters)
    return "".join(examples) + last.removesuffix("{answer}").rstrip(" ")


def space_before_answer(form: str) -> str:
    """Return the spaces before an answer in `form`."""
    before = form.removesuffix("{answer}")
    return before[len(before.rstrip(" ")) :]


def _filled(form: str, question: Question, letters: bool) -> str:
    """An example with its question and, where they are listed, its choices."""
    listed = zip(LETTERS, question.choices, strict=False)
    options = [f"\n{letter}. {choice}" for letter, choice in listed] if letters else []
    before, after = form.split("{question}")
    return f"{before}{question.text}{''.join(options)}{after}"


def _answer_of(question: Question, chains: bool, letters: bool) -> str:
    answer = question.answer
    if letters and question.choices:
        answer = LETTERS[question.choices.index(answer)]
    if chains and question.reasoning:
        return f"{question.reasoning} {ANSWER_PHRASE} {answer}."
    return answer


def extract_answer(text: str, *, chains: bool) -> str:
    """Return the answer of a generated text: what follows `The answer is` in a chain of thought,
    else the first line."""
    if chains:
        return CHAIN_ANSWER(text.strip())
    return text.strip().split("\n")[0].strip() or INVALID
