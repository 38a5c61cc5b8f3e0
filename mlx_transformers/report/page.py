"""A page of a report: one self-contained HTML file, without scripts or network access."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..core.errors import RunError, reason
from ..runs.durable import replace_text
from .figure import palette

MARK = '<meta name="generator" content="mlxt">'
"""Marks a file as a report, which may be overwritten."""

STYLE = (
    palette()
    + """
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem) 3rem; max-width: 84rem;
  background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; margin: .4rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
p { margin: .3rem 0; overflow-wrap: anywhere; } .soft, figcaption span { color: var(--soft); }
nav a { color: var(--series-0); margin-right: .9rem; white-space: nowrap; }
.figures { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); }
.figures:has(> figure:only-child) { grid-template-columns: minmax(0, 34rem); }
.wide + .figures { margin-top: 1.2rem; }
figure { margin: 0; min-width: 0; max-width: 46rem; } figcaption { font-weight: 600; }
figcaption span { font-weight: 400; }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
svg text { fill: var(--ink); } svg * { stroke-linejoin: round; stroke-linecap: butt; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; vertical-align: top;
  border-bottom: 1px solid var(--grid); white-space: nowrap; }
td.long { white-space: normal; min-width: 18rem; overflow-wrap: anywhere; }
th { font-weight: 600; } td.number, th.number { text-align: right; }
tr.best td { font-weight: 700; }
.swatch { display: inline-block; width: .9em; height: .9em; border-radius: .2em;
  margin-right: .35em; vertical-align: -.1em; }
.name { display: inline-block; margin-right: .8em; }
pre { background: var(--panel); padding: .7rem .9rem; border-radius: .4rem; margin: .4rem 0;
  overflow-x: auto; font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }
pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; }
pre .soft { font-style: italic; } summary { cursor: pointer; padding: .25rem 0; }
@media print { details > * { display: block; } nav { display: none; } }
"""
)

LONG = 40
"""Length, in characters, above which the text of a table's cell is wrapped."""


class Page:
    """Sections under a title; `write` makes the file."""

    def __init__(self, title: str, *leads: str) -> None:
        self.title = title
        self.leads = leads
        """HTML under the title."""
        self.sections: list[tuple[str, str, str]] = []

    def add(self, name: str, title: str, *parts: str) -> None:
        """Add a section of HTML, unless all its parts are empty."""
        if content := "\n".join(part for part in parts if part):
            self.sections.append((name, title, content))

    def html(self) -> str:
        """Render the whole file."""
        links = " ".join(f'<a href="#{n}">{escape(t)}</a>' for n, t, _ in self.sections)
        body = "\n".join(
            f'<section id="{name}"><h2>{escape(title)}</h2>\n{content}\n</section>'
            for name, title, content in self.sections
        )
        leads = "\n".join(f"<p>{lead}</p>" for lead in self.leads)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'{MARK}\n<link rel="icon" href="data:,">\n<title>{escape(self.title)}</title>\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n"
            f"<h1>{escape(self.title)}</h1>\n{leads}\n<nav>{links}</nav>\n{body}\n"
            "</body>\n</html>\n"
        )

    def write(self, path: Path) -> Path:
        """Write the page; it may overwrite an earlier report, and nothing else.

        Raises:
            RunError: another file stands there, or the system refuses.
        """
        check_place(path)
        html = self.html().encode(errors="backslashreplace").decode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, html)
        except OSError as error:
            raise RunError(
                f"{path} can't be written: {reason(error)}. A report that stood there is "
                "unchanged. Make room, or choose another --out."
            ) from error
        return path


def check_place(path: Path) -> None:
    """Refuse to overwrite a file that is not an earlier report.

    Raises:
        RunError: it does.
    """
    if path.exists() and not (path.is_file() and MARK.encode() in path.read_bytes()[:1000]):
        raise RunError(f"{path} exists and is not a report of mlxt. Choose another --out.")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, best: int | None = None) -> str:
    """Make a table of HTML cells; columns of numbers are aligned to the right.

    `best` is the row to mark.
    """
    right = [
        bool(rows) and all(re.fullmatch(r"[−+-]?[\d,.]+( ?[%\w/]+)?|", row[i]) for row in rows)
        for i in range(len(titles))
    ]

    def row(tag: str, cells: Sequence[str], mark: str = "") -> str:
        row_cells = (
            f"<{tag}{' class=number' if at_right else ' class=long' if len(cell) > LONG else ''}>"
            f"{cell}</{tag}>"
            for cell, at_right in zip(cells, right, strict=True)
        )
        return f"<tr{mark}>{''.join(row_cells)}</tr>"

    lines = [row("td", cells, ' class="best"' if i == best else "") for i, cells in enumerate(rows)]
    head = f"<thead>{row('th', titles)}</thead>" if any(titles) else ""
    return f'<div class="wide"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def figures(*found: str) -> str:
    """Lay figures out side by side, as many as fit the window."""
    shown = [text for text in found if text]
    return f'<div class="figures">{"".join(shown)}</div>' if shown else ""


def figure(svg: str, title: str, unit: str = "") -> str:
    """Make a figure with a title and a unit."""
    unit = f" <span>{escape(unit)}</span>" if unit else ""
    return f"<figure><figcaption>{escape(title)}{unit}</figcaption>{svg}</figure>"


def text(words: str, *, wrap: bool = False) -> str:
    """Show text verbatim in a box; characters that HTML can't hold become U+FFFD."""
    clean = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", words)
    return f"<pre{' class=wrap' if wrap else ''}>{escape(clean)}</pre>"


def folded(summary: str, content: str, *, unfolded: bool = False) -> str:
    """Make content that a summary line shows and hides."""
    return (
        f"<details{' open' if unfolded else ''}><summary>{escape(summary)}</summary>"
        f"{content}</details>"
    )


def swatch(name: str, colour: int) -> str:
    """Show a name beside the colour of its lines."""
    box = f'<span class="swatch" style="background:var(--series-{colour})"></span>'
    return f"{box}{escape(name)}"
