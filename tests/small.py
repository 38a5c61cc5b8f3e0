"""The smallest recipe that trains, for tests of commands."""

from string import Template

RECIPE = Template("""
[model]
kind = "decoder"
dim = $dim
n_layers = 1
max_seq_len = 16
embed = { kind = "token" }
position = { kind = "rope" }
norm = { kind = "rms_norm" }
head = { kind = "lm", tied = true }
init = { kind = "normal", std = 0.1 }

[model.block]
placement = "pre"
norm = { kind = "rms_norm" }
mixer = { kind = "attention", n_heads = 2 }
ffn = { kind = "glu", hidden_dim = $hidden_dim, activation = "silu" }

[objective]
kind = "clm"

[data]
path = "text.txt"
tokenizer = { kind = "char" }

[train]
steps = $steps
batch_size = 2
seq_len = $seq_len

[optim]
kind = "adamw"
learning_rate = 1e-2

[eval]
every = $eval_every

[checkpoint]
every = $save_every
""")


def recipe(
    *,
    dim: int = 16,
    hidden_dim: int = 24,
    steps: int = 3,
    seq_len: int = 16,
    eval_every: int = 100,
    save_every: int = 100,
) -> str:
    """The text of the recipe; its data is `text.txt`, beside it."""
    return RECIPE.substitute(locals())
