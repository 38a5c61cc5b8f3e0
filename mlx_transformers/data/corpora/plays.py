"""Converts plays from markdown to plain text, scene by scene."""

import re
from collections.abc import Iterator

SPEAKER = re.compile(r"^\*\*(.+?)\*\*$", re.MULTILINE)
DIRECTION = re.compile(r"(?<!\w)(?:\*|_{1,2})((?:[^*_\n]|\n(?!\n))+)[*_](?!\w)")
ESCAPE = re.compile(r"\\([^\w\s])")


def scenes(markdown: str) -> Iterator[tuple[str, str]]:
    """Yield the heading and text of each scene of a play.

    A scene starts with one heading line, "HAMLET. ACT I. SCENE I. Elsinore. …". Then come
    speeches, `NAME:` above the lines spoken, and stage directions in square brackets, each with
    an empty line after it.
    """
    title = act = heading = ""
    lines: list[str] = []
    for line in plain(markdown).split("\n"):
        if not line.startswith("#"):
            lines.append(line)
            continue
        yield from _scene(heading, lines)
        level, lines = line.lstrip("#").strip(), []
        if not title:
            title = level.upper()
        elif level.startswith("ACT"):
            act, level = level, ""
        else:
            heading = ". ".join(part for part in (title, act, level) if part)
            continue
        heading = ". ".join(part for part in (title, act) if part)
    yield from _scene(heading, lines)


def plain(markdown: str) -> str:
    """Remove the markup: `**NAME**` becomes `NAME:`, `_direction_` becomes `[direction]`."""
    text = re.sub(r"[ \t]+$", "", markdown.replace("\r\n", "\n"), flags=re.MULTILINE)
    text = SPEAKER.sub(r"\1:", text)
    text = DIRECTION.sub(lambda match: _direction(match[1]), text)
    return ESCAPE.sub(r"\1", text).replace("_", "")


def _direction(text: str) -> str:
    direction = ESCAPE.sub(r"\1", " ".join(text.split()))
    return f"[{direction.strip('[] ')}]"


def _scene(heading: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    body = "\n".join(lines).strip()
    if body:
        yield heading, f"{heading}\n\n{body}\n\n"
