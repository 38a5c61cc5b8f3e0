"""Rows of the slot `model`: small members of the chain."""

from . import recurrent
from .blocks import BLOCK
from .embeds import PIXELS
from .ffns import GLU, MLP, MOE, ROUTER
from .mixers import CROSS, HEADS
from .suite import DIM, MAX_LEN, Change, Row, everything, itself, last

LLAMA = {
    "kind": "decoder",
    "dim": DIM,
    "n_layers": 2,
    "max_seq_len": MAX_LEN,
    "embed": {"kind": "token"},
    "position": {"kind": "rope"},
    "block": BLOCK,
    "norm": {"kind": "rms_norm"},
    "head": {"kind": "lm", "tied": False},
    "init": {"kind": "normal", "std": 0.02},
}
WINDOW = BLOCK | {"mixer": HEADS | {"n_kv_heads": 2, "window": 3}}
LOSSES = ROUTER | {"balance_loss": 0.1, "z_loss": 0.01}

BASE = LLAMA | {
    "embed": {"kind": "token", "scale": "sqrt_dim", "dropout": 0.1},
    "position": {"kind": "sinusoidal"},
    "block": {
        "placement": "post",
        "dropout": 0.1,
        "norm": {"kind": "layer_norm"},
        "mixer": HEADS | {"bias": True, "out_bias": True},
        "ffn": MLP | {"bias": True},
    },
    "norm": {"kind": "none"},
    "head": {"kind": "lm", "tied": True},
    "init": {"kind": "xavier"},
}
GPT2 = BASE | {
    "embed": {"kind": "token"},
    "position": {"kind": "learned"},
    "block": BASE["block"] | {"placement": "pre", "ffn": MLP | {"activation": "gelu_tanh"}},
    "norm": {"kind": "layer_norm"},
    "init": {"kind": "normal", "std": 0.02, "depth_scaled": True},
}
MIXTRAL = LLAMA | {"block": WINDOW | {"ffn": MOE | {"router": LOSSES}, "dropout": 0.1}}
ALTERNATING = LLAMA | {
    "n_layers": 3,
    "blocks": {"local": WINDOW, "global": BLOCK | {"placement": "sandwich"}},
    "pattern": ["local", "global"],
}
BERT = BASE | {
    "kind": "encoder",
    "position": {"kind": "learned"},
    "embed": {"kind": "token", "n_types": 2, "norm": {"kind": "layer_norm"}},
    "head": {
        "kind": "mlm",
        "tied": True,
        "bias": True,
        "activation": "gelu",
        "norm": {"kind": "layer_norm"},
    },
}
ALBERT = BERT | {
    "n_layers": 4,
    "n_distinct": 2,
    "embed": BERT["embed"] | {"width": 6, "project_bias": True},
    "head": BERT["head"] | {"width": 6},
}
BOTH_WAYS = BERT | {
    "n_layers": 3,
    "blocks": ALTERNATING["blocks"],
    "pattern": ["local", "global"],
    "embed": {"kind": "token"},
}
TOWER = {name: LLAMA[name] for name in ("n_layers", "embed", "position", "block", "norm")}
REFORMER = LLAMA | {
    "reversible": "concatenate",
    "block": BLOCK | {"ffn": MOE | {"router": LOSSES}, "dropout": 0.1, "scale": 0.5},
}
T5 = {
    **{name: LLAMA[name] for name in ("dim", "max_seq_len", "init")},
    "kind": "encoder_decoder",
    "encoder": TOWER | {"position": {"kind": "buckets", "n_heads": 4}},
    "decoder": TOWER | {"block": BLOCK | {"cross": CROSS}},
    "head": {"kind": "lm", "tied": True, "scale": 0.25},
}

