"""Rewards of completions, slot `reward`: what can be computed from the text alone.

exact      the answer equals the record's
numeric    the last number of the completion is the record's
length     the number of tokens lies within bounds
format     a regular expression matches the completion
function   a Python function, `module:function`
"""

import importlib
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from ..core.errors import RecipeError, RunError
from ..recipe.config import Kind
from .response import Judge, Response

Reward = Callable[[Sequence[Response]], Sequence[float]]
"""The reward of each completion."""

LARGEST = 1e15
"""Largest size of a reward with its weight: the squares of its differences are finite in float32,
so that advantages are."""
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


class RewardKind(Kind):
    """A kind of reward."""

    weight: float = 1.0
    """Factor of the reward in the sum of all."""

    def frozen(self) -> str | None:
        """The run that the reward reads; None where it reads none."""
        return None

    @abstractmethod
    def build(self, judge: Judge | None) -> Reward:
        """The function; `judge` is the model of `frozen`.

        Raises:
            RecipeError: it can't be built, such as a function that isn't there.
        """


class Exact(RewardKind):
    """1 where the completion is the record's answer, else 0; white space around both is ignored.
    With a `pattern` the answer is what its first group matches last (the number after ####)."""

    kind: Literal["exact"] = "exact"
    answer_key: str = "answer"
    """Field of the right answer."""
    pattern: str | None = None
    """Regular expression with one group that finds the answer in a completion."""

    @field_validator("pattern")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and _regex(pattern).groups < 1:
            raise ValueError("the pattern has no group: put the answer in parentheses")
        return pattern

    def build(self, judge: Judge | None) -> Reward:
        pattern = None if self.pattern is None else _regex(self.pattern)

        def one(response: Response) -> float:
            found = response.completion
            if pattern is not None:
                matches = list(pattern.finditer(found))
                found = (matches[-1][1] or "") if matches else ""
                if not matches:
                    return 0.0
            return float(found.strip() == str(_field(response, self.answer_key)).strip())

        return lambda responses: [one(response) for response in responses]


class Numeric(RewardKind):
    """1 where the last number of the completion is the record's answer, else 0."""

    kind: Literal["numeric"] = "numeric"
    answer_key: str = "answer"
    """Field of the right answer, a number or a text whose last number it is."""
    tolerance: float = Field(0.0, ge=0)
    """Largest difference that still counts as equal."""

    def build(self, judge: Judge | None) -> Reward:
        def one(response: Response) -> float:
            right = last_number(str(_field(response, self.answer_key)))
            if right is None:
                raise RunError(
                    f"The field '{self.answer_key}' of the prompt {response.prompt!r:.80} has no "
                    "number, which the reward 'numeric' compares with."
                )
            found = last_number(response.completion)
            return float(found is not None and abs(found - right) <= self.tolerance)

        return lambda responses: [one(response) for response in responses]


class Length(RewardKind):
    """1 where the completion has from `least` to `most` tokens, falling by 1 / `slope` for each
    token outside, down to 0 (the soft punishment of DAPO, Yu et al. 2025, equation 13)."""

    kind: Literal["length"] = "length"
    least: int = Field(0, ge=0)
    """Fewest tokens, the end token included."""
    most: int = Field(ge=1)
    """Most tokens."""
    slope: float = Field(1.0, gt=0)
    """Tokens outside the bounds at which the reward is 0."""

    def build(self, judge: Judge | None) -> Reward:
        def one(response: Response) -> float:
            n = len(response.tokens)
            outside = max(self.least - n, n - self.most, 0)
            return max(0.0, 1.0 - outside / self.slope)

        return lambda responses: [one(response) for response in responses]


