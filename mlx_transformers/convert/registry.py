"""The registry of families, one line each."""

from ..core.errors import ConvertError, unknown
from .config import HfConfig
from .families.albert import ALBERT
from .families.apertus import APERTUS
from .families.arcee import ARCEE
from .families.bamba import BAMBA
from .families.bart import (
    BART,
    BLENDERBOT,
    BLENDERBOT_SMALL,
    M2M_100,
    MARIAN,
    MBART,
    MVP,
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
from .families.big_bird import BIG_BIRD
from .families.bloom import BLOOM
from .families.clip import CLIP_TEXT, CLIP_VISION
from .families.clip_pair import CLIP, SIGLIP
from .families.cohere import COHERE, COHERE2
from .families.ctrl import CTRL
from .families.cwm import CWM
from .families.dbrx import DBRX
from .families.deberta import DEBERTA, DEBERTA_V2
from .families.deepseek import DEEPSEEK_V2, DEEPSEEK_V3
from .families.dinov2 import DINOV2, DINOV2_WITH_REGISTERS
from .families.distilbert import DISTILBERT
from .families.dots1 import DOTS1, GLM4_MOE, SOLAR_OPEN
from .families.electra import ELECTRA
from .families.ernie4_5 import ERNIE4_5
from .families.ernie4_5_moe import ERNIE4_5_MOE
from .families.esm import ESM
from .families.eurobert import EUROBERT
from .families.exaone import EXAONE
from .families.exaone4 import EXAONE4
from .families.exaone_moe import EXAONE_MOE
from .families.falcon import FALCON
from .families.falcon_h1 import FALCON_H1
from .families.flex_olmo import FLEX_OLMO
from .families.fnet import FNET
from .families.fsmt import FSMT
from .families.gemma import GEMMA
from .families.gemma2 import GEMMA2, VAULTGEMMA
from .families.gemma3 import GEMMA3
from .families.glm import GLM, GLM4
from .families.glm4_moe_lite import GLM4_MOE_LITE
from .families.gpt2 import GPT2
from .families.gpt_bigcode import GPT_BIGCODE
from .families.gpt_neo import GPT_NEO
from .families.gpt_neox import GPT_NEOX
from .families.gpt_neox_japanese import GPT_NEOX_JAPANESE
from .families.gpt_oss import GPT_OSS
from .families.gptj import CODEGEN, GPTJ
from .families.granite import GRANITE
from .families.granitemoe import GRANITEMOE
from .families.granitemoehybrid import GRANITEMOEHYBRID
from .families.helium import HELIUM
from .families.hunyuan import HUNYUAN
from .families.hunyuan_moe import HUNYUAN_MOE
from .families.hyperclovax import HYPERCLOVAX
from .families.ibert import IBERT
from .families.internlm import INTERNLM, INTERNLM2, INTERNLM3
from .families.jais2 import JAIS2
from .families.jamba import JAMBA
from .families.kimi_linear import KIMI_LINEAR
from .families.led import LED
from .families.lfm2 import LFM2
from .families.lfm2_moe import LFM2_MOE
from .families.llama import LLAMA
from .families.llama4 import LLAMA4
from .families.llava import LLAVA
from .families.longformer import LONGFORMER
from .families.longt5 import LONGT5
from .families.mamba import MAMBA
from .families.mamba2 import MAMBA2
from .families.minicpm3 import MINICPM3
from .families.minimax_m2 import MINIMAX_M2
from .families.ministral3 import MINISTRAL3
from .families.mistral import MINISTRAL, MISTRAL
from .families.mixtral import MIXTRAL
from .families.modernbert import MODERNBERT
from .families.modernbert_decoder import MODERNBERT_DECODER
from .families.mpt import MPT
from .families.nanochat import NANOCHAT
from .families.nemotron import NEMOTRON
from .families.nemotron_h import NEMOTRON_H
from .families.nomic_bert import NOMIC_BERT
from .families.nystromformer import NYSTROMFORMER
from .families.olmo import OLMO
from .families.olmo2 import OLMO2, OLMO3
from .families.olmo_hybrid import OLMO_HYBRID
from .families.olmoe import OLMOE
from .families.openai_gpt import OPENAI_GPT
from .families.opt import OPT
from .families.persimmon import PERSIMMON
from .families.phi import PHI
from .families.phi3 import PHI3
from .families.phimoe import PHIMOE
from .families.qwen2 import QWEN2
from .families.qwen2_moe import QWEN2_MOE, QWEN3_MOE
from .families.qwen3 import QWEN3
from .families.qwen3_5 import QWEN3_5, QWEN3_5_MOE
from .families.qwen3_next import QWEN3_NEXT
from .families.recurrent_gemma import RECURRENT_GEMMA
from .families.reformer import REFORMER
from .families.rembert import REMBERT
from .families.rwkv import RWKV
from .families.seed_oss import SEED_OSS
from .families.siglip import SIGLIP_TEXT, SIGLIP_VISION
from .families.smollm3 import SMOLLM3
from .families.squeezebert import SQUEEZEBERT
from .families.stablelm import STABLELM
from .families.starcoder2 import STARCODER2
from .families.switch import SWITCH
from .families.t5 import MT5, T5, UMT5
from .families.t5gemma import T5GEMMA
from .families.vit import DEIT, VIT
from .families.vit_mae import VIT_MAE
from .families.whisper import WHISPER
from .families.xglm import BIOGPT, XGLM
from .families.xlm import FLAUBERT, XLM
from .families.xlstm import XLSTM
from .families.youtu import YOUTU
from .families.zamba2 import ZAMBA2
from .family import Family
from .text_part import LANGUAGE

FAMILIES: tuple[Family, ...] = (
    ALBERT,
    APERTUS,
    ARCEE,
    BAMBA,
    BART,
    BERT,
    BIG_BIRD,
    LED,
    LONGFORMER,
    LONGT5,
    BIOGPT,
    BLENDERBOT,
    BLENDERBOT_SMALL,
    BLOOM,
    CLIP,
    CLIP_TEXT,
    CLIP_VISION,
    CODEGEN,
    COHERE,
    COHERE2,
    CTRL,
    CWM,
    DATA2VEC_TEXT,
    DBRX,
    DEBERTA,
    DEBERTA_V2,
    DEEPSEEK_V2,
    DEEPSEEK_V3,
    DEIT,
    DINOV2,
    DINOV2_WITH_REGISTERS,
    DISTILBERT,
    DOTS1,
    ELECTRA,
    ERNIE,
    ERNIE4_5,
    ERNIE4_5_MOE,
    ESM,
    EUROBERT,
    EXAONE,
    EXAONE4,
    EXAONE_MOE,
    FALCON,
    FALCON_H1,
    FLAUBERT,
    FLEX_OLMO,
    FNET,
    FSMT,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GLM,
    GLM4,
    GLM4_MOE,
    GLM4_MOE_LITE,
    GPT2,
    GPTJ,
    GPT_BIGCODE,
    GPT_NEO,
    GPT_NEOX,
    GPT_NEOX_JAPANESE,
    GPT_OSS,
    GRANITE,
    GRANITEMOE,
    GRANITEMOEHYBRID,
    HELIUM,
    HUNYUAN,
    HUNYUAN_MOE,
    HYPERCLOVAX,
    IBERT,
    INTERNLM,
    INTERNLM2,
    INTERNLM3,
    JAIS2,
    JAMBA,
    KIMI_LINEAR,
    LFM2,
    LFM2_MOE,
    LLAMA,
    LLAMA4,
    LLAVA,
    M2M_100,
    MAMBA,
    MAMBA2,
    MARIAN,
    MBART,
    MEGATRON_BERT,
    MINICPM3,
    MINIMAX_M2,
    MINISTRAL,
    MINISTRAL3,
    MISTRAL,
    MIXTRAL,
    MODERNBERT,
    MODERNBERT_DECODER,
    MPNET,
    MPT,
    MT5,
    MVP,
    NANOCHAT,
    NEMOTRON,
    NEMOTRON_H,
    NOMIC_BERT,
    NYSTROMFORMER,
    OLMO,
    OLMO2,
    OLMO3,
    OLMOE,
    OLMO_HYBRID,
    OPENAI_GPT,
    OPT,
    PEGASUS,
    PERSIMMON,
    PHI,
    PHI3,
    PHIMOE,
    PLBART,
    QWEN2,
    QWEN2_MOE,
    QWEN3,
    QWEN3_MOE,
    QWEN3_5,
    QWEN3_5_MOE,
    QWEN3_NEXT,
    REFORMER,
    RECURRENT_GEMMA,
    REMBERT,
    ROBERTA,
    ROBERTA_PRELAYERNORM,
    ROFORMER,
    RWKV,
    SEED_OSS,
    SIGLIP,
    SIGLIP_TEXT,
    SIGLIP_VISION,
    SMOLLM3,
    SOLAR_OPEN,
    SQUEEZEBERT,
    STABLELM,
    STARCODER2,
    SWITCH,
    T5,
    T5GEMMA,
    UMT5,
    VAULTGEMMA,
    VIT,
    VIT_MAE,
    WHISPER,
    XGLM,
    XLM,
    XLM_ROBERTA,
    XLM_ROBERTA_XL,
    XLSTM,
    YOUTU,
    ZAMBA2,
)


def family_of(config: HfConfig) -> Family:
    """Return the family of a config.

    Raises:
        ConvertError: none of those that are known.
    """
    names = {name: family for family in FAMILIES for name in family.model_types}
    if config.model_type not in names:
        known = unknown("model_type", config.model_type, names)
        if config.model_type in LANGUAGE:
            known = (
                f"A {config.model_type} also sees, and its vision tower isn't built. With "
                "--text-only, mlxt import takes its language model alone."
            )
        raise ConvertError(f"{config.where}: {known}")
    return names[config.model_type]
