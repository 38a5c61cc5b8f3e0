"""Conversations: supervised fine-tuning with a chat template, on the assistant's turns."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from ...core.errors import DataError, FormatError
from ...core.parse import LINE, parse_json, read_text
from ...core.paths import expanded
from ..chat_template import TEMPLATES, ChatTemplate, Message, Rendered, TemplateError
from ..example_rows import RecordExamples, RecordRows, Row
from ..kinds import BatchSetting, Columns
from ..pieces import Piece, Record, RowError
from ..prepared import Prepared
from ..records import Records
from ..shards import Split
from ..tokenizers.tokenizer import Tokenizer
from .record_kind import RecordKind

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
"""The roles of ShareGPT's rows, and what chat templates call them."""


class Chat(RecordKind):
    """A conversation per row, as the chat template writes it; the assistant's turns count.

    `tokens` [B, T + 1], padded on the right, `weights` [B, T]: 1 where a token that the assistant
    writes is predicted, by the template's `{% generation %}` tags or, without them, by what each of
    its turns adds to the text. Rows longer than T + 1 tokens lose their end.

    A row has `messages` (`role`, `content`), ShareGPT's `conversations` (`from`, `value`), or
    Alpaca's `instruction`, `input`, `output`.
    """

    kind: Literal["chat"] = "chat"
    gives: ClassVar[tuple[str, ...]] = ("tokens", "weights")

    messages_key: str = "messages"
    """Field of the turns."""
    tools_key: str = "tools"
    """Field of the functions that may be called; rows may lack it."""
    template: str | None = None
    """File of a Jinja template, or "chatml"; "chatml_tools" and "tags" write calls of tools, too.
    Unset: the one published with the tokenizer."""
    turns: Literal["all", "last", "text"] = "all"
    """Tokens that count: all turns of the assistant, its last one, or every token."""

    def cache_key(self) -> dict[str, object]:
        source = None if self.template is None else template_source(self.template)
        return super().cache_key() | {"chat": [self.messages_key, self.tools_key, source]}

    def columns(self, seq_len: int) -> Columns:
        return Columns(seq_len, seq_len)

    def accept(self, piece: Piece) -> Piece:
        if piece.record is None:
            raise DataError(
                f"{piece.where or 'The text'}: data.batch.kind = 'chat' is made of records with "
                f"'{self.messages_key}', and this is running text. Give a .jsonl file."
            )
        turns = self._messages(piece.record, piece.where)
        tools_of(piece.record, self.tools_key, piece.where)
        text = "\n".join(str(turn.get("content") or "") for turn in turns)
        return Piece(text, where=piece.where, record=piece.record, group=piece.group)

    def _messages(self, record: Record, where: str = "a record") -> list[Message]:
        """Return the turns of a record.

        Raises:
            RowError: they have another form, or no turn is the assistant's.
        """
        turns = _turns(record, self.messages_key)
        if turns is None:
            raise RowError(
                f"{where}: a conversation is '{self.messages_key}', a list of turns with 'role' "
                "and 'content'; or 'conversations' with 'from' and 'value'; or 'instruction' and "
                f"'output'. The record has {', '.join(record)}."
            )
        for number, turn in enumerate(turns, 1):
            if not isinstance(turn.get("role"), str):
                raise RowError(f"{where}: turn {number} has no 'role', such as 'user'.")
            if turn.get("content") is None and not turn.get("tool_calls"):
                raise RowError(f"{where}: turn {number} has no 'content'.")
        if all(turn["role"] != "assistant" for turn in turns):
            raise RowError(f"{where}: no turn is the assistant's, so there is nothing to learn.")
        return turns

    def encode(
        self, record: Record, tokenizer: Tokenizer, labels: Mapping[str, int]
    ) -> list[list[int]]:
        template = chat_template(self.template, tokenizer)
        try:
            rendered = template.answers(
                self._messages(record), tools=tools_of(record, self.tools_key)
            )
        except TemplateError as error:
            raise RowError(str(error)) from None
        tokens, ends = tokenizer.encode_special_with_ends(rendered.text)
        return [tokens, touched(rendered, np.asarray(ends)).tolist()]

    def rows(
        self, prepared: Prepared, split: Split, setting: BatchSetting, train: bool
    ) -> RecordRows:
        seq_len, turns = setting.seq_len, self.turns

        def make(fields: tuple[np.ndarray, ...], rng: np.random.Generator) -> Row:
            tokens, turn = fields
            counts = {"all": turn > 0, "last": turn == turn.max(), "text": turn >= 0}[turns]
            weights = counts[1 : seq_len + 1].astype(np.float32)
            return {"tokens": tokens[: seq_len + 1], "weights": weights}

        widths = {"tokens": [seq_len + 1], "weights": [seq_len]}
        records = Records(prepared, split, 2)
        if turns != "text":
            records.require_completions((1,), seq_len)
        examples = RecordExamples(records, setting, train=train)
        return RecordRows(examples, make, widths, setting.seed)


