"""Speed of speculative decoding against plain decoding of the same run, by turns in one process.

    python tools/bench_draft.py RUN --draft lookup --prompts FILE

Each prompt (separated by lines of dashes) is continued in turns without and with the draft. Printed
are tokens per second of both, their ratio, and how many tokens a step of the model gave.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from mlx_transformers.assembly.saved import load
from mlx_transformers.cli.drafting import drafting
from mlx_transformers.cli.generate_run import Opened
from mlx_transformers.decode.generate import stream
from mlx_transformers.decode.sample import Sampling
from mlx_transformers.decode.stats import Stats


def main() -> None:
    """Measure, and print one line for each prompt and one for all."""
    options = parsed()

    model, tokenizer = load(options.run)
    opened = Opened(options.run, model, tokenizer, None, reads_source=False)
    how = drafting(options.draft, options.draft_tokens, options.draft_layers, opened)
    found = []
    for number, prompt in enumerate(prompts(options.prompts), 1):
        pairs = []
        for turn in range(options.rounds + 1):
            common = {"max_tokens": options.max_tokens, "seed": turn}
            common["sampling"] = Sampling(options.temp)
            plain = measured(model, tokenizer, prompt, common)
            fast = measured(model, tokenizer, prompt, common | how)
            if turn:  # the first one compiles
                pairs.append((plain, fast))
        before, after = (statistics.median(pace(pair[i]) for pair in pairs) for i in (0, 1))
        ratio = statistics.median(pace(fast) / pace(plain) for plain, fast in pairs)
        per_step = statistics.mean(fast.tokens_per_step or 1.0 for _, fast in pairs)
        found.append((ratio, per_step))
        print(
            f"prompt {number}: plain {before:.1f} tokens/s, with the draft {after:.1f}; "
            f"{ratio:.2f} times as fast, {per_step:.2f} tokens per step of the model",
            flush=True,
        )
    ratio, per_step = (statistics.mean(column) for column in zip(*found, strict=True))
    print(f"mean: {ratio:.2f} times as fast, {per_step:.2f} tokens per step of the model")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--draft", required=True)
    parser.add_argument("--draft-tokens", type=int)
    parser.add_argument("--draft-layers", type=int)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--temp", type=float, default=0.8)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def prompts(file: Path) -> list[str]:
    """The prompts of a file, between lines of dashes."""
    return [text.strip("\n") for text in file.read_text(encoding="utf-8").split("\n---\n")]


def measured(model: Any, tokenizer: Any, prompt: str, options: dict[str, Any]) -> Stats:
    """The figures of one text."""
    pieces = stream(model, tokenizer, prompt, special_tokens=True, **options)
    for _ in pieces:
        pass
    return pieces.stats


def pace(stats: Stats) -> float:
    """Tokens per second after the first."""
    return stats.generation_tokens_per_s or 1.0


if __name__ == "__main__":
    main()
