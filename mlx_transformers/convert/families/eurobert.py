"""EuroBERT: LLaMA that reads both ways, with a head over masked words.

Defaults are those of `EuroBertConfig`.
"""

from ..config import HfConfig
from ..family import Family, Table
from ..flat_model import MISSING, config_writer
from ..rope import rotary
from ..rows import Row, without
from ..task_heads import TaskHead, architecture_of, classifier, task_of, token_classifier
from .llama import BIASED, LLAMA, decoder
from .llama import weights as llama_weights

POOLINGS = {"bos": "first", "mean": "mean"}
"""Their poolings, and which vector ours reads."""
READS = {ours: theirs for theirs, ours in POOLINGS.items()}


def model(config: HfConfig) -> Table:
    """Return the `[model]` table of a EuroBertConfig."""
    table = decoder(config, bias=config.get("attention_bias"))
    del table["head"]
    return {**table, "kind": "encoder", **task_head(config).tables()}


def task_head(config: HfConfig) -> TaskHead:
    """Return head and pool of a class of EuroBERT's.

    Raises:
        ConvertError: a task or a pooling that isn't built.
    """
    task, tied = task_of(config, "ForMaskedLM"), config.get("tie_word_embeddings")
    pooling = config.get("classifier_pooling")
    match task:
        case "Model":
            return TaskHead()
        case "ForTokenClassification":
            return token_classifier(config, task)
        case "ForSequenceClassification":
            if pooling not in POOLINGS:
                raise config.refuse("classifier_pooling", pooling, "'bos' and 'mean' are")
            reads = POOLINGS[pooling]
            return classifier(config, "dense", "classifier", reads=reads, activation="gelu")
        case "ForMaskedLM":
            head = {"kind": "lm", "tied": tied, "bias": config.get("mlp_bias")}
            return TaskHead(head, None, [Row("head", "lm_head")])
    raise config.refuse("architectures", config.architecture)


def weights(config: HfConfig) -> list[Row]:
    """Return the weight map of a EuroBERT."""
    return [*without(llama_weights(config), "head"), *task_head(config).rows]


EUROBERT = Family(
    model_types=("eurobert",),
    architecture="EuroBertForMaskedLM",
    model=model,
    weights=weights,
    config=config_writer(
        {
            **BIASED,
            "mlp_bias": "block.ffn.bias",
            "classifier_pooling": lambda view: READS.get(view.get("pool.reads"), MISSING),
        },
        rotary(),
        architecture_of("EuroBert"),
    ),
    renames=((r"^(?!model\.|lm_head\.|dense\.|classifier\.)", "model."),),
    spare=(r"^lm_head\.",),
    tied=LLAMA.tied,
)
