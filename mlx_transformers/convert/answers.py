"""What a published encoder is asked: its class says which head and which pool it has.

`BertForSequenceClassification` is a tower and what classifies its first vector, `ElectraModel` the
tower alone. A family tells where it keeps the tensors of each.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ConvertError, unknown
from .config import HfConfig
from .view import MISSING, View
from .weights import Row

Table = dict[str, Any]

TASKS = (
    *("Model", "ForPreTraining", "ForMaskedLM", "ForNextSentencePrediction"),
    *("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
    "ForMultipleChoice",
)
"""What may follow the name of a family in the name of a class."""
DROPOUTS = ("classifier_dropout", "classifier_dropout_prob")
"""Rates of heads; a tower without such a head has no use for them."""
LABELS = 2
"""Classes where config.json doesn't tell."""


@dataclass(frozen=True)
class Answer:
    """Head and pool of one task, and where their tensors are.

    Attributes:
        head: the table of the head, or None.
        pool: the table of the pool, or None.
        rows: the rows of both.
    """

    head: Table | None = None
    pool: Table | None = None
    rows: list[Row] = field(default_factory=list)

    def tables(self) -> Table:
        """The keys that they add to a model's table."""
        both = {"head": self.head, "pool": self.pool}
        return {name: table for name, table in both.items() if table is not None}


def task_of(config: HfConfig, default: str, *also: str) -> str:
    """The task that the saved class is made for; `default` where the config names no class.

    Raises:
        ConvertError: a task that isn't built.
    """
    config.ignore("tie_word_embeddings", "num_labels", *DROPOUTS)
    name = config.architecture
    if not name:
        return default
    match = re.search(r"(For[A-Z]\w+|LMHeadModel|Model|Decoder|Encoder)$", name)
    task = match[1] if match else name
    if task not in (*TASKS, *also):
        known = unknown("task", task, (*TASKS, *also))
        raise ConvertError(f"{config.where}: architectures = ['{name}']: {known}")
    return task


def n_labels(config: HfConfig) -> int:
    """Classes of a classifier; of texts to choose from each has one number, its score."""
    if config.architecture.endswith("ForMultipleChoice"):
        return 1
    named = config.data.get("id2label")
    given = config.get("num_labels", None)
    return len(named) if named else given or LABELS


PARTS = {
    ("mlm", "classifier"): "ForPreTraining",
    ("mlm", None): "ForMaskedLM",
    ("lm", None): "ForMaskedLM",
    ("tags", None): "ForTokenClassification",
    (None, "classifier"): "ForSequenceClassification",
    (None, "sentence"): "Model",
    (None, None): "Model",
}
"""The class with a head and a pool of these kinds."""


def asked(title: str, writes: str | None = None) -> Callable[[View], Table]:
    """What says the class of an encoder, and how many classes it tells apart.

    Args:
        title: what the names of the family's classes begin with.
        writes: what the name of the one ends with that reads one way, and writes.
    """

    def said(view: View) -> Table:
        if writes and view.get("kind") == "decoder":
            return {"architectures": [f"{title}{writes}"], "is_decoder": True}
        kinds = tuple((view.table.get(slot) or {}).get("kind") for slot in ("head", "pool"))
        if kinds not in PARTS:
            raise ConvertError(f"No class of {title} has the head and the pool {kinds}.")
        classes = {"architectures": [f"{title}{PARTS[kinds]}"]}
        count = view.get("head.n_classes" if kinds[0] == "tags" else "pool.n_classes")
        labelled = kinds[0] not in ("mlm", "lm") and count is not MISSING
        return classes | (label_names(count) if labelled else {})

    return said


def label_names(n_classes: int) -> Table:
    """The two tables that name the classes of a classifier."""
    names = [f"LABEL_{number}" for number in range(n_classes)]
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def tags(config: HfConfig, task: str) -> Answer:
    """A class for every token; where answers are sought, whether it is the first or the last."""
    theirs = "qa_outputs" if task.startswith("ForQuestionAnswering") else "classifier"
    head = {"kind": "tags", "n_classes": n_labels(config)}
    return Answer(head, None, [Row("head.out", theirs)])


def classifier(
    config: HfConfig, pooler: str | None, theirs: str, *, dropout: float = 0.0, **options: Any
) -> Answer:
    """A class for the sequence, from a pooler's map (none if `pooler` is None) and a classifier."""
    n_classes = options.pop("n_classes", None) or n_labels(config)
    pool: Table = {"kind": "classifier", "n_classes": n_classes, "dropout": dropout, **options}
    rows = [Row("pool.out", theirs)]
    if pooler is None:
        return Answer(None, pool | {"activation": None}, rows)
    return Answer(None, pool, [Row("pool.map", pooler), *rows])


def pooled(pooler: str, activation: str = "tanh") -> Answer:
    """The vector of the sequence that a pooler makes of its first token."""
    pool = {"kind": "sentence", "reads": "first", "activation": activation, "normalize": False}
    return Answer(None, pool, [Row("pool.map", pooler)])
