"""A model that answers: token streams with stop texts, log-probabilities and compiled steps that
are kept between answers."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..core.errors import RunError
from ..core.task import described
from ..data.tokenizers.tokenizer import Tokenizer
from ..decode.engine import Engine, unobserved
from ..decode.sample import Sampling
from ..decode.stats import EndReason
from ..decode.top_tokens import TokenLogprob, observed_tokens, top_tokens
from ..decode.writer import TextWriter
from ..models.model import Decodable, Model
from .chat_format import ChatFormat

ENGINES = 4
"""Compiled steps that are kept, one for each set of sampling options."""


@dataclass(frozen=True)
class Request:
    """A text to continue, and how.

    Attributes:
        tokens: the prompt.
        max_tokens: the most tokens to generate; the model's context may allow fewer.
        sampling: how tokens are drawn.
        seed: of the draws.
        stop: texts before which to end.
        top: how many of the most probable tokens are reported with each token; None reports none.
    """

    tokens: Sequence[int]
    max_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    stop: tuple[str, ...] = ()
    top: int | None = None


@dataclass(frozen=True)
class Piece:
    """The part of a text that one decoding step adds.

    Attributes:
        text: perhaps empty, while a character or a stop text may be incomplete.
        token: the drawn token, where log-probabilities were asked for.
        end: why the text ends with this piece; None while it goes on.
        n_tokens: tokens drawn so far.
    """

    text: str
    token: TokenLogprob | None = None
    end: EndReason | None = None
    n_tokens: int = 0


class Assistant:
    """A decoder, its tokenizer and the format of its conversations.

    Attributes:
        model: the decoder.
        tokenizer: its tokenizer.
        format: of its conversations; None for a model that only continues texts.
    """

    def __init__(self, model: Model, tokenizer: Tokenizer, chat_format: ChatFormat | None) -> None:
        """Raises RunError where the model doesn't continue texts."""
        if "causal_lm" not in model.tasks or not isinstance(model, Decodable):
            raise RunError(
                f"This run's model is {described(model.tasks)}, so it can't answer: use a "
                "decoder's run."
            )
        self.model: Decodable = model
        self.tokenizer = tokenizer
        self._format = chat_format
        self._engines: OrderedDict[tuple[Sampling, int | None], Engine] = OrderedDict()

    @property
    def format(self) -> ChatFormat:
        """The format of conversations.

        Raises:
            RunError: the model has none.
        """
        if self._format is None:
            raise RunError(
                "This run has no chat template. mlxt chat and mlxt serve take one with --template "
                "(a Jinja file, or chatml); for other commands, fine-tune the run on conversations "
                "with data.batch.kind = 'chat' and data.batch.template = 'chatml'."
            )
        return self._format

    @property
    def context(self) -> int:
        """The most tokens of a prompt and its answer together."""
        return self.model.max_seq_len

    def room(self, max_tokens: int) -> int:
        """Return the most tokens of a prompt that leave room for an answer, for which up to half of
        the context is reserved."""
        return self.context - max(1, min(max_tokens, self.context // 2))

    def stream(self, request: Request) -> Iterator[Piece]:
        """Generate the pieces of a text; the last one has `end`.

        Raises:
            RunError: the prompt has no token, or leaves no room in the context.
        """
        tokens = list(request.tokens)
        room = self.context - len(tokens)
        if room < 1:
            raise RunError(
                f"The prompt has {len(tokens):,} tokens, and the model's context of "
                f"{self.context:,} has to hold the answer too. Shorten it."
            )
        limit_reason: EndReason = "length" if request.max_tokens <= room else "context"
        engine = self._engine(request.sampling, request.top)
        calls = None if self._format is None else self._format.call_format
        marks = "" if calls is None else calls.before + calls.after
        writer = TextWriter(self.tokenizer, request.stop, marks=marks)
        engine.start([tokens], [request.seed])
        for (token,) in engine.tokens(min(request.max_tokens, room)):
            top_tokens = None if request.top is None else observed_tokens(engine, [token])[0]
            text = writer.feed(token)
            if writer.ended is not None:
                break
            yield Piece(text, top_tokens, n_tokens=writer.tokens)
        else:
            text = ""
        text += writer.finish()
        yield Piece(text, end=writer.ended or limit_reason, n_tokens=writer.tokens)

    def _engine(self, sampling: Sampling, top: int | None) -> Engine:
        """The engine of these options, whose step is compiled once."""
        key = (sampling, top)
        if key not in self._engines:
            vocab_size = min(self.model.vocab_size, self.tokenizer.vocab_size)
            observe = unobserved if top is None else top_tokens(top)
            self._engines[key] = Engine(
                self.model, sampling=sampling, vocab_size=vocab_size, observe=observe
            )
            if len(self._engines) > ENGINES:
                self._engines.popitem(last=False)
        self._engines.move_to_end(key)
        return self._engines[key]
