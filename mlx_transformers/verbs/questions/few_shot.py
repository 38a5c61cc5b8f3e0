"""In-context learning: accuracy by the number of examples in the prompt.

Examples at random or the nearest ones (Liu et al. 2021, "What Makes Good In-Context Examples for
GPT-3?"); chains of thought (Wei et al. 2022), the model's own where it reaches the right answer;
voting over drawn chains (Wang et al. 2022, "Self-Consistency"); and voting over shuffled choices:
the parts of Medprompt (Nori et al. 2023).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ...assembly.saved import load
from ...core.errors import RunError
from ...data.tokenizers.tokenizer import Tokenizer
from ...decode.generate import generate_batch
from ...decode.sample import Sampling
from ...decode.windows import Window, continuation_window, score_windows
from ...models.model import Decodable
from ...score.extract import majority
from ...score.interval import Score, mean
from ..embed import Embedder, open_embedder
from .question import (
    ANSWER_PHRASE,
    FORM,
    LETTERS,
    NORMALISED,
    Question,
    check_form,
    check_readable,
    extract_answer,
    prompt,
    read_questions,
    space_before_answer,
)

Pick = Literal["random", "nearest"]
CHAIN_TOKENS, ANSWER_TOKENS = 200, 32
"""The most tokens of an answer, with and without a chain of thought."""
STEP_BY_STEP = " Let's think step by step."
VOTE = Sampling(0.7)
"""How chains of thought are drawn for a vote."""


@dataclass(frozen=True)
class FewShot:
    """Settings of questions with examples in the prompt.

    Attributes:
        pick: which examples are shown: random ones, or those nearest to the question.
        chains: whether answers are chains of thought.
        votes: answers that are drawn, of which the most frequent counts; 1 takes the most probable
            tokens.
        shuffles: orders in which lettered choices are asked, of which the most frequent answer
            counts; 0 compares the probabilities of the choices' own texts.
        seed: of random examples, orders and draws.
        form: the text of an example.

    Raises:
        RunError: a number is out of range, or the form lacks a field.
    """

    pick: Pick = "random"
    chains: bool = False
    votes: int = 1
    shuffles: int = 0
    seed: int = 0
    form: str = FORM

    def __post_init__(self) -> None:
        if self.pick not in ("random", "nearest"):
            raise RunError(f"--pick {self.pick}: examples are picked random or nearest.")
        if self.votes < 1 or self.shuffles < 0:
            raise RunError("--votes is 1 or more, and --shuffles 0 or more.")
        check_form(self.form)


@dataclass(frozen=True)
class Point:
    """The accuracy with a number of examples in the prompt."""

    shots: int
    accuracy: Score


class Asker:
    """A model that answers questions with examples from a pool."""

    def __init__(
        self,
        model: Decodable,
        tokenizer: Tokenizer,
        how: FewShot,
        pool: Sequence[Question],
        embed: Callable[[Sequence[str]], np.ndarray] | None = None,
    ) -> None:
        """
        Args:
            model: the model.
            tokenizer: its tokenizer.
            how: settings of the questions.
            pool: questions that examples are taken from; the question itself never is.
            embed: vectors of questions, for the nearest ones.
        """
        self._model, self._tokenizer, self._how = model, tokenizer, how
        self._pool = list(pool)
        self._embed = embed
        self._vectors = (
            None if embed is None else _unit(embed([question.text for question in pool]))
        )

    def accuracy(self, questions: Sequence[Question], shots: int) -> Point:
        """Answer questions with `shots` examples each.

        Raises:
            RunError: the pool is too small, or a prompt doesn't fit into the model's context.
        """
        alone = not any(question.examples for question in questions)
        if alone and shots >= len(self._pool) and shots:
            raise RunError(
                f"{shots} examples need more than {shots} questions to take them from: there are "
                f"{len(self._pool)}."
            )
        examples = self._examples(questions, shots)
        pairs = list(zip(questions, examples, strict=True))
        answers = (
            self._likeliest_choices(pairs)
            if questions[0].choices
            else self._generated_answers(pairs)
        )
        right = [NORMALISED.same(a, q.answer) for a, q in zip(answers, questions, strict=True)]
        return Point(shots, mean("accuracy", np.array(right, dtype=np.float64)))

    def with_own_chains(self, tries: int) -> "Asker":
        """Return an asker whose pool has the model's own chains of thought, of those of the first
        `tries` questions without one that reach the right answer; the others are left out.

        Raises:
            RunError: no chain reaches its answer.
        """
        missing = [item for item in self._pool if item.reasoning is None][:tries]
        with_reasoning = [item for item in self._pool if item.reasoning is not None]
        prompts = [self._prompt([], item) + STEP_BY_STEP for item in missing]
        texts = self._generated(prompts, Sampling(0.0))
        for question, text in zip(missing, texts, strict=True):
            thought, _, _ = text.rpartition(ANSWER_PHRASE)
            if NORMALISED.same(extract_answer(text, chains=True), question.answer):
                with_reasoning.append(replace(question, reasoning=thought.strip()))
        if not with_reasoning:
            raise RunError(
                f"None of the model's {len(missing)} chains of thought reaches the right answer: "
                "give rows with 'reasoning'."
            )
        return Asker(self._model, self._tokenizer, self._how, with_reasoning, self._embed)

    def _examples(self, questions: Sequence[Question], shots: int) -> list[list[Question]]:
        rng = np.random.default_rng(self._how.seed)
        order = np.argsort(rng.random((len(questions), len(self._pool))), axis=1)
        if self._how.pick == "nearest" and shots:
            if self._embed is None or self._vectors is None:
                raise RunError("The nearest examples need embeddings.")
            near = _unit(self._embed([item.text for item in questions])) @ self._vectors.T
            order = np.argsort(-near, axis=1, kind="stable")
        examples = []
        for question, row in zip(questions, order, strict=True):
            if question.examples:
                examples.append(_own(question, shots))
                continue
            nearest = [self._pool[i] for i in row if self._pool[i].text != question.text][:shots]
            if len(nearest) < shots:
                raise RunError(
                    f"{shots} examples are more than the {len(nearest)} questions that differ from "
                    f"'{question.text[:40]}': give a smaller number to --shots, or a --pool."
                )
            examples.append(nearest[::-1])  # the nearest one last, beside the question
        return examples

    def _likeliest_choices(self, pairs: list[tuple[Question, list[Question]]]) -> list[str]:
        """The most probable choice of each question, by a vote where choices are shuffled."""
        rng = np.random.default_rng(self._how.seed + 1)
        letters = self._how.shuffles > 0
        votes: list[list[str]] = [[] for _ in pairs]
        for _ in range(max(1, self._how.shuffles)):
            orders = [
                (_shuffled(question, rng) if letters else question, shots)
                for question, shots in pairs
            ]
            windows, owners = [], []
            for number, (question, shots) in enumerate(orders):
                text = self._prompt(shots, question, letters=letters)
                for i, choice in enumerate(question.choices):
                    answer = LETTERS[i] if letters else choice
                    windows.append(self._window(text, space_before_answer(self._how.form) + answer))
                    owners.append(number)
            scores = np.array(
                [score.loglikelihood for score in score_windows(self._model, windows)]
            )
            for number, (question, _) in enumerate(orders):
                choice_scores = scores[np.array(owners) == number]
                votes[number].append(question.choices[int(choice_scores.argmax())])
        return [majority(answers) for answers in votes]

    def _generated_answers(self, pairs: list[tuple[Question, list[Question]]]) -> list[str]:
        """The answer written to each question, the most frequent of several draws."""
        chains = self._how.chains
        texts = [self._prompt(shots, question) for question, shots in pairs]
        texts = [text + STEP_BY_STEP if chains and not pairs[0][1] else text for text in texts]
        sampling = VOTE if self._how.votes > 1 else Sampling(0.0)
        drawn = [self._generated(texts, sampling, draw) for draw in range(self._how.votes)]
        rows = zip(*drawn, strict=True)
        return [majority([extract_answer(text, chains=chains) for text in row]) for row in rows]

    def _prompt(
        self, shots: Sequence[Question], question: Question, *, letters: bool = False
    ) -> str:
        chains = self._how.chains and not question.choices
        return prompt(shots, question, chains=chains, letters=letters, form=self._how.form)

    def _generated(self, texts: list[str], sampling: Sampling, draw: int = 0) -> list[str]:
        most = CHAIN_TOKENS if self._how.chains else ANSWER_TOKENS
        stop = ("\n\n", "Question:") if self._how.chains else ("\n",)
        groups = generate_batch(
            self._model,
            self._tokenizer,
            texts,
            max_tokens=most,
            sampling=sampling,
            seed=self._how.seed + draw * len(texts),
            stop=stop,
        )
        return [group[0].text for group in groups]

    def _window(self, text: str, answer: str) -> Window:
        before = [*self._tokenizer.prefix, *self._tokenizer.encode(text)]
        answer_tokens = [*self._tokenizer.prefix, *self._tokenizer.encode(text + answer)][
            len(before) :
        ]
        return continuation_window(before, answer_tokens, self._model.max_seq_len)


def learning_curve(
    run: str | Path | None,
    file: Path,
    shots: Sequence[int],
    how: FewShot,
    *,
    pool: Path | None = None,
    embedder: str | None = None,
    limit: int | None = None,
) -> list[Point]:
    """Measure a run on a task file, with each number of examples.

    Args:
        run: a run's name or folder, or a checkpoint's; None takes the newest run.
        file: the questions.
        shots: numbers of examples in the prompt.
        how: how questions are asked.
        pool: a file of further questions, which examples are taken from; None takes them from the
            other questions of the file.
        embedder: the run whose model embeds questions for the nearest examples; None takes the
            measured one.
        limit: how many questions are asked; None asks all.

    Raises:
        MlxtError: as `read_questions`, `load` and `Asker`.
    """
    questions = read_questions(file)
    _check_kind(file, questions, how)
    examples = read_questions(pool) if pool else questions
    model, tokenizer = load(run)
    if "causal_lm" not in model.tasks or not isinstance(model, Decodable):
        raise RunError("Questions are for models that continue a text, and this run's doesn't.")
    check_readable(how.form, tokenizer)
    embed = None
    if how.pick == "nearest":
        embed = open_embedder(embedder) if embedder else Embedder(model, tokenizer, "mean")
    asker = Asker(model, tokenizer, how, examples, embed)
    if how.chains and not any(example.reasoning for example in examples) and any(shots):
        asker = asker.with_own_chains(4 * max(shots))
    return [asker.accuracy(questions[:limit], n) for n in shots]


def _check_kind(file: Path, questions: Sequence[Question], how: FewShot) -> None:
    """Refuse questions of two kinds, and settings that have no effect on their kind.

    Raises:
        RunError: some have choices and others don't, or a setting is for the others.
    """
    if len({bool(question.choices) for question in questions}) > 1:
        raise RunError(
            f"{file} has questions with 'choices' and others without: one accuracy can't be of "
            "both, so make a file of each."
        )
    if questions[0].choices and (how.chains or how.votes > 1):
        raise RunError(
            f"--chains and --votes are for answers that are written, and the questions of {file} "
            "have 'choices', which are compared: leave them out, or take --shuffles."
        )
    if how.shuffles and not questions[0].choices:
        raise RunError(
            f"--shuffles is for questions with 'choices', which those of {file} don't have: leave "
            "it out."
        )


def _own(question: Question, shots: int) -> list[Question]:
    """The first of a question's own examples.

    Raises:
        RunError: there are fewer.
    """
    if shots > len(question.examples):
        raise RunError(
            f"{shots} examples are more than the {len(question.examples)} of the question "
            f"'{question.text[:40]}': give a smaller number to --shots."
        )
    return list(question.examples[:shots])


def _shuffled(question: Question, rng: np.random.Generator) -> Question:
    order = rng.permutation(len(question.choices))
    return replace(question, choices=tuple(question.choices[i] for i in order))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
