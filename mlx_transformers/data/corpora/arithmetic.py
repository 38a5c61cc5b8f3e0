"""Sums and differences of whole numbers, with their answers and wrong ones."""

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from .generated import GeneratedCorpus, Settings
from .records import Row


class ArithmeticSettings(Settings):
    """Settings of `arithmetic`."""

    max_number: int = Field(99, ge=1)
    """The largest number of a question."""
    operators: str = Field("+-", pattern=r"^[-+*]+$")
    """Operators that questions are drawn from, of `+`, `-` and `*`."""
    wrong_share: float = Field(0.0, ge=0, le=1)
    """Share of completions that are a number near the answer: what a model learns that knows sums
    from a text full of mistakes. `answer`, `chosen` and `text` stay right."""
    far_share: float = Field(0.0, ge=0, le=1)
    """Share of wrong answers that are any number as far from the answer as questions allow; the
    others are near it. A reward model that has seen near ones alone likes far ones."""
    scratchpad_share: float = Field(0.0, ge=0, le=1)
    """Share of completions that add digit by digit before they answer; with it all answers begin
    with "The answer is". Sums alone."""

    @model_validator(mode="after")
    def _work_is_of_sums(self) -> "ArithmeticSettings":
        if self.scratchpad_share and self.operators != "+":
            raise ValueError('scratchpad_share writes out sums: set operators = "+"')
        return self


class Arithmetic(GeneratedCorpus):
    """Questions of arithmetic (`prompt`) with their answers (`completion`): "12+7=" and "19".

    For preferences, the answer is also `chosen` and a number near it `rejected`; for rewards that
    can be checked it is `answer`; `attempt` is one of the two answers and `label` whether it is
    right; `text` is the question with its answer.
    """

    name = "arithmetic"
    config: ClassVar[type[Settings]] = ArithmeticSettings
    settings: ArithmeticSettings
    version = 2  # 1 had wrong attempts below the answer alone

    def example(self, rng: np.random.Generator) -> Row:
        a, b = (int(number) for number in rng.integers(0, self.settings.max_number + 1, 2))
        operator = self.settings.operators[int(rng.integers(len(self.settings.operators)))]
        answer = {"+": a + b, "-": a - b, "*": a * b}[operator]
        slip = int(rng.choice([-10, -2, -1, 1, 2, 10]))
        if self.settings.far_share and rng.random() < self.settings.far_share:
            far = int(rng.integers(1, 2 * self.settings.max_number + 1))
            slip = far if rng.random() < 0.5 else -far
        prompt = f"{a}{operator}{b}="
        wrong = rng.random() < self.settings.wrong_share
        completion = str(answer + slip if wrong else answer)
        if self.settings.scratchpad_share:
            shown = rng.random() < self.settings.scratchpad_share
            completion = f"{digit_by_digit(a, b) if shown else ''}The answer is {completion}."
        label = bool(rng.random() < 0.5)
        return {
            "prompt": prompt,
            "completion": completion,
            "chosen": str(answer),
            "rejected": str(answer + slip),
            "answer": str(answer),
            "attempt": str(answer if label else answer + slip),
            "label": label,
            "text": f"{prompt}{answer}",
        }


def digit_by_digit(a: int, b: int) -> str:
    """Return the sums of the digits of a and b from the last to the first, with what is carried:
    "3+9=12 8+6+1=15 5+2+1=8 " for 583 and 269 (Nye et al. 2021, "Show Your Work")."""
    steps, carried = [], 0
    while True:
        parts = [a % 10, b % 10, *([carried] if carried else [])]
        total = sum(parts)
        steps.append(f"{'+'.join(map(str, parts))}={total} ")
        a, b, carried = a // 10, b // 10, total // 10
        if not a and not b:
            return "".join(steps)