ELECTRA = {
    "kind": "pair",
    "generator": BERT
    | {"dim": 8, "n_layers": 1, "embed": BERT["embed"] | {"width": 6}}
    | {"head": BERT["head"] | {"width": 6}},
    "discriminator": BERT
    | {"embed": BERT["embed"] | {"width": 6}}
    | {"head": {"kind": "tags", "n_classes": 1, "activation": "gelu"}},
}
VIT = {name: TOWER[name] for name in ("n_layers", "block", "norm")} | {
    "kind": "vision",
    "image_size": [3, 3],
    "dim": 16,
    "embed": PIXELS,
    "position": {"kind": "grid", "rows": 3, "columns": 3, "prefix": 0},
    "init": LLAMA["init"],
}

MAE = {
    "kind": "mae",
    "vision": VIT,
    "decoder": TOWER | {"dim": 16, "position": {"kind": "learned"}},
}

SPEECH = T5 | {
    "kind": "speech",
    "encoder": TOWER
    | {"embed": {"kind": "frames", "n_mels": 3}, "position": {"kind": "learned", "length": 3}},
}

EVOFORMER = {
    "kind": "evoformer",
    "length": 3,
    "max_seq_len": 9,
    "n_layers": 1,
    "dim": 16,
    "n_heads": 2,
    "head_dim": 4,
    "pair_dim": 12,
    "pair_heads": 2,
    "pair_head_dim": 4,
    "triangle_dim": 8,
    "outer_dim": 4,
    "factor": 2,
    "norm": {"kind": "layer_norm"},
    "head": {"kind": "lm", "tied": False},
    "pool": {"kind": "distogram", "n_classes": 3},
    "init": LLAMA["init"],
}

VLM = {
    "kind": "vlm",
    "vision": VIT
    | {
        "dim": 12,
        "n_layers": 1,
        "norm": {"kind": "none"},
        "embed": PIXELS | {"class_token": True, "size": 3},
    }
    | {"position": {"kind": "none"}},
    "language": LLAMA,
    "image_token": 12,
    "feature_layers": [-1],
    "drop_class": False,
}

CLIP = {
    "kind": "clip",
    "vision": VIT
    | {"dim": 12, "n_layers": 1, "position": {"kind": "none"}}
    | {"pool": {"kind": "sentence", "activation": "identity", "width": 16}},
    "text": BERT
    | {"embed": {"kind": "token"}, "head": None, "pool": {"kind": "sentence"}}
    | {"init": LLAMA["init"]},
}

VQVAE = {
    "kind": "vqvae",
    "encoder": VIT | {"dim": 12, "n_layers": 1},
    "decoder": VIT | {"n_layers": 1, "embed": PIXELS | {"channels": 4}},
    "n_codes": 8,
}

