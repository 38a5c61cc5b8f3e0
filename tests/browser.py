"""Opens pages in a real browser, where there is one, and says what its console says."""

import re
import shutil
import subprocess
from html import escape
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--enable-logging=stderr",
)
PHONE = 400
"""Width of a phone, in pixels."""


def browse(page: Path, *flags: str) -> tuple[str, list[str]]:
    """The page's elements after it was loaded, and what the browser's console says."""
    profile = page.parent / "browser"
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


def asked(page: Path, question: str, *flags: str) -> str:
    """What a script says of the page, which is in a frame `f` as wide as a phone."""
    frame = page.parent / "frame.html"
    frame.write_text(
        f'<iframe id="f" width="{PHONE}" height="900" style="border:0" '
        f'srcdoc="{escape(page.read_text())}"></iframe><script>f.onload = async () => {{ '
        f"document.body.dataset.answer = {question} }}</script>"
    )
    shown, _ = browse(frame, "--dump-dom", *flags)
    answer = re.search(r'data-answer="([^"]*)"', shown)
    assert answer is not None
    return answer[1]
