"""Pages with scripts: style, data and code go into the one file, so that it works offline."""

import json
from pathlib import Path

from .page import Page

HERE = Path(__file__).parent


def asset(path: Path) -> str:
    """Read a style sheet or a script that goes into a page."""
    return path.read_text(encoding="utf-8")


class ScriptedPage(Page):
    """A page with the project's widgets, a script, and the data that it reads."""

    def __init__(self, title: str, *leads: str, style: str, scripts: str, data: object) -> None:
        super().__init__(title, *leads)
        self._style = asset(HERE / "widgets.css") + style
        self._scripts = asset(HERE / "widgets.js") + scripts
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        self._data = text.replace("<", "\\u003c")  # so that no text ends the element

    def html(self) -> str:
        """Render the whole file."""
        head, body = super().html().split("</head>", 1)
        data = f'<script type="application/json" id="data">{self._data}</script>'
        tail = f"{data}\n<script>{self._scripts}</script>\n</body>"
        return f"{head}<style>{self._style}</style>\n</head>" + body.replace("</body>", tail)
