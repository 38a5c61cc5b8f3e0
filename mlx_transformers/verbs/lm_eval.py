"""Runs as models of the lm-evaluation-harness, which asks for log-likelihoods and generations.

import lm_eval
from mlx_transformers.verbs.lm_eval import harness

print(lm_eval.simple_evaluate(model=harness("runs/mistral_tiny"), tasks=["lambada_openai"]))

Gao et al., "A framework for few-shot language model evaluation"; its interface is `LM` in
lm_eval/api/model.py, and this module works without it but to be called by it. `mlxt eval --tasks`
runs its tasks from the command line.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypedDict

from ..assembly.saved import load
from ..core.errors import MlxtError, RunError, unknown
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.generate import generate_batch
from ..decode.sample import Sampling
from ..decode.windows import Window, continuation_window, rolling_windows, score_windows
from ..models.model import Model, causal_decoder

BATCH = 8
"""Texts that are read or generated at once."""
MAX_TOKENS = 256
"""Tokens of a generation for which the harness names no limit."""
ABSENT = "The harness is not installed: pip install 'mlxt[harness]'."


Metrics = dict[str, float | str]
"""Metrics of a task by name, its alias among them."""


class Options(TypedDict, total=False):
    """Options of a generation, as a task of the harness names them."""

    until: str | list[str]
    max_gen_toks: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float


class Continuation(Protocol):
    """A request of the harness for the likelihood of a continuation: `(context, continuation)`."""

    args: tuple[str, str]


class Text(Protocol):
    """A request for the likelihood of a whole text: `(text,)`."""

    args: tuple[str]


class Generation(Protocol):
    """A request for a generated text: `(context, options)`."""

    args: tuple[str, Options]


class Responder:
    """A decoder that answers the harness's three kinds of request.

    A text begins with the tokens of the tokenizer's template (BOS), as in `mlxt generate`, else
    with the token that begins or ends a document. Where there is none, the first token of a text is
    not scored.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer) -> None:
        """Raise RunError if the model doesn't continue texts."""
        super().__init__()
        decoder = causal_decoder(model)
        if decoder is None:
            raise RunError(
                "The harness measures models that continue a text, and this run's doesn't: "
                "mlxt eval --task measures it."
            )
        self.model = decoder
        self.tokenizer = tokenizer
        begins = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
        self.before = list(tokenizer.prefix) or ([] if begins is None else [begins])

    def loglikelihood(
        self, requests: Sequence[Continuation], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """For each `(context, continuation)`: `log p(continuation | context)` in nats, and whether
        greedy decoding would give the continuation."""
        windows = [self._continued(*request.args) for request in requests]
        scores = score_windows(self.model, windows, BATCH)
        return [(score.loglikelihood, score.is_greedy) for score in scores]

    def loglikelihood_rolling(
        self, requests: Sequence[Text], disable_tqdm: bool = False
    ) -> list[float]:
        """For each `(text,)`: `log p(text)` in nats, each token scored once, in disjoint windows
        with as much context as the model's length allows."""
        windows = [
            rolling_windows(
                self.before, self.tokenizer.encode(request.args[0]), self.model.max_seq_len
            )
            for request in requests
        ]
        scores = iter(
            score_windows(self.model, [window for text in windows for window in text], BATCH)
        )
        return [float(sum(next(scores).loglikelihood for _ in text)) for text in windows]

    def generate_until(
        self, requests: Sequence[Generation], disable_tqdm: bool = False
    ) -> list[str]:
        """For each `(context, options)`: the generated text, up to the first of the strings
        `until`.

        Raises:
            RunError: an option that isn't known.
        """
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(repr(sorted(request.args[1].items())), []).append(i)
        text_of: dict[int, str] = {}
        for numbers in groups.values():
            contexts = [requests[i].args[0] for i in numbers]
            texts = self._generated(contexts, requests[numbers[0]].args[1])
            text_of |= dict(zip(numbers, texts, strict=True))
        return [text_of[i] for i in range(len(requests))]

    def _continued(self, context: str, continuation: str) -> Window:
        # A space at the seam belongs to the word after it, as in the tokenizer's own pieces.
        bare = context.rstrip()
        bare, continuation = bare, context[len(bare) :] + continuation
        if not bare:
            first, tokens = self.before, self.tokenizer.encode(continuation)
        else:
            inside = self.tokenizer.encode(bare)
            tokens = self.tokenizer.encode(bare + continuation)[len(inside) :]
            first = [*self.tokenizer.prefix, *inside]
        longest = self.model.max_seq_len
        if len(tokens) > longest:
            raise RunError(
                f"A continuation of {len(tokens):,} tokens is longer than the model's context of "
                f"{longest:,}."
            )
        return continuation_window(first, tokens, longest)

    def _generated(self, contexts: list[str], options: Options) -> list[str]:
        """The texts that follow contexts with the same options."""
        option_names = Options.__annotations__
        if strange := sorted(set(options) - set(option_names)):
            raise RunError(unknown("option of generate_until", strange[0], option_names))
        temp = options.get("temperature", 1.0) if options.get("do_sample", False) else 0.0
        longest = self.model.max_seq_len
        limit = min(options.get("max_gen_toks", MAX_TOKENS), longest - 1)
        prompts = [
            [*self.tokenizer.prefix, *self.tokenizer.encode(context)] or self.before
            for context in contexts
        ]
        texts = generate_batch(
            self.model,
            self.tokenizer,
            [prompt[-(longest - limit) :] for prompt in prompts],
            max_tokens=limit,
            sampling=Sampling(temp, options.get("top_p", 1.0), options.get("top_k", 0)),
            stop=options.get("until") or (),
            rows=BATCH,
        )
        return [group[0].text for group in texts]


def harness(run: str | Path | None = None) -> Responder:
    """Make a run a model that `lm_eval.simple_evaluate(model=...)` takes.

    Args:
        run: a run's name or folder, or one of its checkpoints; None is the newest run.

    Raises:
        MlxtError: there is no such run, it continues no text, or lm_eval is absent.
    """
    try:
        from lm_eval.api.model import LM
    except ImportError:
        raise RunError(ABSENT) from None
    model: Responder = type("Run", (Responder, LM), {})(*load(run))
    return model


def evaluate_tasks(
    run: str | Path | None,
    tasks: Sequence[str],
    *,
    shots: int | None = None,
    limit: int | None = None,
    folders: Sequence[Path] = (),
) -> dict[str, Metrics]:
    """Measure a run at tasks of the harness.

    Args:
        run: a run's name or folder, or one of its checkpoints; None is the newest run.
        tasks: names of tasks, those of `folders` included.
        shots: examples in each prompt; None takes each task's own number.
        limit: examples of each task; None takes all.
        folders: folders with task files (YAML) of one's own.

    Returns:
        The harness's results: for each task, metrics by name.

    Raises:
        MlxtError: as `harness`; a task is unknown, a folder is missing, or the harness fails.
    """
    for folder in folders:
        if not folder.is_dir():
            raise RunError(f"--task-folder {folder}: there is no such folder.")
    model = harness(run)
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=[str(folder) for folder in folders] or None)
    missing = [task for task in tasks if task not in manager.all_tasks]
    if missing:
        skipped = " It passes over files of --task-folder that it can't read." if folders else ""
        sentence = unknown("task of the harness", missing[0], manager.all_tasks)
        raise RunError(f"{sentence}{skipped}")
    try:
        evaluation = lm_eval.simple_evaluate(
            model=model,
            tasks=list(tasks),
            num_fewshot=shots,
            limit=limit,
            task_manager=manager,
            bootstrap_iters=1000,
            log_samples=False,
        )
    except MlxtError:  # of the model, such as a text that is longer than its context
        raise
    except Exception as error:  # a task's template, functions, packages and data each have theirs
        raise RunError(
            f"The harness can't run {', '.join(tasks)} ({type(error).__name__}: {error}). A task's "
            "data set, and the packages and functions that its file names, have to be on this "
            "machine."
        ) from error
    return dict(evaluation["results"])
