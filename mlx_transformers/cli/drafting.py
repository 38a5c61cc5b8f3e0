"""Options of `mlxt generate` for drafts of speculative decoding."""

from typing import TYPE_CHECKING, Any

from ..core.errors import RunError
from .generate_run import Opened

if TYPE_CHECKING:
    from ..data.tokenizers.tokenizer import Tokenizer
    from ..decode.drafts import ModelDraft


def drafting(
    draft: str | None, n: int | None, n_layers: int | None, opened: Opened
) -> dict[str, Any]:
    """Return the arguments of `stream` for --draft, --draft-tokens and --draft-layers; none without
    a draft.

    Raises:
        RunError: the draft is a run that can't be read or has another tokenizer, or has no layers
            to choose.
    """
    from ..decode.drafts import EarlyExitDraft, MtpDraft, PromptLookup
    from ..decode.speculative import LENGTH

    if draft is None:
        return {}
    if n_layers is not None and draft != "early_exit":
        raise RunError("--draft-layers goes with --draft early_exit.")
    tokens = n or LENGTH
    if draft == "lookup":
        return {"draft": PromptLookup(), "draft_tokens": tokens}
    if draft == "mtp":
        return {"draft": MtpDraft(), "draft_tokens": tokens}
    if draft == "early_exit":
        return {"draft": EarlyExitDraft(n_layers), "draft_tokens": tokens}
    return {"draft": _draft_run(draft, opened.tokenizer), "draft_tokens": tokens}


def _draft_run(run: str, tokenizer: "Tokenizer") -> "ModelDraft":
    """Load a smaller run as the draft model.

    Raises:
        RunError: there is no such run, or it has another tokenizer.
    """
    from ..assembly.saved import load
    from ..decode.drafts import ModelDraft
    from ..verbs.search import writer

    model, draft_tokenizer = load(run)
    if draft_tokenizer.fingerprint() != tokenizer.fingerprint():
        raise RunError(
            f"--draft {run} has another tokenizer than the run, so its tokens mean something "
            "else. Train a draft with the same tokenizer: --set data.tokenizer.kind=saved."
        )
    return ModelDraft(writer(model))
