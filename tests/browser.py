"""Opens pages in a real browser, where there is one, and says what its console says."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
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
    return opened(page.as_uri(), page.parent / "browser", *flags)


def opened(address: str, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """`browse` for an address, with the browser's own files in `profile`."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


def asked(page: Path, question: str) -> str:
    """What a script says of the page, which is in a frame `f` as wide as a phone."""
    return asked_all([(page, question)])[0][0]


def asked_all(pages: list[tuple[Path, str]]) -> tuple[list[str], list[str]]:
    """What a script says of each page, in a frame `f` as wide as a phone, and what the console
    says."""
    folder = pages[0][0].parent
    frames = "".join(
        f'<iframe width="{PHONE}" height="900" style="border:0" '
        f'srcdoc="{escape(page.read_text())}"></iframe>'
        for page, _ in pages
    )
    asking = ",".join(f"async f => {question}" for _, question in pages)
    frame = folder / "frame.html"
    frame.write_text(
        f"{frames}<script>onload = async () => {{ const all = [...document.querySelectorAll("
        f"'iframe')], asking = [{asking}], answers = []; for (const [i, f] of all.entries()) "
        "answers.push(String(await asking[i](f))); "
        "document.body.dataset.answer = JSON.stringify(answers) }</script>"
    )
    shown, said = browse(frame, "--dump-dom", "--virtual-time-budget=5000")
    answer = re.search(r'data-answer="([^"]*)"', shown)
    assert answer is not None, said
    answers: list[str] = json.loads(unescape(answer[1]))
    return answers, said
