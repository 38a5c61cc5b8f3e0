"""Tools that a model may call. Each is a function with a JSON schema; none runs code."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..core.errors import MlxtError, unknown
from .chat_format import Call

LONGEST = 4000
"""Characters of a result that the model sees."""


class Tool(Protocol):
    """Something that a model can call.

    Attributes:
        name: as the model calls it.
        description: when to call it.
        parameters: the JSON schema of its arguments.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]

    def __call__(self, **arguments: object) -> str:
        """Return the result as text.

        Raises:
            MlxtError: the arguments are wrong; the model is told.
        """
        ...


class Toolbox:
    """The tools of a conversation; empty is false."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}

    def __bool__(self) -> bool:
        return bool(self._tools)

    def schemas(self) -> list[dict[str, Any]]:
        """Return the descriptions of the tools, in OpenAI's form, which chat templates read."""
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in self._tools.values()
        ]

    def run(self, call: Call) -> str:
        """Return the result of a call; an error is a result that the model can read, too."""
        tool = self._tools.get(call.name)
        if tool is None:
            return f"Error: {unknown('tool', call.name, self._tools)}"
        parameters = tool.parameters.get("properties", {})
        missing = [
            name for name in tool.parameters.get("required", ()) if name not in call.arguments
        ]
        if missing:
            return f"Error: {call.name} needs the argument '{missing[0]}'."
        if strange := [name for name in call.arguments if name not in parameters]:
            return f"Error: {unknown('argument', strange[0], parameters)}"
        try:
            return tool(**call.arguments)[:LONGEST]
        except MlxtError as error:
            return f"Error: {error}"
