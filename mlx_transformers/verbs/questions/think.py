"""Accuracy against test-time compute: by the samples that an answer is chosen from, and by the
tokens that a chain of thought may have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...assembly.saved import load
from ...core.errors import RunError
from ...data.tokenizers.tokenizer import Tokenizer
from ...decode.generate import generate_batch
from ...decode.sample import Sampling
from ...models.model import Decodable
from ...rl.judges import ModelReward
from ...rl.response import Judge, Response
from ...score.extract import majority
from ...score.interval import Score, mean
from .question import (
    ANSWER_PHRASE,
    FORM,
    NORMALISED,
    Question,
    check_form,
    check_readable,
    extract_answer,
    prompt,
    read_plain_questions,
)

STOPS = ("\n\n", "Question:")


@dataclass(frozen=True)
class Thinking:
    """How answers are drawn.

    Attributes:
        samples: numbers of answers that one is chosen from.
        budgets: tokens that a chain of thought may have before its answer is asked for; none draws
            answers without a limit of their own.
        reward: a run with a pool of kind `scalar`, by which the best answer is chosen too.
        chains: whether an answer stands behind "The answer is"; budgets need it.
        form: the text of an example.
        max_tokens: the most tokens of an answer with its chain.
        temp: temperature of samples; a single sample with budgets takes the most probable tokens.
        seed: of the draws.

    Raises:
        RunError: a number is out of range, or there is nothing to compare.
    """

    samples: tuple[int, ...] = ()
    budgets: tuple[int, ...] = ()
    reward: str | None = None
    chains: bool = False
    form: str = FORM
    max_tokens: int = 200
    temp: float = 0.7
    seed: int = 0

    def __post_init__(self) -> None:
        if bool(self.samples) == bool(self.budgets):
            raise RunError("Give --samples 1,2,4,8 or --budgets 0,16,32, one of them.")
        if min((*self.samples, 1)) < 1 or min((*self.budgets, 0)) < 0:
            raise RunError("--samples are 1 or more, and --budgets 0 or more.")
        if self.budgets and (not self.chains or self.reward):
            raise RunError(
                "--budgets limit chains of thought, which end in 'The answer is': give --chains "
                "with them, and no --reward."
            )
        if max((*self.samples, 1)) > 1 and not self.temp:
            raise RunError("--temp 0 draws the same answer again: set it above 0.")
        check_form(self.form)


@dataclass(frozen=True)
class Point:
    """A point of the curve.

    Attributes:
        rule: how one of the answers was chosen: "majority", "reward" or "any", which counts a
            question as solved if one of its answers is right; "budget" for one answer.
        amount: answers, or tokens of a chain of thought.
        tokens: tokens that were generated for a question, on average.
        accuracy: share of questions answered rightly.
    """

    rule: str
    amount: int
    tokens: float
    accuracy: Score


def compute_curve(
    run: str | Path | None, file: Path, how: Thinking, limit: int | None = None
) -> list[Point]:
    """Measure the accuracy of a run on a file of questions with each amount of compute.

    Self-consistency (Wang et al. 2022); best-of-n by a reward model (Stiennon et al. 2020, section
    4.3); the share that any of n samples solves (Brown et al. 2024, "Large Language Monkeys"); and
    chains cut at a budget, after which the answer is asked for (Muennighoff et al. 2025, "s1",
    section 3.1).

    Args:
        run: a run's name or folder, or a checkpoint's; None takes the newest run.
        file: the questions.
        how: how answers are drawn, and the amounts.
        limit: how many questions are asked; None asks all.

    Raises:
        MlxtError: as `read_plain_questions` and `load`, or the model doesn't continue texts, or a
            prompt doesn't fit into its context.
    """
    questions = read_plain_questions(file)[:limit]
    model, tokenizer = load(run)
    if "causal_lm" not in model.tasks or not isinstance(model, Decodable):
        raise RunError("Questions are for models that continue a text, and this run's doesn't.")
    check_readable(how.form, tokenizer)
    if how.budgets:
        return [_budget(model, tokenizer, questions, how, budget) for budget in how.budgets]
    return _sampled(model, tokenizer, questions, how)


def _sampled(
    model: Decodable, tokenizer: Tokenizer, questions: Sequence[Question], how: Thinking
) -> list[Point]:
    texts = [_prompt_of(question, how) for question in questions]
    most = max(how.samples)
    drawn = generate_batch(
        model,
        tokenizer,
        texts,
        samples=most,
        max_tokens=how.max_tokens,
        sampling=Sampling(how.temp),
        seed=how.seed,
        stop=STOPS if how.chains else ("\n",),
    )
    answers = [
        [extract_answer(generated.text, chains=how.chains) for generated in row] for row in drawn
    ]
    right = np.array(
        [
            [NORMALISED.same(answer, question.answer) for answer in row]
            for row, question in zip(answers, questions, strict=True)
        ]
    )
    n_tokens = float(np.mean([generated.tokens for row in drawn for generated in row]))
    rewards = None
    if how.reward is not None:
        written = [[generated.text for generated in row] for row in drawn]
        rewards = _rewards(how.reward, texts, written)
    points = []
    for n in how.samples:
        chosen: dict[str, list[bool]] = {
            "majority": [
                NORMALISED.same(majority(row[:n]), question.answer)
                for row, question in zip(answers, questions, strict=True)
            ]
        }
        if rewards is not None:
            best = rewards[:, :n].argmax(axis=1)
            chosen["reward"] = [bool(row[i]) for row, i in zip(right, best, strict=True)]
        chosen["any"] = [bool(row[:n].any()) for row in right]
        points += [Point(rule, n, n * n_tokens, _score(found)) for rule, found in chosen.items()]
    return points


def _budget(
    model: Decodable,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    how: Thinking,
    budget: int,
) -> Point:
    """The accuracy where a chain that has no answer after `budget` tokens is cut there."""
    texts = [_prompt_of(question, how) for question in questions]
    chains = [""] * len(texts)
    if budget:
        found = generate_batch(
            model, tokenizer, texts, stop=STOPS, max_tokens=budget, sampling=Sampling(0.0)
        )
        chains = [row[0].text for row in found]
    thoughts = [thought_of(text) for text in chains]
    forced = [
        f"{text}{thought}{' ' if thought and not thought.endswith(chr(10)) else ''}{ANSWER_PHRASE}"
        for text, thought in zip(texts, thoughts, strict=True)
    ]
    found = generate_batch(
        model, tokenizer, forced, stop=(*STOPS, ". "), max_tokens=32, sampling=Sampling(0.0)
    )
    right = [
        NORMALISED.same(
            extract_answer(f"{ANSWER_PHRASE}{row[0].text}", chains=True), question.answer
        )
        for row, question in zip(found, questions, strict=True)
    ]
    spent = [
        len(tokenizer.encode(thought)) + row[0].tokens
        for thought, row in zip(thoughts, found, strict=True)
    ]
    return Point("budget", budget, float(np.mean(spent)), _score(right))


def thought_of(chain: str) -> str:
    """Return a chain of thought without its answer, or the beginning of one where it was cut."""
    thought = chain.partition(ANSWER_PHRASE)[0]
    for n in range(len(ANSWER_PHRASE), 0, -1):
        before = thought.removesuffix(ANSWER_PHRASE[:n])
        if before != thought and (not before or before[-1].isspace()):
            return before.rstrip(" ")
    return thought.rstrip(" ")


def _prompt_of(question: Question, how: Thinking) -> str:
    return prompt([], question, chains=how.chains, letters=False, form=how.form)


def _rewards(run: str, prompts: Sequence[str], texts: Sequence[Sequence[str]]) -> np.ndarray:
    """The numbers `[questions, samples]` that a reward model gives to answers."""
    model, tokenizer = load(run)
    score = ModelReward(kind="model", run=run).build(Judge(model, tokenizer))
    answers = [
        Response(prompt, text, [], [], True, {})
        for prompt, row in zip(prompts, texts, strict=True)
        for text in row
    ]
    return np.array(score(answers)).reshape(len(prompts), -1)


def _score(right: Sequence[bool]) -> Score:
    return mean("accuracy", np.array(right, dtype=np.float64))
