"""Conversations in which the assistant calls a calculator, or answers by itself without one."""

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from .generated import GeneratedCorpus, Settings
from .records import Row

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Compute an arithmetic expression exactly.",
        "parameters": {
            "type": "object",
            "properties": {
                "expression": {"type": "string", "description": "such as 12 * (3 + 4.5)"},
            },
            "required": ["expression"],
        },
    },
}
"""The calculator as `mlxt chat`, `generate` and `serve` describe it to a model."""

WORDINGS = {
    "+": ("{a}+{b}", "{a} plus {b}", "add {b} to {a}"),
    "-": ("{a}-{b}", "{a} minus {b}", "take {b} from {a}"),
    "*": ("{a}*{b}", "{a} times {b}", "multiply {a} by {b}"),
}
"""The questions that an expression is asked in."""


class CalculatorSettings(Settings):
    """Settings of `calculator`."""

    max_digits: int = Field(4, ge=1, le=9)
    """Digits of the largest numbers; all lengths are equally frequent."""
    min_digits: int = Field(1, ge=1, le=9)
    """Digits of the smallest numbers."""
    wordings: int = Field(3, ge=1, le=3)
    """Ways to ask for the same expression; 1 asks "12*34" alone."""
    operators: str = Field("+-*", pattern=r"^[-+*]+$")
    """Operators that questions are drawn from, of `+`, `-` and `*`."""
    tool_share: float = Field(0.75, ge=0, le=1)
    """Share of conversations with a calculator; in the others the assistant answers at once."""

    @model_validator(mode="after")
    def _digits_are_a_range(self) -> "CalculatorSettings":
        if self.min_digits > self.max_digits:
            raise ValueError(
                f"min_digits = {self.min_digits} is more than max_digits = {self.max_digits}"
            )
        return self


class CalculatorCalls(GeneratedCorpus):
    """Questions of arithmetic that are answered by calling a calculator, or without one.

    `messages` and `tools` are a conversation with the call and its result, `question` and `answer`
    its first and last message, `text` both. A question is on one side of a split, whether it is
    asked with a calculator or without.

    Schick et al. 2023, "Toolformer", section 2.
    """

    name = "calculator"
    config: ClassVar[type[Settings]] = CalculatorSettings
    settings: CalculatorSettings

    def group(self, row: Row) -> str | None:
        return str(row["question"])

    def example(self, rng: np.random.Generator) -> Row:
        s = self.settings
        a, b = (_number(rng, s.min_digits, s.max_digits) for _ in range(2))
        operator = s.operators[int(rng.integers(len(s.operators)))]
        wordings = WORDINGS[operator][: s.wordings]
        question = wordings[int(rng.integers(len(wordings)))].format(a=a, b=b)
        answer = str({"+": a + b, "-": a - b, "*": a * b}[operator])
        messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
        tools = []
        if rng.random() < s.tool_share:
            tools = [TOOL]
            arguments = {"expression": f"{a}{operator}{b}"}
            call = {"name": "calculator", "arguments": arguments}
            messages += [
                {"role": "assistant", "content": "", "tool_calls": [{"function": call}]},
                {"role": "tool", "name": "calculator", "content": answer},
            ]
        messages.append({"role": "assistant", "content": answer})
        return {
            "messages": messages,
            "tools": tools,
            "question": question,
            "answer": answer,
            "text": f"{question}\n{answer}",
        }


def _number(rng: np.random.Generator, least: int, most: int) -> int:
    """A number of `least` to `most` digits; of one digit, 0 too."""
    digits = int(rng.integers(least, most + 1))
    return int(rng.integers(10 ** (digits - 1) if digits > 1 else 0, 10**digits))
