"""Every family that can be imported, one line each."""

from ..core.errors import ConvertError, unknown
from .config import HfConfig
from .families.albert import ALBERT
from .families.bert import BERT, ROBERTA, XLM_ROBERTA
from .families.distilbert import DISTILBERT
from .families.electra import ELECTRA
from .families.fnet import FNET
from .families.gpt2 import GPT2
from .families.llama import LLAMA
from .families.mistral import MISTRAL
from .families.mixtral import MIXTRAL
from .families.modernbert import MODERNBERT
from .family import Family

FAMILIES: tuple[Family, ...] = (
    ALBERT,
    BERT,
    DISTILBERT,
    ELECTRA,
    FNET,
    GPT2,
    LLAMA,
    MISTRAL,
    MIXTRAL,
    MODERNBERT,
    ROBERTA,
    XLM_ROBERTA,
)


def family_of(config: HfConfig) -> Family:
    """The family that a config belongs to.

    Raises:
        ConvertError: none of those that are known.
    """
    names = {name: family for family in FAMILIES for name in family.model_types}
    if config.model_type not in names:
        known = unknown("model_type", config.model_type, names)
        raise ConvertError(f"{config.where}: {known}")
    return names[config.model_type]
