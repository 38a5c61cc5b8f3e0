"""A page read as a browser would: elements, ids, what it refers to, and its text."""

from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reading(HTMLParser):
    """The elements of a page; every one must be closed in its turn."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.words: dict[str, str] = {}
        self.section = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if found.get("id"):
            self.ids.append(found["id"] or "")
        if tag == "section":
            self.section = found["id"] or ""
        self.references += [v or "" for k, v in attrs if k in ("href", "src", "xlink:href")]
        for value in found.values():
            if value and "url(" in value:
                self.references.append(value.split("url(")[1].split(")")[0])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.handle_data(" " if tag in ("td", "th", "h2") else "")
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        self.words[self.section] = self.words.get(self.section, "") + data
