"""Chat templates: conversations as text, by Jinja in a sandbox, with the parts to be learnt."""

import datetime
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import DataError

Message = Mapping[str, Any]


CHATML = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.role == 'assistant' -%}"
    "{%- generation -%}{{- message.content + '<|im_end|>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- message.content + '<|im_end|>' -}}{%- endif -%}"
    "{{- '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""The template of ChatML, for tokenizers that came without one."""

CHATML_TOOLS = (
    "{%- set found = namespace(tools=false) -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' or (tools and loop.first) -%}"
    "{{- '<|im_start|>system\n' -}}"
    "{%- if message.role == 'system' -%}{{- message.content -}}{%- endif -%}"
    "{%- if tools and not found.tools -%}"
    "{%- set found.tools = true -%}"
    "{{- '\n<tools>' -}}{%- for tool in tools -%}{{- '\n' + tool | tojson -}}{%- endfor -%}"
    "{{- '\n</tools>' -}}"
    "{%- endif -%}"
    "{{- '<|im_end|>\n' -}}"
    "{%- endif -%}"
    "{%- if message.role == 'assistant' -%}"
    "{{- '<|im_start|>assistant\n' -}}"
    "{%- generation -%}"
    "{{- message.content or '' -}}"
    "{%- for call in message.tool_calls or [] -%}"
    "{%- set call = call.function if call.function is defined else call -%}"
    "{{- '<tool_call>' + {'name': call.name, 'arguments': call.arguments} | tojson"
    " + '</tool_call>' -}}"
    "{%- endfor -%}"
    "{{- '<|im_end|>' -}}"
    "{%- endgeneration -%}"
    "{{- '\n' -}}"
    "{%- elif message.role == 'tool' -%}"
    "{{- '<|im_start|>tool\n' + message.content + '<|im_end|>\n' -}}"
    "{%- elif message.role != 'system' -%}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
"""ChatML with descriptions of tools in the system message and calls of them in JSON."""

TAGS = (
    "{%- if tools -%}"
    "{{- '<tools>' -}}"
    "{%- for tool in tools -%}"
    "{{- tool.function.name + '(' + (tool.function.parameters.properties or {}) | join(', ') -}}"
    "{{- ')' + ('' if loop.last else ' ') -}}"
    "{%- endfor -%}"
    "{{- '</tools>\n' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<' + message.role + '>' -}}"
    "{%- if message.role == 'assistant' -%}"
    "{%- generation -%}"
    "{{- message.content or '' -}}"
    "{%- for call in message.tool_calls or [] -%}"
    "{%- set call = call.function if call.function is defined else call -%}"
    "{{- '<call>' + {'name': call.name, 'arguments': call.arguments} | tojson + '</call>' -}}"
    "{%- endfor -%}"
    "{{- '</assistant>' -}}"
    "{%- endgeneration -%}"
    "{{- '\n' -}}"
    "{%- else -%}"
    "{{- message.content + '</' + message.role + '>\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}"
)
"""Turns between tags and tools by their signatures: short for models that read bytes."""

TEMPLATES = {"chatml": CHATML, "chatml_tools": CHATML_TOOLS, "tags": TAGS}
"""Templates of the project, by name."""


REASONING = ("reasoning_content", "thinking", "reasoning")
"""Keys of a message that hold what was thought before an answer; the first counts."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text.

    Attributes:
        text: with the template's special tokens spelled out.
        spans: `(start, end)` in characters of each part between `{% generation %}` and
            `{% endgeneration %}`; empty for a template without them.
    """

    text: str
    spans: tuple[tuple[int, int], ...] = ()


class TemplateError(DataError):
    """A template that refuses a conversation, or can't be read."""


class ChatTemplate:
    """A published chat template, rendered as transformers does: blocks and the white space before
    them are trimmed, and templates can call `raise_exception` and `strftime_now`.

    Args:
        source: the template.
        special: the special tokens it may name: `bos_token`, `eos_token`, ...
        now: the time that it sees; None means the time of the call.

    Raises:
        TemplateError: the template can't be read.
    """

    def __init__(
        self,
        source: str,
        special: Mapping[str, str] | None = None,
        *,
        now: datetime.datetime | None = None,
    ) -> None:
        self.special, self.now = dict(special or {}), now
        # Unlikely in any text, and removed again: it marks where generated parts lie.
        self._mark = secrets.token_hex(16)
        environment, jinja_error = _environment(self._mark)
        self._environment = environment
        environment.globals["strftime_now"] = self._strftime
        self._jinja_error = jinja_error
        try:
            self._template = environment.from_string(source)
        except jinja_error as error:
            line = getattr(error, "lineno", None)
            where = f" (line {line})" if line else ""
            raise TemplateError(f"The chat template can't be read{where}: {error}.") from None

    def _strftime(self, pattern: str) -> str:
        return (self.now or datetime.datetime.now()).strftime(pattern)

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = False,
        **variables: Any,
    ) -> Rendered:
        """Return the text of a conversation.

        Args:
            messages: in order, each with `role` and `content` and whatever else the template reads;
                keys whose value is None are left out.
            tools: descriptions of functions (JSON schemas) that may be called.
            add_generation_prompt: whether to end with what comes before an answer.
            variables: others that the template reads, such as `documents`.

        Raises:
            TemplateError: the template raised: roles out of order, say.
        """
        names = self.special | {
            "messages": [_normalised(message) for message in messages],
            "tools": None if tools is None else list(tools),
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        names |= variables
        marked = _unmarked(self._text(names, marks=True), self._mark)
        if not self._environment.generated:
            return marked
        # A filter over a captured part would see the marks; then only the text can be told.
        plain = self._text(names, marks=False)
        return marked if marked.text == plain else Rendered(plain)

    def _text(self, given: dict[str, Any], *, marks: bool) -> str:
        self._environment.marks, self._environment.generated = marks, False
        refusals = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
        try:
            text: str = self._template.render(given)
        except (self._jinja_error, *refusals) as error:
            words = str(error).rstrip()
            stop = "" if words.endswith((".", "!", "?")) else "."
            raise TemplateError(
                f"The chat template refused a conversation: {words}{stop}"
            ) from None
        return text

    def answers(self, messages: Sequence[Message], **settings: Any) -> Rendered:
        """Return `render` with the spans of all turns of the assistant, even where the template
        doesn't mark them: each is then what its turn adds to the text that prompts for it.

        Raises:
            TemplateError: the template raised, or writes earlier turns in another way once later
                ones follow.
        """
        rendered = self.render(messages, **settings)
        if rendered.spans:
            return rendered
        spans = []
        for i, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            try:
                before = self.render(messages[:i], add_generation_prompt=True, **settings).text
            except TemplateError:
                if i:
                    raise
                raise TemplateError(
                    "The conversation begins with the assistant, for which the chat template has "
                    "no prompt: put a turn of the user or of the system before it."
                ) from None
            after = self.render(messages[: i + 1], **settings).text
            if not (after.startswith(before) and rendered.text.startswith(after)):
                raise TemplateError(
                    f"The chat template writes turn {i + 1} in another way than its prompt begins "
                    "or later turns end it, so which of its tokens to learn can't be told. Mark "
                    "them in the template with {% generation %} and {% endgeneration %}."
                )
            spans.append((len(before), len(after)))
        return Rendered(rendered.text, tuple(spans))


def _normalised(message: Message) -> Message:
    """A message without keys of no value, and with its reasoning under the two names that templates
    read, as transformers prepares it."""
    fields = {key: value for key, value in message.items() if value is not None}
    thought = next((fields[name] for name in REASONING if name in fields), None)
    return (
        fields if thought is None else {"thinking": thought, **fields, "reasoning_content": thought}
    )


def _environment(mark: str) -> tuple[Any, type[Exception]]:
    """A sandboxed Jinja environment whose generation blocks are marked, and Jinja's error."""
    # Imported here, since few commands need it and it takes a tenth of a second.
    from jinja2 import ext, nodes
    from jinja2.exceptions import TemplateError as JinjaError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        """`{% generation %} ... {% endgeneration %}`: text of the assistant."""

        tags = {"generation"}  # noqa: RUF012  (Jinja's own name and type)
        environment: Any

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

        def _marked(self, caller: Callable[[], str]) -> str:
            self.environment.generated = True
            return f"{mark}({caller()}{mark})" if self.environment.marks else caller()

    def refuse(message: str) -> None:
        raise JinjaError(message)

    def tojson(
        value: object,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.extend(marks=True, generated=False)
    environment.filters["tojson"] = tojson  # Jinja's own escapes HTML
    environment.globals["raise_exception"] = refuse
    return environment, JinjaError


def _unmarked(text: str, mark: str) -> Rendered:
    """Text without marks, and the spans between them."""
    parts = text.split(mark)
    clean, spans, opened = parts[0], [], []
    for part in parts[1:]:
        if part[0] == "(":
            opened.append(len(clean))
        else:
            spans.append((opened.pop(), len(clean)))
        clean += part[1:]
    return Rendered(clean, tuple(sorted(spans)))
