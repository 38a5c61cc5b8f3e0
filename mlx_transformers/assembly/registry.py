"""Every slot and every kind that can fill it, one line each."""

from ..data.batches.alignments import Alignments
from ..data.batches.answers import Answers
from ..data.batches.captions import Captions
from ..data.batches.cbow import Cbow
from ..data.batches.chat import Chat
from ..data.batches.completions import Completions
from ..data.batches.denoise import Denoise
from ..data.batches.image_text import ImageText
from ..data.batches.images import Images
from ..data.batches.labeled import Labeled
from ..data.batches.masked import Masked
from ..data.batches.mixed_modal import MixedModal as MixedModalRows
from ..data.batches.packed import Packed
from ..data.batches.pairs import Pairs
from ..data.batches.pictures import Pictures
from ..data.batches.preferences import Preferences
from ..data.batches.prefix import Prefix
from ..data.batches.prompts import Prompts
from ..data.batches.regression import Regression as RegressionRows
from ..data.batches.sentence_pairs import SentencePairs
from ..data.batches.skip_gram import SkipGram
from ..data.batches.span_corruption import SpanCorruption
from ..data.batches.spans import Spans
from ..data.batches.streams import Streams
from ..data.batches.tagged import Tagged
from ..data.batches.text_pairs import TextPairs
from ..data.batches.transcripts import Transcripts
from ..data.batches.unpaired import Unpaired
from ..data.tokenizers.byte import Byte
from ..data.tokenizers.byte_level_bpe import ByteLevelBpe
from ..data.tokenizers.char import Char
from ..data.tokenizers.hf import TokenizerJson
from ..data.tokenizers.numbers import Numbers
from ..data.tokenizers.saved import Saved
from ..data.tokenizers.sentencepiece import SentencePiece
from ..data.tokenizers.wordpiece import WordPiece
from ..data.tokenizers.words import Words
from ..layers.adapters.adapter import AdapterKind
from ..layers.adapters.bitfit import BitFit
from ..layers.adapters.bottleneck import Bottleneck
from ..layers.adapters.dora import Dora
from ..layers.adapters.full import Full
from ..layers.adapters.ia3 import Ia3
from ..layers.adapters.lora import Lora
from ..layers.adapters.prefix import Prefix as PrefixAdapter
from ..layers.adapters.prompt import Prompt
from ..layers.adapters.vera import Vera
from ..layers.aligns.additive import Additive
from ..layers.aligns.concat import Concat
from ..layers.aligns.dot import Dot
from ..layers.aligns.general import General
from ..layers.aligns.local import Local
from ..layers.attention_pool import AttentionPool
from ..layers.cells.gru import Gru
from ..layers.cells.lstm import Lstm
from ..layers.cells.rnn import Rnn
from ..layers.depths.layer_drop import LayerDrop
from ..layers.depths.universal import Universal
from ..layers.embed import TokenEmbed
from ..layers.ffns.channel_mixing import ChannelMixing
from ..layers.ffns.clamped_glu import ClampedGlu
from ..layers.ffns.expert_choice import ExpertChoice
from ..layers.ffns.glu import Glu
from ..layers.ffns.mlp import Mlp
from ..layers.ffns.moe import Moe
from ..layers.ffns.product_keys import ProductKeys
from ..layers.ffns.soft_moe import SoftMoe
from ..layers.ffns.xielu import Xielu
from ..layers.frames import Frames
from ..layers.heads import LmHead, MlmHead, TagHead
from ..layers.init import FanIn, MuP, Normal, Xavier
from ..layers.kinds import (
    AlignKind,
    CellKind,
    DepthKind,
    EmbedKind,
    FfnKind,
    HeadKind,
    InitKind,
    MixerKind,
    NormKind,
    PoolKind,
    PositionKind,
    RouterKind,
    ScalingKind,
)
from ..layers.mixers.attention import Attention
from ..layers.mixers.attention_free import AttentionFree
from ..layers.mixers.big_bird import BigBird
from ..layers.mixers.convolution import Convolution
from ..layers.mixers.cosformer import CosFormer
from ..layers.mixers.cross_attention import CrossAttention
from ..layers.mixers.deltanet import Deltanet
from ..layers.mixers.dilated_convolution import DilatedConvolution
from ..layers.mixers.disentangled import Disentangled as DisentangledMixer
from ..layers.mixers.fourier import Fourier
from ..layers.mixers.gated_deltanet import GatedDeltanet
from ..layers.mixers.gla import Gla
from ..layers.mixers.h3 import H3
from ..layers.mixers.hgrn2 import Hgrn2
from ..layers.mixers.latent import Latent
from ..layers.mixers.linear_attention import LinearAttention
from ..layers.mixers.linformer import Linformer
from ..layers.mixers.local_attention import LocalAttention
from ..layers.mixers.longformer import Longformer
from ..layers.mixers.lsh_attention import LshAttention
from ..layers.mixers.mamba import Mamba
from ..layers.mixers.mamba2 import Mamba2
from ..layers.mixers.mingru import Mingru
from ..layers.mixers.mlstm import Mlstm
from ..layers.mixers.nystrom import Nystrom
from ..layers.mixers.performer import Performer
from ..layers.mixers.retention import Retention
from ..layers.mixers.rg_lru import RgLru
from ..layers.mixers.rwkv4 import Rwkv4
from ..layers.mixers.rwkv6 import Rwkv6
from ..layers.mixers.rwkv7 import Rwkv7
from ..layers.mixers.s4 import S4
from ..layers.mixers.s4d import S4d
from ..layers.mixers.shared_block import SharedBlock
from ..layers.mixers.short_convolution import ShortConvolution
from ..layers.mixers.side_by_side import SideBySide
from ..layers.mixers.slot_attention import SlotAttention
from ..layers.mixers.slstm import Slstm
from ..layers.mixers.sparse_transformer import SparseTransformer
from ..layers.mixers.streaming_attention import StreamingAttention
from ..layers.mixers.transient_global import TransientGlobal
from ..layers.mtp import Mtp, MultiTokenKind
from ..layers.norms import DyT, LayerNorm, NoNorm, RmsNorm, ScaleNorm
from ..layers.pair_pools import Distogram as DistogramPool
from ..layers.pair_pools import OuterProduct
from ..layers.patches import Patches
from ..layers.pools import Classifier, Scalar, Sentence
from ..layers.positions.alibi import Alibi
from ..layers.positions.axial import Axial
from ..layers.positions.buckets import Buckets
from ..layers.positions.disentangled import Disentangled as DisentangledPosition
from ..layers.positions.grid import Grid
from ..layers.positions.learned import Learned
from ..layers.positions.none import NoPosition
from ..layers.positions.rope import Rope
from ..layers.positions.rope_grid import RopeGrid
from ..layers.positions.scalings.dynamic import DynamicScaling
from ..layers.positions.scalings.inclusive import InclusiveScaling
from ..layers.positions.scalings.linear import LinearScaling
from ..layers.positions.scalings.llama3 import Llama3Scaling
from ..layers.positions.scalings.longrope import LongRopeScaling
from ..layers.positions.scalings.yarn import YarnScaling
from ..layers.positions.shaw import Shaw
from ..layers.positions.sinusoidal import Sinusoidal
from ..layers.positions.transformer_xl import TransformerXL
from ..layers.positions.xpos import Xpos
from ..layers.routers.gshard import GShard
from ..layers.routers.sigmoid import Sigmoid
from ..layers.routers.sparse_mixer import SparseMixer
from ..layers.routers.top_k import TopK
from ..models.clip import Clip
from ..models.decoder import Decoder
from ..models.encoder import Encoder
from ..models.encoder_decoder import EncoderDecoder
from ..models.evoformer import Evoformer
from ..models.mae import Mae
from ..models.model import ModelKind
from ..models.pair import ReplacedTokenPair
from ..models.recurrent import Recurrent
from ..models.recurrent_seq2seq import RecurrentSeq2Seq
from ..models.speech import Speech
from ..models.vision import Vision
from ..models.vlm import Vlm
from ..models.vqvae import Vqvae
from ..models.word_vectors import WordVectors
from ..objectives.answer import Answer
from ..objectives.classify import Classify
from ..objectives.classify_pictures import ClassifyPictures
from ..objectives.clip import ClipPairs
from ..objectives.clm import Clm
from ..objectives.contrastive import Contrastive
from ..objectives.distill import Distill
from ..objectives.distogram import Distogram
from ..objectives.dpo import Dpo
from ..objectives.early_exit import EarlyExit
from ..objectives.kto import Kto
from ..objectives.mae import MaskedPatches
from ..objectives.mixed_modal import MixedModal
from ..objectives.mlm import Mlm
from ..objectives.multi_token import MultiToken
from ..objectives.negative_sampling import NegativeSampling
from ..objectives.objective import ObjectiveKind
from ..objectives.orpo import Orpo
from ..objectives.policy import Grpo, Ppo, Reinforce, Rloo
from ..objectives.prefix_lm import PrefixLm
from ..objectives.regression import Regression
from ..objectives.reward import Reward
from ..objectives.rtd import Rtd
from ..objectives.sentence_order import SentenceOrder
from ..objectives.seq2seq import Seq2Seq
from ..objectives.tag import Tag
from ..objectives.transcribe import Transcribe
from ..objectives.vqvae import Reconstruction
from ..optim.adafactor import Adafactor
from ..optim.adam import Adam, AdamW
from ..optim.clip import ClipAdaptive, ClipNone, ClipNorm
from ..optim.kinds import ClipKind, OptimizerKind, ScheduleKind
from ..optim.lamb import Lamb
from ..optim.lion import Lion
from ..optim.muon import Muon
from ..optim.schedule_free import ScheduleFree
from ..optim.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    Polynomial,
    SlantedTriangular,
    Steps,
    Wsd,
)
from ..optim.sgd import Sgd
from ..optim.shampoo import Shampoo, Soap
from ..optim.sophia import SophiaG, SophiaH
from ..recipe.slot import fill
from ..rl.judges import ClassifierReward, ModelReward
from ..rl.reference import Referenced
from ..rl.revise import PrincipleReward
from ..rl.rewards import Exact, Format, Function, Length, Numeric, RewardKind
from ..rl.rollouts import Rollouts
from ..rl.signals import Best, Gae, Group, LeaveOneOut, Returns, SignalKind
from ..rl.signals import Completions as CompletionsSignal
from ..rl.signals import Pairs as PairsSignal
from ..trainer.source import SourceKind, Stream