ROWS = [
    Row("model", "llama", LLAMA, compiled=True),
    # Without positions k's bias adds the same to every score of a query; softmax can't tell.
    Row("model", "2017", BASE, silent=("k.bias",)),
    Row("model", "gpt2", GPT2, silent=("k.bias",)),
    Row("model", "mistral", LLAMA | {"block": WINDOW}, sees=last(5)),
    Row("model", "mixtral", MIXTRAL, sees=last(5), compiled=True),
    Row("model", "window and full by turns", ALTERNATING),
    Row("model", "shared layers", LLAMA | {"n_distinct": 1}),
    Row("model", "universal", LLAMA | {"n_distinct": 1, "depth": {"kind": "universal"}}),
    Row("model", "two blocks for four layers", LLAMA | {"n_layers": 4, "n_distinct": 2}),
    # Without types in the pass, every token is of the first.
    Row("model", "bert", BERT, silent=("k.bias",), sees=everything, whole=True),
    Row("model", "albert", ALBERT, silent=("k.bias",), sees=everything, whole=True),
    Row("model", "electra", ELECTRA, silent=("k.bias",), sees=everything, whole=True),
    Row("model", "vit", VIT, sees=everything, whole=True, pads=False, silent=("k.bias",)),
    Row(
        "model",
        "vit of two blocks",
        VIT | {"n_layers": 4, "n_distinct": 2},
        sees=everything,
        whole=True,
        pads=False,
        silent=("k.bias",),
    ),
    Row(
        "model",
        "vit of two kinds",
        VIT | {"blocks": BOTH_WAYS["blocks"], "pattern": BOTH_WAYS["pattern"]},
        sees=everything,
        whole=True,
        pads=False,
        silent=("k.bias",),
    ),
    Row("model", "t5", T5),
    Row("model", "two kinds of block", BOTH_WAYS, sees=everything, whole=True),
    Row(
        "model",
        "learned positions of two",
        T5 | {"decoder": T5["decoder"] | {"position": {"kind": "learned"}}},
    ),
    Row("model", "whisper", SPEECH, silent=("k.bias",)),
    # The patches stay, and with them the places of their tokens.
    Row(
        "model",
        "llava",
        VLM,
        sees=lambda t, s: 2 <= s <= t,
        both=lambda t, s: s >= 2,
        silent=("k.bias",),
    ),
    # Nothing is masked, so the mask token stands nowhere.
    Row(
        "model",
        "mae",
        MAE,
        sees=everything,
        whole=True,
        pads=False,
        silent=("k.bias", "decoder.embed.table.weight"),
    ),
    Row("model", "clip", CLIP, silent=("k.bias", "log_scale"), sees=everything, whole=True),
    Row("model", "vq-vae", VQVAE, sees=everything, whole=True, pads=False, silent=("k.bias",)),
    # The bias of the norm under the scores adds the same to every score of a query. Padding
    # of whole sequences and residues has a test of its own.
    Row(
        "model",
        "evoformer",
        EVOFORMER,
        sees=everything,
        whole=True,
        pads=False,
        silent=("row.pair_bias.norm.bias",),
    ),
    Row("model", "two tables", T5 | {"shared": False}),
    Row("model", "reformer", REFORMER, compiled=True),
    Row("model", "a mean of two streams", REFORMER | {"reversible": "mean", "n_distinct": 1}),
    Row("model", "word2vec", {"kind": "word_vectors", "dim": 16}, sees=itself, whole=True),
    *recurrent.ROWS,
]

