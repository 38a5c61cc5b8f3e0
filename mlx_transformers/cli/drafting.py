"""Options of `mlxt generate` for drafts of speculative decoding."""

from typing import TYPE_CHECKING, TypedDict

from ..core.errors import RunError

if TYPE_CHECKING:
    from ..data.tokenizers.tokenizer import Tokenizer
    from ..decode.drafts import Draft, ModelDraft


class Drafting(TypedDict):
    """Arguments of `stream` for speculative decoding."""

    draft: "Draft"
    draft_tokens: int


OWN = ("lookup", "mtp", "early_exit")
"""Values of --draft that are no runs."""


def check_draft(draft: str | None) -> None:
    """Look for the run that --draft names, if it names one.

    Raises:
        RunError: there is no such run.
    """
    from ..runs.folder import find_checkpoint

    if draft is not None and draft not in OWN:
        find_checkpoint(draft)


def drafting(draft: str, n: int | None, n_layers: int | None, tokenizer: "Tokenizer") -> Drafting:
    """Return the arguments of `stream` for --draft, --draft-tokens and --draft-layers.

    Raises:
        RunError: the draft is a run that can't be read or has another tokenizer, or has no layers
            to choose.
    """
    from ..decode.drafts import EarlyExitDraft, MtpDraft, PromptLookup
    from ..decode.speculative import LENGTH

    if n_layers is not None and draft != "early_exit":
        raise RunError("--draft-layers goes with --draft early_exit.")
    tokens = n or LENGTH
    if draft == "lookup":
        return {"draft": PromptLookup(), "draft_tokens": tokens}
    if draft == "mtp":
        return {"draft": MtpDraft(), "draft_tokens": tokens}
    if draft == "early_exit":
        return {"draft": EarlyExitDraft(n_layers), "draft_tokens": tokens}
    return {"draft": _draft_run(draft, tokenizer), "draft_tokens": tokens}


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