fill(
    "model",
    Decoder,
    Encoder,
    EncoderDecoder,
    Recurrent,
    RecurrentSeq2Seq,
    Vision,
    Speech,
    Vlm,
    Clip,
    Vqvae,
    Mae,
    ReplacedTokenPair,
    Evoformer,
    WordVectors,
    of=ModelKind,
)
fill("embed", TokenEmbed, Patches, Frames, of=EmbedKind)
fill(
    "scaling",
    LinearScaling,
    DynamicScaling,
    Llama3Scaling,
    YarnScaling,
    LongRopeScaling,
    InclusiveScaling,
    of=ScalingKind,
)
fill("position", NoPosition, Sinusoidal, Learned, Rope, Xpos, Alibi, Buckets, of=PositionKind)
fill("position", Shaw, TransformerXL, DisentangledPosition, Axial, Grid, RopeGrid, of=PositionKind)
fill("norm", NoNorm, LayerNorm, RmsNorm, ScaleNorm, DyT, of=NormKind)
fill("mixer", Attention, CrossAttention, Latent, DisentangledMixer, Fourier, of=MixerKind)
fill("mixer", Convolution, DilatedConvolution, of=MixerKind)
fill("mixer", S4, S4d, Mamba, Mamba2, H3, AttentionFree, of=MixerKind)
fill("mixer", ShortConvolution, SideBySide, SharedBlock, of=MixerKind)
fill("mixer", Rwkv4, Rwkv6, Rwkv7, RgLru, Mingru, Hgrn2, Mlstm, Slstm, of=MixerKind)
fill("mixer", LocalAttention, SparseTransformer, StreamingAttention, of=MixerKind)
fill("mixer", Retention, LinearAttention, Gla, Deltanet, GatedDeltanet, of=MixerKind)
fill("mixer", Linformer, Performer, Nystrom, LshAttention, CosFormer, of=MixerKind)
fill("mixer", SlotAttention, of=MixerKind)
fill("mixer", Longformer, BigBird, TransientGlobal, of=MixerKind)
fill("cell", Rnn, Lstm, Gru, of=CellKind)
fill("align", Additive, Dot, General, Concat, Local, of=AlignKind)
fill("ffn", Mlp, Glu, ClampedGlu, Xielu, Moe, of=FfnKind)
fill("ffn", ChannelMixing, of=FfnKind)
fill("ffn", ExpertChoice, SoftMoe, ProductKeys, of=FfnKind)
fill("router", TopK, GShard, Sigmoid, SparseMixer, of=RouterKind)
fill("depth", Universal, LayerDrop, of=DepthKind)
fill("head", LmHead, MlmHead, TagHead, of=HeadKind)
fill("ahead", Mtp, of=MultiTokenKind)
fill("pool", Classifier, Sentence, Scalar, AttentionPool, of=PoolKind)
fill("pool", DistogramPool, OuterProduct, of=PoolKind)
fill("init", Normal, FanIn, Xavier, MuP, of=InitKind)
fill("adapt", Lora, Dora, Vera, Ia3, BitFit, of=AdapterKind)
fill("adapt", Full, Bottleneck, PrefixAdapter, Prompt, of=AdapterKind)
fill("objective", Clm, MultiToken, PrefixLm, Mlm, SentenceOrder, Rtd, Seq2Seq, of=ObjectiveKind)
fill("objective", EarlyExit, ClipPairs, Dpo, Orpo, Kto, Reward, of=ObjectiveKind)
fill("objective", Ppo, Grpo, Rloo, Reinforce, of=ObjectiveKind)
fill(
    "objective",
    Regression,
    Classify,
    ClassifyPictures,
    Tag,
    Answer,
    Contrastive,
    Distill,
    of=ObjectiveKind,
)
fill("objective", Distogram, Transcribe, NegativeSampling, of=ObjectiveKind)
fill("objective", Reconstruction, MixedModal, MaskedPatches, of=ObjectiveKind)
fill("batch", Packed, Streams, Masked, SentencePairs, SpanCorruption, Denoise, Prefix)
fill(
    "batch", RegressionRows, Pairs, Labeled, Pictures, ImageText, Tagged, Answers, Spans, TextPairs
)
fill("batch", Alignments, Transcripts, SkipGram, Cbow, Images)
fill("batch", Completions, Captions, MixedModalRows, Chat, Preferences, Unpaired, Prompts)
fill("source", Stream, Rollouts, Referenced, of=SourceKind)
fill("reward", Exact, Numeric, Length, Format, Function, of=RewardKind)
fill("reward", ModelReward, ClassifierReward, PrincipleReward, of=RewardKind)
fill("signal", Gae, Group, LeaveOneOut, Returns, PairsSignal, Best, of=SignalKind)
fill("signal", CompletionsSignal)
fill("tokenizer", Char, Words, Byte, SentencePiece, ByteLevelBpe, WordPiece)
fill("tokenizer", TokenizerJson, Numbers, Saved)
fill("optim", Sgd, Adam, AdamW, Adafactor, Lion, Muon, of=OptimizerKind)
fill("optim", Lamb, SophiaG, SophiaH, Shampoo, Soap, ScheduleFree, of=OptimizerKind)
fill("clip", ClipNone, ClipNorm, ClipAdaptive, of=ClipKind)
fill("schedule", Constant, Linear, Cosine, CosineRestarts, InverseSqrt, Wsd, of=ScheduleKind)
fill("schedule", SlantedTriangular, Polynomial, Exponential, Steps, OneCycle, of=ScheduleKind)
