"""EuroBERT: LLaMA that reads both ways, with a head over masked words.

Defaults are those of `EuroBertConfig`.
"""

from ..answers import Answer, asked, classifier, tags, task_of
from ..config import HfConfig
from ..family import Family, Table
from ..rope import rotary
from ..view import MISSING, spelled
from ..weights import Row
from .llama import BIASED, LLAMA, decoder
from .llama import weights as llama_weights

DEFAULTS: Table = {
    "vocab_size": 128256,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
}
POOLINGS = {"bos": "first", "mean": "mean"}
"""Their poolings, and which vector ours reads."""
READS = {ours: theirs for theirs, ours in POOLINGS.items()}


def model(config: HfConfig) -> Table:
    """The `[model]` table of a EuroBertConfig."""
    table = decoder(config, bias=config.get("attention_bias", False), **DEFAULTS)
    del table["head"]
    return {**table, "kind": "encoder", **answer(config).tables()}


def answer(config: HfConfig) -> Answer:
    """Head and pool of a class of EuroBERT's.

    Raises:
        ConvertError: a task or a pooling that isn't built.
    """
    task, tied = task_of(config, "ForMaskedLM"), config.get("tie_word_embeddings", False)
    pooling = config.get("classifier_pooling", "late")
    match task:
        case "Model":
            return Answer()
        case "ForTokenClassification":
            return tags(config, task)
        case "ForSequenceClassification":
            if pooling not in POOLINGS:
                raise config.refuse("classifier_pooling", pooling, "'bos' and 'mean' are")
            reads = POOLINGS[pooling]
            return classifier(config, "dense", "classifier", reads=reads, activation="gelu")
        case "ForMaskedLM":
            head = {"kind": "lm", "tied": tied, "bias": config.get("mlp_bias", False)}
            return Answer(head, None, [Row("head", "lm_head")])
    raise config.refuse("architectures", config.architecture)


def weights(config: HfConfig) -> list[Row]:
    """The weight map of a EuroBERT."""
    return [*(row for row in llama_weights(config) if row.ours != "head"), *answer(config).rows]


EUROBERT = Family(
    model_types=("eurobert",),
    architecture="EuroBertForMaskedLM",
    model=model,
    weights=weights,
    config=spelled(
        {
            **BIASED,
            "mlp_bias": "block.ffn.bias",
            "classifier_pooling": lambda view: READS.get(view.get("pool.reads"), MISSING),
        },
        rotary(),
        asked("EuroBert"),
    ),
    renames=((r"^(?!model\.|lm_head\.|dense\.|classifier\.)", "model."),),
    spare=(r"^lm_head\.",),
    tied=LLAMA.tied,
)
