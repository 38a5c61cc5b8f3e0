"""PyTorch's side of `bench_peers.py`: the same LLaMA, its training step written the usual way.

    TORCH_PYTHON tools/peer_torch.py [--dim 256 ...] [--compile]

It runs in an interpreter of its own and needs torch alone. Attention is
`F.scaled_dot_product_attention`, the optimizer AdamW in its default form, gradients are set to None
between steps; `--compile` compiles the whole model with its loss. Prints one JSON object.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from resident import peak_mib
from torch import nn

WARMUP = 3


class Block(nn.Module):
    """Grouped-query attention and SwiGLU, each after an RMS norm."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.width = args.dim // args.heads
        keys = args.kv_heads * self.width
        self.norm, self.ffn_norm = (nn.RMSNorm(args.dim, eps=1e-5) for _ in range(2))
        self.q, self.o = (nn.Linear(args.dim, args.dim, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(args.dim, keys, bias=False) for _ in range(2))
        self.gate, self.up = (nn.Linear(args.dim, args.hidden_dim, bias=False) for _ in range(2))
        self.down = nn.Linear(args.hidden_dim, args.dim, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        h = self.norm(x)
        q, k, v = (
            project(h).view(B, T, -1, self.width).transpose(1, 2)
            for project in (self.q, self.k, self.v)
        )
        q, k = turn(q, cos, sin), turn(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).reshape(B, T, D))
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions, pairs (i, i + K/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Llama(nn.Module):
    """Tokens `[B, T + 1]` to the mean loss of predicting each from those before it."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.embed = nn.Embedding(args.vocab, args.dim)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(args) for _ in range(args.layers))
        self.norm = nn.RMSNorm(args.dim, eps=1e-5)
        width = args.dim // args.heads
        angle = torch.outer(
            torch.arange(args.length).float(), 1e4 ** (-torch.arange(0, width, 2) / width)
        )
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens[:, :-1])
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Llama(args)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, betas=(0.9, 0.95), weight_decay=0.1)
    loss_of = torch.compile(model) if args.compile else model
    rows = torch.randint(0, args.vocab, (WARMUP + args.steps, args.batch, args.length + 1))
    started = computed = 0.0
    for index, tokens in enumerate(rows):
        if index == WARMUP:
            started, computed = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(tokens)
        loss.backward()
        optimizer.step()
    seconds, computed = time.perf_counter() - started, time.process_time() - computed
    tokens = args.steps * args.batch * args.length
    found = {
        "tokens_per_s": tokens / seconds,
        "tokens_per_cpu_s": tokens / computed,
        "rss_mib": peak_mib(),
        "loss": loss.item(),
    }
    print(json.dumps(found))


def parse() -> argparse.Namespace:
    """Sizes, as `bench_peers.py` passes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = {"dim": 256, "layers": 6, "heads": 8, "kv-heads": 4, "hidden-dim": 704}
    sizes |= {"vocab": 4096, "batch": 8, "length": 256, "steps": 12, "threads": 1}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
