"""transformers' side of `bench_mixers.py`: its Mamba or Mamba-2 in PyTorch, trained the usual way.

    TORCH_PYTHON tools/peer_mamba.py --kind mamba [--dim 128 ...]

Without the CUDA kernels of mamba_ssm it takes its own path in PyTorch, the "slow" one: Mamba's is
a loop over tokens, Mamba-2's works in chunks, of the size that its config has. Prints one JSON
object.
"""

import argparse
import json
import time

import torch
from resident import peak_mib
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

WARMUP = 1


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = built(args).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, betas=(0.9, 0.95), weight_decay=0.1)
    rows = torch.randint(0, args.vocab, (WARMUP + args.steps, args.rows, args.length))
    started = computed = 0.0
    for index, tokens in enumerate(rows):
        if index == WARMUP:
            started, computed = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        optimizer.step()
    seconds, computed = time.perf_counter() - started, time.process_time() - computed
    tokens = args.steps * args.rows * args.length
    found = {
        "tokens_per_s": tokens / seconds,
        "tokens_per_cpu_s": tokens / computed,
        "rss_mib": peak_mib(),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "loss": loss.item(),
    }
    print(json.dumps(found))


def built(args: argparse.Namespace) -> torch.nn.Module:
    """The model of a kind, with tied embeddings."""
    shared = {
        "vocab_size": args.vocab,
        "hidden_size": args.dim,
        "num_hidden_layers": args.layers,
        "state_size": args.state_dim,
        "expand": 2,
        "tie_word_embeddings": True,
    }
    if args.kind == "mamba":
        return MambaForCausalLM(MambaConfig(**shared))
    heads = {"head_dim": args.head_dim, "num_heads": 2 * args.dim // args.head_dim, "n_groups": 1}
    return Mamba2ForCausalLM(Mamba2Config(**shared, **heads))


def parse() -> argparse.Namespace:
    """Sizes, as `bench_mixers.py` passes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=("mamba", "mamba2"), required=True)
    sizes = {"dim": 128, "layers": 7, "state-dim": 16, "head-dim": 32, "vocab": 2048}
    sizes |= {"length": 2048, "rows": 2, "steps": 3, "threads": 1}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
