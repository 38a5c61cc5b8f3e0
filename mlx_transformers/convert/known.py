"""Every family that can be imported, one line each."""

from ..core.errors import ConvertError, unknown
from .config import HfConfig
from .families.albert import ALBERT
from .families.bart import (
    BART,
    BLENDERBOT,
    BLENDERBOT_SMALL,
    M2M_100,
    MARIAN,
    MBART,
    PEGASUS,
    PLBART,
)
from .families.bert import BERT, ROBERTA, XLM_ROBERTA
from .families.bert_relatives import (
    DATA2VEC_TEXT,
    ERNIE,
    MEGATRON_BERT,
    MPNET,
    ROBERTA_PRELAYERNORM,
    ROFORMER,
    XLM_ROBERTA_XL,
)
from .families.bloom import BLOOM
from .families.cohere import COHERE, COHERE2
from .families.deberta import DEBERTA, DEBERTA_V2
from .families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from .families.distilbert import DISTILBERT
from .families.electra import ELECTRA
from .families.falcon import FALCON
from .families.fnet import FNET
from .families.gemma import GEMMA
from .families.gemma2 import GEMMA2
from .families.gemma3 import GEMMA3
from .families.glm import GLM, GLM4
from .families.gpt2 import GPT2
from .families.gpt_bigcode import GPT_BIGCODE
from .families.gpt_neo import GPT_NEO
from .families.gpt_neox import GPT_NEOX
from .families.gptj import CODEGEN, GPTJ
from .families.granite import GRANITE
from .families.granitemoe import GRANITEMOE
from .families.llama import LLAMA
from .families.mistral import MINISTRAL, MISTRAL
from .families.mixtral import MIXTRAL
from .families.modernbert import MODERNBERT
from .families.mpt import MPT
from .families.nemotron import NEMOTRON
from .families.olmo import OLMO
from .families.olmo2 import OLMO2, OLMO3
from .families.openai_gpt import OPENAI_GPT
from .families.opt import OPT
from .families.persimmon import PERSIMMON
from .families.phi import PHI
from .families.phi3 import PHI3
from .families.qwen2 import QWEN2
from .families.qwen2_moe import QWEN2_MOE, QWEN3_MOE
from .families.qwen3 import QWEN3
from .families.stablelm import STABLELM
from .families.starcoder2 import STARCODER2
from .families.t5 import MT5, T5, UMT5
from .families.xglm import BIOGPT, XGLM
from .family import Family

FAMILIES: tuple[Family, ...] = (
    OPENAI_GPT,
    GPT_NEO,
    CODEGEN,
    GPTJ,
    GPT_NEOX,
    BLOOM,
    FALCON,
    OPT,
    PHI,
    PERSIMMON,
    MPT,
    GPT_BIGCODE,
    BIOGPT,
    XGLM,
    ALBERT,
    BERT,
    DATA2VEC_TEXT,
    ERNIE,
    MEGATRON_BERT,
    MPNET,
    ROBERTA_PRELAYERNORM,
    ROFORMER,
    XLM_ROBERTA_XL,
    COHERE,
    COHERE2,
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    DEBERTA,
    DEBERTA_V2,
    DISTILBERT,
    ELECTRA,
    FNET,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GLM,
    GLM4,
    BART,
    BLENDERBOT,
    BLENDERBOT_SMALL,
    GPT2,
    GRANITE,
    GRANITEMOE,
    LLAMA,
    MINISTRAL,
    MISTRAL,
    MIXTRAL,
    MODERNBERT,
    NEMOTRON,
    OLMO,
    OLMO2,
    OLMO3,
    PHI3,
    QWEN2,
    QWEN2_MOE,
    QWEN3,
    QWEN3_MOE,
    ROBERTA,
    STABLELM,
    STARCODER2,
    XLM_ROBERTA,
    M2M_100,
    MARIAN,
    MBART,
    MT5,
    PEGASUS,
    PLBART,
    T5,
    UMT5,
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
