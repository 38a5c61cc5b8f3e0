"""Task heads of published encoders: head and pool of each `...For<Task>` class, and their tensors.

`BertForSequenceClassification` is an encoder and a classifier of its first vector, `ElectraModel`
the encoder alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ..core.errors import ConvertError, unknown
from ..recipe.merge import Table
from .config import HfConfig
from .flat_model import MISSING, FlatModel
from .rows import Row

TASKS = (
    *("Model", "ForPreTraining", "ForMaskedLM", "ForNextSentencePrediction"),
    *("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"),
    "ForMultipleChoice",
)
"""Suffixes of class names."""
DROPOUTS = ("classifier_dropout", "classifier_dropout_prob")
"""Dropout keys of heads; an encoder without such a head doesn't use them."""
LABELS = 2
"""Classes if config.json doesn't say."""


@dataclass(frozen=True)
class TaskHead:
    """Head and pool of one task, with the rows of their tensors.

    Attributes:
        head: the table of the head, or None.
        pool: the table of the pool, or None.
        rows: the rows of both.
    """

    head: Table | None = None
    pool: Table | None = None
    rows: list[Row] = field(default_factory=list)

    def tables(self) -> Table:
        """Return the keys that both add to a model's table."""
        both = {"head": self.head, "pool": self.pool}
        return {name: table for name, table in both.items() if table is not None}


def task_of(config: HfConfig, default: str, *also: str) -> str:
    """Return the task of the saved class; `default` if the config names no class.

    Raises:
        ConvertError: a task that isn't built.
    """
    config.ignore("tie_word_embeddings", "num_labels", *DROPOUTS)
    name = config.architecture
    if not name:
        return default
    match = re.search(r"(For[A-Z]\w+|ModelWithLMHead|LMHeadModel|Model|Decoder|Encoder)$", name)
    task = match[1] if match else name
    if task not in (*TASKS, *also):
        message = unknown("task", task, (*TASKS, *also))
        raise ConvertError(f"{config.where}: architectures = ['{name}']: {message}")
    return task


def n_labels(config: HfConfig) -> int:
    """Return the number of classes; a multiple-choice head has one, the score."""
    if config.architecture.endswith("ForMultipleChoice"):
        return 1
    labels = config.data.get("id2label")
    count = config.optional("num_labels")
    return len(labels) if labels else count or LABELS


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


def architecture_of(title: str, writes: str | None = None) -> Callable[[FlatModel], Table]:
    """Return a writer of the class of an encoder and of its labels.

    Args:
        title: prefix of the family's class names.
        writes: suffix of the name of its causal class.
    """

    def write(view: FlatModel) -> Table:
        if writes and view.get("kind") == "decoder":
            return {"architectures": [f"{title}{writes}"], "is_decoder": True}
        kinds = tuple((view.table.get(slot) or {}).get("kind") for slot in ("head", "pool"))
        if kinds not in PARTS:
            raise ConvertError(f"No class of {title} has the head and the pool {kinds}.")
        classes = {"architectures": [f"{title}{PARTS[kinds]}"]}
        count = view.get("head.n_classes" if kinds[0] == "tags" else "pool.n_classes")
        labelled = kinds[0] not in ("mlm", "lm") and count is not MISSING
        return classes | (label_names(count) if labelled else {})

    return write


def label_names(n_classes: int) -> Table:
    """Return the two tables that name the classes of a classifier."""
    names = [f"LABEL_{number}" for number in range(n_classes)]
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def token_classifier(config: HfConfig, task: str) -> TaskHead:
    """Return a classifier of every token; for question answering: start and end."""
    theirs = "qa_outputs" if task.startswith("ForQuestionAnswering") else "classifier"
    head = {"kind": "tags", "n_classes": n_labels(config)}
    return TaskHead(head, None, [Row("head.out", theirs)])


def classifier(
    config: HfConfig, pooler: str | None, theirs: str, *, dropout: float = 0.0, **options: object
) -> TaskHead:
    """Return a sequence classifier after a pooler's linear layer (none if `pooler` is None)."""
    n_classes = options.pop("n_classes", None) or n_labels(config)
    pool: Table = {"kind": "classifier", "n_classes": n_classes, "dropout": dropout, **options}
    rows = [Row("pool.out", theirs)]
    if pooler is None:
        return TaskHead(None, pool | {"activation": None}, rows)
    return TaskHead(None, pool, [Row("pool.map", pooler), *rows])


def pooler_head(pooler: str) -> TaskHead:
    """Return the pooled vector of the first token."""
    pool = {"kind": "sentence", "reads": "first", "activation": "tanh", "normalize": False}
    return TaskHead(None, pool, [Row("pool.map", pooler)])