def chat_template(name: str | None, tokenizer: Tokenizer) -> ChatTemplate:
    """Return a chat template that knows the tokenizer's special tokens.

    Args:
        name: a Jinja file, or a name in `TEMPLATES`; None takes the one published with the
            tokenizer.
        tokenizer: the tokenizer.

    Raises:
        DataError: there is none, or it can't be read.
    """
    source = template_source(name) if name else tokenizer.chat_template
    if source is None:
        raise DataError(
            "This tokenizer has no chat template: name a file with data.batch.template, or set it "
            "to 'chatml'."
        )
    special = {number: text for text, number in tokenizer.special_ids.items()}
    ids = (("bos_token", tokenizer.bos_id), ("eos_token", tokenizer.eos_id))
    special_texts = tuple((name, special.get(i, "")) for name, i in ids if i is not None)
    return _compiled(source, special_texts)


@lru_cache
def _compiled(source: str, special: tuple[tuple[str, str], ...]) -> ChatTemplate:
    """The template, read once for all rows."""
    return ChatTemplate(source, dict(special))


def touched(rendered: Rendered, ends: np.ndarray) -> np.ndarray:
    """The number of the span that each token touches, from 1, int [n]; 0 for none. `ends` are the
    ends of tokens in UTF-8 bytes."""
    starts = np.concatenate([[0], ends[:-1]])
    span_of_token = np.zeros(len(ends), dtype=np.int64)
    for number, span in enumerate(rendered.spans, 1):
        start, end = (len(rendered.text[:place].encode()) for place in span)
        span_of_token[(starts < end) & (ends > start)] = number
    return span_of_token


def tools_of(record: Record, key: str, where: str = "a record") -> list[Any] | None:
    """Return the functions of a record, a list or its JSON; None where it has none.

    Raises:
        RowError: they are something else.
    """
    tools = record.get(key)
    if isinstance(tools, str):
        try:
            tools = parse_json(tools, where, LINE) if tools.strip() else None
        except FormatError as error:
            raise RowError(f"{where}: the field '{key}' is no JSON: {error}") from None
    if tools is not None and not isinstance(tools, list):
        raise RowError(
            f"{where}: the field '{key}' is {tools!r:.60}. It is a list of functions, or the JSON "
            "of one."
        )
    return tools or None


def _turns(record: Record, key: str) -> list[Any] | None:
    """The turns of a record in any of the three layouts; None if it has none of them."""
    turns = record.get(key)
    if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
        return turns
    turns = record.get("conversations")
    if isinstance(turns, list) and all(isinstance(t, dict) and "value" in t for t in turns):
        roles = [str(turn.get("from")) for turn in turns]
        return [
            {"role": ROLES.get(role, role), "content": turn["value"]}
            for role, turn in zip(roles, turns, strict=True)
        ]
    if isinstance(record.get("instruction"), str) and isinstance(record.get("output"), str):
        more = record.get("input")
        question = f"{record['instruction']}\n\n{more}" if more else record["instruction"]
        return [
            {"role": "user", "content": question},
            {"role": "assistant", "content": record["output"]},
        ]
    return None


def template_source(path: str) -> str:
    """The text of a template, by its file or name.

    Raises:
        DataError: it can't be read.
    """
    if path in TEMPLATES:
        return TEMPLATES[path]
    try:
        return read_text(expanded(path), f"The chat template '{path}'", DataError)
    except DataError as error:
        raise DataError(f"{error} It is a Jinja file, or one of {', '.join(TEMPLATES)}.") from None