CHANGES = {
    "decoder": {
        "dim": 20,
        "n_layers": 4,
        "max_seq_len": Change(16, row="gpt2"),
        "vocab_size": 17,
        "n_distinct": 1,
        "unit": Change(2, row="two blocks for four layers"),
        "embed": {"kind": "token", "scale": "sqrt_dim"},
        "position": {"kind": "sinusoidal"},
        "block": BLOCK | {"ffn": GLU | {"hidden_dim": 20}},
        "blocks": Change({"local": WINDOW, "global": WINDOW}, row="window and full by turns"),
        "pattern": Change(["global", "local"], row="window and full by turns"),
        "norm": {"kind": "layer_norm"},
        "head": {"kind": "lm", "tied": True},
        "init": {"kind": "xavier"},
        "ahead": {"kind": "mtp"},
        "depth": {"kind": "universal"},
        "reversible": "mean",
        "teacher_dim": 5,
        "pool": {"kind": "scalar"},
    },
    "encoder": {
        "dim": 20,
        "n_layers": 4,
        "max_seq_len": 16,
        "vocab_size": 17,
        "causal": True,
        "end_token": Change(3, result=False),
        "n_distinct": 1,
        "depth": {"kind": "universal"},
        "teacher_dim": 5,
        "unit": Change(2, row="albert"),
        "embed": {"kind": "token", "scale": "sqrt_dim"},
        "position": {"kind": "sinusoidal"},
        "block": BLOCK,
        "blocks": Change({"local": WINDOW, "global": WINDOW}, row="two kinds of block"),
        "pattern": Change(["global", "local"], row="two kinds of block"),
        "norm": {"kind": "layer_norm"},
        "head": {"kind": "lm", "tied": True},
        "pool": {"kind": "classifier", "n_classes": 2},
        "init": {"kind": "fan_in"},
        "reversible": Change("mean", row="two kinds of block"),
    },
    "word_vectors": {"dim": 20, "vocab_size": 17},
    "pair": {
        "generator": ELECTRA["generator"] | {"n_layers": 2},
        "discriminator": ELECTRA["discriminator"] | {"n_layers": 1},
        "vocab_size": 17,
        "shared": False,
    },
    "encoder_decoder": {
        "dim": 20,
        "max_seq_len": Change(16, row="learned positions of two"),
        "vocab_size": 17,
        "encoder": TOWER,
        "decoder": TOWER | {"n_layers": 1, "block": BLOCK | {"cross": CROSS}},
        "shared": False,
        "head": {"kind": "lm", "tied": False},
        "init": {"kind": "xavier"},
    },
    "vlm": {
        "vocab_size": 17,
        "vision": VLM["vision"] | {"dim": 16},
        "language": LLAMA | {"n_layers": 1},
        "image_token": Change(2, result=False),
        "feature_layers": [0],
        "drop_class": True,
        "projector": "linear",
        "activation": "relu",
        "bias": False,
    },
    "clip": {
        "vocab_size": 17,
        "vision": CLIP["vision"] | {"n_layers": 2},
        "text": CLIP["text"] | {"n_layers": 1},
        "log_scale": 1.0,
        "max_scale": Change(2.0, result=False),
        "logit_bias": -10.0,
    },
    "vqvae": {
        "vocab_size": Change(300, result=False),
        "encoder": VQVAE["encoder"] | {"dim": 16},
        "decoder": VQVAE["decoder"] | {"dim": 20},
        "n_codes": 9,
        "decay": Change(0.5, result=False),
        "revive": Change(0.0, result=False),
    },
    "mae": {
        "vocab_size": Change(17, result=False),
        "vision": VIT | {"n_layers": 1},
        "decoder": MAE["decoder"] | {"dim": 8},
        "mask_ratio": Change(0.5, result=False),
        "normalize": Change(False, result=False),
    },
    "speech": {
        "dim": 20,
        "max_seq_len": Change(16, result=False),
        "vocab_size": 17,
        "encoder": SPEECH["encoder"] | {"n_layers": 1},
        "decoder": TOWER | {"n_layers": 1, "block": BLOCK | {"cross": CROSS}},
        "shared": Change(False, result=False),
        "head": {"kind": "lm", "tied": False},
        "init": {"kind": "xavier"},
    },
    "evoformer": {
        "length": 1,
        "max_seq_len": Change(18, result=False),
        "n_layers": 2,
        "vocab_size": 17,
        "dim": 20,
        "n_heads": 1,
        "head_dim": 2,
        "pair_dim": 8,
        "pair_heads": 1,
        "pair_head_dim": 2,
        "triangle_dim": 4,
        "outer_dim": 2,
        "factor": 1,
        "outer_first": True,
        "distance": 1,
        "dropout": 0.5,
        "pair_dropout": 0.5,
        "norm": {"kind": "rms_norm"},
        "head": {"kind": "lm", "tied": True},
        "pool": {"kind": "distogram", "n_classes": 4},
        "init": {"kind": "xavier"},
    },
    "vision": {
        "image_size": [1, 9],
        "dim": 20,
        "vocab_size": Change(300, result=False),
        "n_layers": 4,
        "n_distinct": 1,
        "unit": Change(2, row="vit of two blocks"),
        "blocks": Change({"local": WINDOW, "global": WINDOW}, row="vit of two kinds"),
        "pattern": Change(["global", "local"], row="vit of two kinds"),
        "depth": {"kind": "universal"},
        "embed": VIT["embed"] | {"bias": False},
        "position": {"kind": "none"},
        "block": BLOCK | {"ffn": GLU | {"hidden_dim": 20}},
        "norm": {"kind": "layer_norm"},
        "pool": {"kind": "classifier", "n_classes": 2},
        "init": {"kind": "xavier"},
        "reversible": "mean",
        "teacher_dim": 5,
    },
    **recurrent.CHANGES,
}