class Format(RewardKind):
    """1 where a regular expression matches the whole completion, else 0; `.` matches newlines."""

    kind: Literal["format"] = "format"
    pattern: str
    """The regular expression, such as "<think>.*</think>\\\\s*<answer>.*</answer>"."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        _regex(pattern)
        return pattern

    def build(self, judge: Judge | None) -> Reward:
        pattern = re.compile(self.pattern, re.DOTALL)
        return lambda responses: [float(bool(pattern.fullmatch(a.completion))) for a in responses]


class Function(RewardKind):
    """A Python function `(prompts, completions, records) -> numbers`, one for each completion."""

    kind: Literal["function"] = "function"
    function: str = Field(pattern=r"^[\w.]+:\w+$")
    """Its module, which Python can import, and its name: "module:function"."""

    def build(self, judge: Judge | None) -> Reward:
        function = _imported(self.function)

        def all_of(responses: Sequence[Response]) -> Sequence[float]:
            found: Sequence[float] = function(
                [response.prompt for response in responses],
                [response.completion for response in responses],
                [dict(response.record) for response in responses],
            )
            return found

        return all_of


def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    try:
        found = vars(importlib.import_module(module)).get(attribute)
    except ImportError as error:
        raise RecipeError(
            f"The reward '{name}' can't be imported: {error}. Install the module, or put its "
            "folder on PYTHONPATH."
        ) from None
    if not callable(found):
        raise RecipeError(f"The reward '{name}': module {module} has no function '{attribute}'.")
    function: Callable[..., Any] = found
    return function


def _field(response: Response, key: str) -> Any:
    if key not in response.record:
        have = ", ".join(response.record)
        raise RunError(
            f"A reward reads the field '{key}', and the row of the prompt {response.prompt!r:.80} "
            f"has {have}: set answer_key to the right one."
        )
    return response.record[key]


def last_number(text: str) -> float | None:
    """The last number of a text, commas between digits left out; None where it has none."""
    numbers = NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None


class Rewards:
    """The weighted sum of several rewards, checked.

    Attributes:
        names: the rewards, in the order of the recipe.
        replaced: rewards that were not finite or failed and became 0, since the beginning.
    """

    def __init__(
        self,
        kinds: Mapping[str, RewardKind],
        judges: Mapping[str, Judge],
        on_error: Literal["stop", "zero"],
    ) -> None:
        self.names = list(kinds)
        self.replaced = 0
        self._weights = {name: kind.weight for name, kind in kinds.items()}
        self._rewards = {name: kind.build(judges.get(name)) for name, kind in kinds.items()}
        self._on_error = on_error

    def __call__(self, responses: Sequence[Response]) -> tuple[list[float], dict[str, list[float]]]:
        """The total reward of each completion, and each reward by name.

        Raises:
            RunError: a reward raises, returns the wrong count or something that isn't a finite
                number, and the recipe says to stop.
        """
        by_name = {name: self._checked(name, responses) for name in self.names}
        totals = [
            sum(self._weights[name] * values[i] for name, values in by_name.items())
            for i in range(len(responses))
        ]
        return totals, by_name

    def _checked(self, name: str, responses: Sequence[Response]) -> list[float]:
        n = len(responses)
        try:
            values = [float(value) for value in self._rewards[name](responses)]
            if len(values) != n:
                raise RunError(f"it returned {len(values)} numbers for {n} completions")
        except Exception as error:  # a function of the user's may raise anything
            if self._on_error == "stop":
                raise RunError(
                    f"The reward '{name}' failed: {type(error).__name__}: "
                    f"{str(error).rstrip('.')}. Correct it and resume the run, or set "
                    "source.on_error = 'zero' to count such rewards as 0."
                ) from error
            self.replaced += n
            return [0.0] * n
        for i, value in enumerate(values):
            if abs(self._weights[name] * value) <= LARGEST:
                continue
            if self._on_error == "stop":
                raise RunError(
                    f"The reward '{name}' of the completion {responses[i].completion!r:.80} to "
                    f"{responses[i].prompt!r:.80} is {value}, and a reward is a finite number, "
                    f"with its weight at most {LARGEST:.0e}. "
                    "Correct it and resume the run, or set source.on_error = 'zero'."
                )
            self.replaced += 1
            values[i] = 0.0
        return values
