"""Functions of the standard library and their docstrings."""

import ast
import copy
import tokenize
from collections.abc import Iterator

from .records import RecordCorpus, Row, one_line
from .stdlib import Stdlib

LONGEST = 1500
"""Longest function included, in characters."""


class Docstrings(RecordCorpus):
    """Python functions (`source`) and the first line of their docstrings (`target`); no download.

    From the library of the running Python; functions of one file stay on one side of a split.
    """

    name = "docstrings"
    licence = Stdlib.licence
    attribution = Stdlib.attribution
    size = "6 thousand pairs"

    def __init__(self) -> None:
        self.stdlib = Stdlib()

    def rows(self) -> Iterator[Row]:
        for path in self.stdlib.files:
            with tokenize.open(path) as file:
                text = file.read()
            try:
                tree = ast.parse(text)
            except SyntaxError:  # some files of the library are broken on purpose
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield from _pair(node, str(path.name))

    def group(self, row: Row) -> str:
        return str(row["file"])

    def identity(self) -> object:
        return self.stdlib.identity()

    def digest(self) -> str:
        return self.stdlib.digest()

    @classmethod
    def available(cls) -> bool:
        return True


def _pair(node: ast.FunctionDef | ast.AsyncFunctionDef, file: str) -> Iterator[Row]:
    summary = (ast.get_docstring(node) or "").strip().split("\n\n")[0]
    if not summary or len(node.body) < 2:
        return
    bare = copy.copy(node)
    bare.body = node.body[1:]
    code = ast.unparse(bare)
    if len(code) <= LONGEST:
        yield {"source": code, "target": one_line(summary), "file": file}
