"""The pages, and what is written in them: links, code blocks, commands."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"(?:<!-- (?P<mark>\w+) (?P<path>[\w./-]+) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block; `mark` and `path` are from a comment right above it."""

    page: Path
    language: str
    text: str
    mark: str | None
    path: str | None

    def __str__(self) -> str:
        title = next((line for line in self.text.splitlines() if line), "")
        return f"{name(self.page)}: {title}"


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, of one language or of all."""
    found = [
        Block(page, m["language"], m["text"], m["mark"], m["path"])
        for m in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]
    return [block for block in found if language in (None, block.language)]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[list[str]]:
    """Every `mlxt` command of a page, in shell blocks and in the text, as its arguments."""
    found = [shlex.split(line, comments=True) for line in steps(page) if line.startswith("mlxt ")]
    return [words[1 : words.index(">") if ">" in words else None] for words in found]


def steps(page: Path) -> list[str]:
    """What a page has its reader run, in order: command lines, and whole Python blocks."""
    found: list[str] = []
    end = 0
    text = page.read_text(encoding="utf-8")
    for m in BLOCK.finditer(text):
        found += _in_text(text[end : m.start()])
        found += m["text"].replace("\\\n", " ").splitlines() if m["language"] == "sh" else []
        found += [m["text"]] if m["language"] == "python" else []
        end = m.end()
    return [step for step in [*found, *_in_text(text[end:])] if step]


def _in_text(prose: str) -> list[str]:
    """The commands in a paragraph's code."""
    return re.findall(r"`((?:mlxt|make|python|sh) [^`]+)`", prose.replace("\n", " "))


def name(page: Path) -> str:
    """A page as a test's id."""
    return page.relative_to(ROOT).as_posix()
