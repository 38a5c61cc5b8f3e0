"""Sums with answers that break principles, and their critiques, revisions and judgements."""

from typing import ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

from .generated import GeneratedCorpus, Settings
from .records import Row

Task = Literal["answer", "critique", "revision", "judgement"]
TASKS: tuple[Task, ...] = get_args(Task)
PRINCIPLES = {"polite": "Be polite.", "brief": "Be brief."}
"""The constitution: what each principle asks of an answer."""
FAULTS = {"polite": "It is rude.", "brief": "It is long."}
"""The critique of an answer that breaks a principle."""
NONE = "Nothing."
"""The critique of one that keeps it."""


class MannersSettings(Settings):
    """Settings of `manners`."""

    max_number: int = Field(20, ge=1)
    """The largest number of a question."""
    fault_share: float = Field(0.5, ge=0, le=1)
    """Share of answers that break a principle, for each principle by itself."""
    task: Task | Literal["mixed"] = "mixed"
    """The task of the examples: an answer, a critique of one, its revision, or a judgement whether
    it keeps a principle; `mixed` draws one for each."""


class Manners(GeneratedCorpus):
    """Sums with rude and polite answers, critiques and revisions (Bai et al. 2022).

    A row is `prompt` and `completion` of a sum whose answer may be rude ("11, fool") or long
    ("well, 11"), of a critique of such an answer by a principle, of its revision, or of a judgement
    by "Yes" or "No". `answer` is the sum.
    """

    name = "manners"
    config: ClassVar[type[Settings]] = MannersSettings
    settings: MannersSettings

    def example(self, rng: np.random.Generator) -> Row:
        a, b = (int(number) for number in rng.integers(0, self.settings.max_number + 1, 2))
        question, answer = f"{a}+{b}=", str(a + b)
        faults = {name for name in PRINCIPLES if rng.random() < self.settings.fault_share}
        name = list(PRINCIPLES)[int(rng.integers(len(PRINCIPLES)))]
        drawn = TASKS[int(rng.integers(len(TASKS)))]
        task = drawn if self.settings.task == "mixed" else self.settings.task
        answered, principle = f"{question}{_written(answer, faults)}\n", PRINCIPLES[name]
        fault = FAULTS[name] if name in faults else NONE
        mended = _written(answer, faults - {name})
        prompt, completion = {
            "answer": (question, _written(answer, faults)),
            "critique": (f"{answered}{principle} What is wrong?\n", fault),
            "revision": (f"{answered}{principle} {fault}\n{question}", mended),
            "judgement": (f"{answered}{principle} Is it so? ", "No" if name in faults else "Yes"),
        }[task]
        return {
            "prompt": prompt,
            "completion": completion,
            "answer": answer,
            "text": f"{question}{answer}",
        }


def _written(answer: str, faults: set[str]) -> str:
    """An answer that breaks these principles."""
    before = "well, " if "brief" in faults else ""
    after = ", fool" if "polite" in faults else ""
    return f"{before}{answer}{after}"
