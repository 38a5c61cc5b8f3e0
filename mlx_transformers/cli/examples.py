"""Examples at the end of the help of verbs: what is typed first, and what it does."""

EXAMPLES: dict[str, dict[str, str]] = {
    "train": {
        "mlxt train mistral_tiny --steps 400": "a first model",
        "mlxt train mistral_tiny --data notes.txt --name notes": "on your own text",
        "mlxt train mistral_tiny --resume auto --steps 800": "continue it",
        "mlxt train llama_tiny --lr 1e-3 --set optim.weight_decay=0.1": "change keys",
    },
    "finetune": {
        "mlxt finetune mistral_tiny mistral_tiny --data notes.txt": "train a run further",
        "mlxt finetune FOLDER --task classification --data reviews.jsonl": "a published model",
        "mlxt finetune mistral_tiny mistral_tiny --set adapt.kind=lora": "adapters alone (LoRA)",
    },
    "generate": {
        'mlxt generate -p "ROMEO:"': "the newest run continues a prompt",
        'mlxt generate mistral_tiny -p "ROMEO:" --temp 0.5 --samples 3': "three texts of a run",
        "mlxt generate mistral_tiny --prompts lines.txt --json": "a prompt on each line",
        'mlxt generate mistral_tiny -p "ROMEO:" --draft lookup': "speculative decoding",
    },
    "eval": {
        "mlxt eval mistral_tiny": "loss, perplexity and bits per byte",
        "mlxt eval translator --task translation --beams 4": "metrics of a task",
        "mlxt eval mistral_tiny --tasks lambada_openai,piqa": "the lm-evaluation-harness",
        "mlxt eval mistral_tiny --questions sums.jsonl --shots 0,4": "questions of your own",
    },
    "chat": {
        "mlxt chat mistral_tiny": "in the terminal",
        "mlxt chat mistral_tiny --web": "in the browser",
    },
    "plan": {
        'mlxt plan mistral_small --chip "M3 Max 64GB"': "on a Mac that you don't have",
    },
    "sweep": {
        "mlxt sweep llama_tiny --over optim.learning_rate=1e-3,3e-3 --steps 300": "a grid",
    },
    "quantize": {
        "mlxt quantize mistral_tiny --bits 4 --group-size 32": "round to nearest",
        "mlxt quantize mistral_tiny --bits 3 --method gptq": "less loss in few bits",
    },
    "export": {
        "mlxt export mistral_tiny --to hf --out folder": "for transformers",
        "mlxt export mistral_tiny --to mlx-lm --out folder": "for mlx-lm",
        "mlxt export mistral_tiny --to gguf --out model.gguf": "for llama.cpp",
    },
}
"""By verb: command lines, and what each is for."""


def examples(verb: str) -> str | None:
    """Return the examples of a verb in markdown; None if it has none."""
    lines = [f"- `{line}`  # {what}" for line, what in EXAMPLES.get(verb, {}).items()]
    return "\n".join(["Examples:", "", *lines]) if lines else None
