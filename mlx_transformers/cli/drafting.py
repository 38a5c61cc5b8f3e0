"""Options of `mlxt generate` for drafts of speculative decoding."""

from typing import Any

from ..core.errors import RunError


def drafted(
    draft: str | None, n: int | None, n_layers: int | None, exits: Any, tokenizer: Any
) -> dict[str, Any]:
    """The arguments of `stream` for speculative decoding.

    Raises:
        RunError: the draft has another tokenizer, goes with early exits, or has no such option.
    """
    from ..decode.drafts import EarlyExitDraft, MtpDraft, PromptLookup
    from ..decode.speculative import LENGTH

    if draft is None:
        for option, value in (("--draft-tokens", n), ("--draft-layers", n_layers)):
            if value is not None:
                raise RunError(f"{option} has no effect without --draft: give both.")
        return {}
    if exits is not None:
        raise RunError("--draft and --exit-threshold don't go together: give one of them.")
    if n_layers is not None and draft != "early_exit":
        raise RunError("--draft-layers goes with --draft early_exit.")
    options = {"draft_tokens": n or LENGTH}
    if draft == "lookup":
        return {"draft": PromptLookup(), **options}
    if draft == "mtp":
        return {"draft": MtpDraft(), **options}
    if draft == "early_exit":
        return {"draft": EarlyExitDraft(n_layers), **options}
    return {"draft": _draft_run(draft, tokenizer), **options}


def _draft_run(run: str, tokenizer: Any) -> Any:
    """A smaller run as the draft model.

    Raises:
        RunError: it has another tokenizer.
    """
    from ..assembly.saved import load
    from ..decode.drafts import ModelDraft

    loaded: Any = load(run)
    model, draft_tokenizer = loaded
    if draft_tokenizer.fingerprint() != tokenizer.fingerprint():
        raise RunError(
            f"--draft {run} has another tokenizer than the run, so its tokens mean something "
            "else. Train a draft with the same tokenizer: --set data.tokenizer.kind=saved."
        )
    return ModelDraft(model)
