"""Opens a run as an assistant: model, chat template and tools."""

from collections.abc import Sequence
from pathlib import Path

from ..assembly.recipe import Recipe
from ..assembly.run_data import run_recipe
from ..assembly.saved import load
from ..chat.assistant import Assistant
from ..chat.calculator import Calculator
from ..chat.chat_format import ChatFormat
from ..chat.config import RetrievalConfig, Tools
from ..chat.retrieval import Index, Retrieval, by_embeddings, by_words, read_passages
from ..chat.toolbox import Tool, Toolbox
from ..core.errors import RunError
from ..core.paths import expanded
from ..data.batches.chat import Chat, chat_template
from ..data.tokenizers.tokenizer import Tokenizer
from ..runs.folder import RUNS, find_checkpoint
from .embed import open_embedder


def open_assistant(
    run: str | Path | None = None,
    *,
    template: str | None = None,
    set: Sequence[str] = (),
    root: Path = RUNS,
) -> tuple[Assistant, Toolbox, str]:
    """Open a run as an assistant, with its tools and its name.

    Args:
        run: a run's name or folder, or a checkpoint's; None takes the newest run.
        template: a Jinja file or the name of a template; None takes the one that the run was
            trained with, else its tokenizer's own.
        set: "path=value" strings that change `[tools]`.
        root: the folder of runs.

    Raises:
        MlxtError: there is no such run, its model doesn't continue texts, or a template or a text
            can't be read.
    """
    folder, checkpoint = find_checkpoint(run, root)
    if strange := [key for key in set if not key.startswith("tools.")]:
        raise RunError(f"--set {strange[0]}: a conversation reads only the table [tools].")
    recipe = run_recipe(folder, set)
    model, tokenizer = load(checkpoint)
    assistant = Assistant(model, tokenizer, _format(recipe, tokenizer, template))
    return assistant, _toolbox(recipe.tools), folder.path.name


def _format(recipe: Recipe, tokenizer: Tokenizer, template: str | None) -> ChatFormat | None:
    """The format of conversations; None without any template."""
    recipe_template = recipe.data.batch.template if isinstance(recipe.data.batch, Chat) else None
    source = template or recipe_template
    if source is None and tokenizer.chat_template is None:
        return None
    return ChatFormat(chat_template(source, tokenizer), tokenizer)


def _toolbox(tools: Tools) -> Toolbox:
    toolbox: list[Tool] = [Calculator()] if tools.calculator else []
    if tools.retrieval is not None:
        toolbox.append(_retrieval(tools.retrieval))
    return Toolbox(toolbox)


def _retrieval(config: RetrievalConfig) -> Retrieval:
    """The search in a folder; with an embedder its passages are embedded now."""
    passages = read_passages(expanded(config.folder), config.words)
    texts = [passage.text for passage in passages]
    if config.embedder is None:
        scores = by_words(texts)
    else:
        scores = by_embeddings(texts, open_embedder(config.embedder))
    return Retrieval(Index(passages, scores), config.passages)
