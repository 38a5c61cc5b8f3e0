"""Host files of `mlx.launch`: strict reading, and checks of the machines they name."""

import ipaddress
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ..core.errors import FormatError, RunError, unknown
from ..core.parse import read_json

BACKENDS = ("ring", "mpi", "jaccl", "jaccl-ring", "nccl")
FILE_KEYS = ("backend", "envs", "hosts")
HOST_KEYS = ("ssh", "ips", "rdma")
EXAMPLE = '[{"ssh": "mac1.local", "ips": ["10.0.0.1"]}, {"ssh": "mac2.local", "ips": ["10.0.0.2"]}]'
SSH_SECONDS = 10
SSH_NAME = re.compile(r"[^\s\x00-\x20\x7f-][^\s\x00-\x20\x7f]*")
"""A host name, or user@host; a leading dash would be an option of ssh."""

NOT_CHECKED = (
    "whether the machines reach each other's addresses and ports (a firewall may refuse)",
    "how fast the links are, and which cable or bridge an address belongs to",
    "whether the recipe and the text are there: training compares both before it begins",
)
"""Conditions that only the other machines, or training, can verify."""

ASK = (
    "import json, platform; from importlib.metadata import version as v; "
    "print(json.dumps({'mlx': v('mlx'), 'mlxt': v('mlxt'), 'machine': platform.machine()}))"
)

Verdict = Literal["ok", "failed", "not checked"]
Runner = Callable[[list[str]], subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Host:
    """One host of the file: its ssh name, and the addresses that the ring listens on."""

    ssh: str
    ips: list[str] = field(default_factory=list)

    @property
    def local(self) -> bool:
        """Whether `mlx.launch` starts it on this machine, without ssh."""
        return self.ssh == "127.0.0.1"


@dataclass(frozen=True)
class Check:
    """Result of one check of one host."""

    host: str
    what: str
    verdict: Verdict
    detail: str


def read_hosts(path: Path) -> list[Host]:
    """Read the hosts of a file, in the order of their ranks.

    Raises:
        RunError: the file can't be read, or is not a host file of `mlx.launch`.
    """
    try:
        data = read_json(path)
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror}.") from None
    except FormatError as error:
        raise RunError(f"{error} It should look like this: {EXAMPLE}") from None
    if isinstance(data, dict):
        _known(path, "key", data, FILE_KEYS)
        if data.get("backend", "") not in ("", *BACKENDS):
            raise RunError(f"{path}: {unknown('backend', str(data['backend']), BACKENDS)}")
        data = data.get("hosts")
    if not isinstance(data, list) or not data:
        raise RunError(f"{path} lists no hosts. It should look like this: {EXAMPLE}")
    hosts = [_host(path, number, entry) for number, entry in enumerate(data)]
    line_of: dict[str, int] = {}
    for number, host in enumerate(hosts):
        for ip in host.ips:
            if ip in line_of and not ipaddress.ip_address(ip).is_loopback:
                raise RunError(
                    f"{path}: hosts {line_of[ip]} and {number} both have the address {ip}."
                )
            line_of[ip] = number
    return hosts


def _host(path: Path, number: int, entry: object) -> Host:
    if not isinstance(entry, dict) or not isinstance(entry.get("ssh"), str) or not entry["ssh"]:
        raise RunError(
            f'{path}: host {number} has no "ssh", the name to log in with. It should look like '
            f"this: {EXAMPLE}"
        )
    _known(path, f"key of host {number}", entry, HOST_KEYS)
    if not SSH_NAME.fullmatch(entry["ssh"]):
        raise RunError(
            f'{path}: host {number} has "ssh": {entry["ssh"]!r}, which is not a name to log in '
            "with: it has spaces or control characters, or begins with '-'."
        )
    ips = entry.get("ips", [])
    if not isinstance(ips, list) or not ips:
        raise RunError(
            f'{path}: host {number} ({entry["ssh"]}) has no "ips", the addresses that the others '
            "reach it at, which the ring needs."
        )
    for ip in ips:
        try:
            ipaddress.ip_address(ip)
        except ValueError:
            raise RunError(
                f"{path}: host {number} ({entry['ssh']}) has the address {ip!r}, which is not an "
                "IP address; the ring needs addresses, not names."
            ) from None
    return Host(entry["ssh"], ips)


def _known(path: Path, what: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            raise RunError(f"{path}: {unknown(what, key, known)}")


def check(host: Host, run: Runner | None = None) -> list[Check]:
    """Check one host: its name, login without a password, and the versions installed there.

    Checks after one that fails are reported as not checked. `run` runs a command.
    """
    versions_here = {"mlx": version("mlx"), "mlxt": version("mlxt")}
    if host.local:
        return [Check(host.ssh, "versions", "ok", f"this machine: {_listed(versions_here)}")]
    run = run or _run
    name = _real_name(host.ssh, run)
    steps: list[tuple[str, Callable[[], tuple[Verdict, str]]]] = [
        ("name", lambda: _resolves(name)),
        ("login", lambda: _logs_in(host.ssh, run)),
        ("versions", lambda: _versions(host.ssh, versions_here, run)),
    ]
    checks: list[Check] = []
    for what, step in steps:
        if checks and checks[-1].verdict != "ok":
            checks.append(
                Check(host.ssh, what, "not checked", f"since {checks[-1].what} is not ok")
            )
        else:
            checks.append(Check(host.ssh, what, *step()))
    return checks


def _real_name(name: str, run: Runner) -> str:
    """Return the host name that ~/.ssh/config maps a name to; the name itself without ssh."""
    if shutil.which("ssh") is None:
        return name
    lines = run(["ssh", "-G", name]).stdout.splitlines()
    names = [line.split()[1] for line in lines if line.startswith("hostname ")]
    return names[0] if names else name


def _resolves(name: str) -> tuple[Verdict, str]:
    bare = name.rpartition("@")[2]
    try:
        address = socket.getaddrinfo(bare, None)[0][4][0]
    except OSError as error:
        return "failed", f"{bare} is not known: {error.strerror}"
    return "ok", str(address)


def _logs_in(name: str, run: Runner) -> tuple[Verdict, str]:
    if shutil.which("ssh") is None:
        return "not checked", "there is no ssh on this machine"
    done = run([*_ssh(name), "true"])
    if done.returncode == 0:
        return "ok", "without a password"
    reason = (done.stderr.strip().splitlines() or [f"ssh ended with {done.returncode}"])[-1]
    return "failed", f"{reason}; try: ssh {name} true"


def _versions(name: str, versions: dict[str, str], run: Runner) -> tuple[Verdict, str]:
    """Compare versions with the Python at the same path there, which `mlx.launch` starts."""
    done = run([*_ssh(name), f"'{sys.executable}' -c \"{ASK}\""])
    try:
        theirs = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return "failed", f"mlxt does not answer from {sys.executable} there"
    differing = {key: theirs.get(key) for key in versions if theirs.get(key) != versions[key]}
    if differing:
        return (
            "failed",
            f"{_listed(differing)} there, {_listed({k: versions[k] for k in differing})} here",
        )
    return "ok", f"{_listed(versions)}, {theirs.get('machine')}"


def _listed(versions: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items())


def _ssh(name: str) -> list[str]:
    return ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", name]


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=SSH_SECONDS
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 255, "", f"no answer for {SSH_SECONDS} s")
