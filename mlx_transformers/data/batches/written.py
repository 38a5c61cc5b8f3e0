"""Shared base of kinds whose rows are a prompt and completions of it: texts, or lists of messages
that the chat template writes."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from ..chat_template import ChatTemplate, Message, TemplateError
from ..pieces import Piece, Record, RowError
from ..tokenizers.tokenizer import Tokenizer
from .chat import chat_template, template_source, tools_of
from .fields import string, with_words
from .record_kind import RecordKind


class WrittenKind(RecordKind):
    """A row whose prompt and completions are texts, or lists of messages (`role`, `content`) that
    the chat template writes.

    Completions may begin with their prompt, in a row without another field: it is what both of a
    pair begin with, and all messages of a conversation but the last.
    """

    template: str | None = None
    """File of a Jinja template, or "chatml", for rows of messages. Unset: the one published with
    the tokenizer."""
    special_tokens: bool = False
    """Whether special tokens that a text spells out, such as those of a chat template, are tokens;
    `mlxt chat --web` writes prompts with them."""

    def cache_key(self) -> dict[str, object]:
        template = {"template": template_source(self.template)} if self.template else {}
        special = {"special_tokens": True} if self.special_tokens else {}
        return super().cache_key() | template | special

    def with_texts(
        self, piece: Piece, prompt_key: str, keys: Sequence[str], others: Sequence[str] = ()
    ) -> Piece:
        """Return a record whose text is that of its prompt and completions, after checking that it
        has these fields and `others`.

        Raises:
            DataError: as `with_words`.
        """
        record = piece.record or {}
        lists = bool(keys) and all(isinstance(record.get(key), list) for key in keys)
        alone = len(keys) > 1 and record.keys() <= {*keys, *others}
        implicit = prompt_key not in record and (lists or alone)
        words = [*([] if implicit else [prompt_key]), *keys]
        return with_words(piece, self.kind, [*words, *others], words, text_of)

    def sides(
        self, record: Record, tokenizer: Tokenizer, prompt_key: str, keys: Sequence[str]
    ) -> list[tuple[list[int], list[int]]]:
        """Return `answered` for each completion of a record.

        Raises:
            RowError: prompt and completions don't fit each other, or the template refuses them.
        """
        completions = [record[key] for key in keys]
        if not any(isinstance(completion, list) for completion in completions):
            if prompt_key in record:
                prompt, texts = string(record, prompt_key), completions
            else:
                prompt = _shared_text(completions)
                texts = [text[len(prompt) :] for text in completions]
            return [answered(tokenizer, prompt, text, self.special_tokens) for text in texts]
        if not all(isinstance(completion, list) for completion in completions):
            raise RowError(f"of {' and '.join(keys)} one is a text and one a list of messages.")
        before = record.get(prompt_key)
        if not isinstance(before, list):
            shared = _shared_turns(completions)
            if before is not None and all(before != turn.get("content") for turn in shared):
                raise RowError(f"the text of '{prompt_key}' is no message before the completions.")
            before = shared
            completions = [turns[len(before) :] for turns in completions]
        template, tools = chat_template(self.template, tokenizer), tools_of(record, "tools")
        written = [_written(template, before, turns, tools) for turns in completions]
        return [
            answered(tokenizer, prompt, text, special_tokens=True, whole=True)
            for prompt, text in written
        ]


def answered(
    tokenizer: Tokenizer,
    prompt: str,
    completion: str,
    special_tokens: bool = False,
    whole: bool = False,
) -> tuple[list[int], list[int]]:
    """The tokens of a prompt with its completion, and 1 for each token of the completion.

    Args:
        tokenizer: the tokenizer, whose prefix stands before the prompt, once, and whose end of text
            after the completion.
        prompt: the prompt.
        completion: its completion.
        special_tokens: whether special tokens that the texts spell out are tokens.
        whole: whether the texts have their own beginning and end: nothing is put around them.
    """
    encode = tokenizer.encode_special_with_ends if special_tokens else tokenizer.encode_with_ends
    tokens, ends = encode(prompt + completion)
    border = len(prompt.encode())
    in_completion = (np.asarray(ends) > border).astype(int).tolist()
    prefix = [] if whole else prefix_before(tokenizer, tokens, special_tokens)
    end = [] if whole or tokenizer.eos_id is None else [tokenizer.eos_id]
    return [*prefix, *tokens, *end], [0] * len(prefix) + in_completion + [1] * len(end)


def prefix_before(tokenizer: Tokenizer, tokens: list[int], special_tokens: bool) -> list[int]:
    """The tokens that a tokenizer puts before those of a text, unless the text spells them out."""
    prefix = list(tokenizer.prefix)
    return [] if special_tokens and tokens[: len(prefix)] == prefix else prefix


def text_of(record: Mapping[str, Any], key: str, where: str = "a record") -> str:
    """The text of a field: a string, or the contents of a list of messages.

    Raises:
        RowError: it is something else.
    """
    value = record[key]
    if not isinstance(value, list):
        return string(record, key, where)
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
            raise RowError(f"{where}: message {number} of the field '{key}' has no 'role'.")
    if not value:
        raise RowError(f"{where}: the field '{key}' is a list without a message.")
    return "\n".join(str(turn.get("content") or "") for turn in value)


def prompt_text(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Any] | None = None
) -> str:
    """The text that prompts for an answer to messages.

    Raises:
        RowError: the template refuses them, or the last one is the assistant's.
    """
    if not messages or messages[-1].get("role") == "assistant":
        raise RowError(
            "a prompt of messages ends with the user's or a tool's, and this one doesn't."
        )
    try:
        return template.render(messages, tools=tools, add_generation_prompt=True).text
    except TemplateError as error:
        raise RowError(str(error)) from None


def _written(
    template: ChatTemplate, before: list[Message], turns: list[Message], tools: list[Any] | None
) -> tuple[str, str]:
    """A prompt and its completion as the template writes them."""
    if not turns or any(turn.get("role") != "assistant" for turn in turns):
        raise RowError("a completion is made of the assistant's messages alone, of one or more.")
    prompt = prompt_text(template, before, tools)
    try:
        text = template.render([*before, *turns], tools=tools).text
    except TemplateError as error:
        raise RowError(str(error)) from None
    if not text.startswith(prompt):
        raise RowError(
            "the chat template writes the assistant's turn in another way than its prompt begins, "
            "so the completion can't be told from the prompt. Give another data.batch.template."
        )
    return prompt, text[len(prompt) :]


def _shared_text(texts: Sequence[str]) -> str:
    """The beginning of all texts, without a last space: it belongs to the word behind it (TRL)."""
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    shared = "".join(letters[0] for letters in columns)
    return shared[:-1] if shared.endswith(" ") else shared


def _shared_turns(conversations: Sequence[list[Message]]) -> list[Message]:
    """The messages that conversations begin with: of a single one, all but the last."""
    if len(conversations) == 1:
        return conversations[0][:-1]
    shared = []
    for turns in zip(*conversations, strict=False):
        if any(turn != turns[0] for turn in turns):
            break
        shared.append(turns[0])
    return shared
