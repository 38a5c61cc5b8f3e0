"""`mlxt doctor --hosts`: what is checked from here, and what is said not to be."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from mlx_transformers.cli.main import main
from mlx_transformers.core.errors import RunError
from mlx_transformers.distributed import hosts

TWO = [{"ssh": "127.0.0.1", "ips": ["10.0.0.1"]}, {"ssh": "localhost", "ips": ["10.0.0.2"]}]


def written(data: object) -> Path:
    path = Path("hosts.json")
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


@pytest.mark.parametrize("data", [TWO, {"hosts": TWO, "backend": "ring", "envs": []}])
def test_both_forms_of_the_file_are_read(data: object) -> None:
    found = hosts.read_hosts(written(data))
    assert [(host.ssh, host.ips) for host in found] == [
        ("127.0.0.1", ["10.0.0.1"]),
        ("localhost", ["10.0.0.2"]),
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", r"not JSON .*mac1\.local"),
        ([], "lists no hosts"),
        ({"host": TWO}, "Unknown key 'host'.* 'hosts'"),
        ({"hosts": TWO, "backend": "rign"}, "Unknown backend 'rign'.* 'ring'"),
        ([{"ips": ["10.0.0.1"]}], 'host 0 has no "ssh"'),
        ([TWO[0], {"ssh": "b"}], r'host 1 \(b\) has no "ips"'),
        ([{"ssh": "a", "ip": ["1.2.3.4"]}], "Unknown key of host 0 'ip'.* 'ips'"),
        ([{"ssh": "a\0b", "ips": ["10.0.0.1"]}], "not a name to log in with"),
        ([{"ssh": "-oProxyCommand=x", "ips": ["10.0.0.1"]}], "begins with '-'"),
        ([{"ssh": "a b", "ips": ["10.0.0.1"]}], "not a name to log in with"),
        ([{"ssh": "a", "ips": ["mac1.local"]}], "'mac1.local', which is not an"),
        ([TWO[0], {"ssh": "b", "ips": ["10.0.0.1"]}], r"0 and 1 both have the address 10\.0\.0\.1"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(data: object, said: str) -> None:
    with pytest.raises(RunError, match=said):
        hosts.read_hosts(written(data))


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(RunError, match=r"nowhere\.json can't be read"):
        hosts.read_hosts(Path("nowhere.json"))


class Ssh:
    """An ssh that answers as told."""

    def __init__(self, login: int = 0, **versions: str) -> None:
        self.login, self.versions = login, versions

    def __call__(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        code, out = self.login, ""
        if words[1] == "-G":
            code, out = 0, "user me\nhostname localhost\n"
        elif words[-1] != "true":
            assert words[-1].startswith(f"'{sys.executable}'")
            out = f"a greeting\n{json.dumps(self.versions)}\n"
        return subprocess.CompletedProcess(words, code, out, "Permission denied" if code else "")


HERE = {name: version(name) for name in ("mlx", "mlxt")}


@pytest.fixture(autouse=True)
def ssh_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts.shutil, "which", lambda name: f"bin/{name}")


@pytest.mark.parametrize(
    ("ssh", "verdicts", "said"),
    [
        (Ssh(**HERE, machine="arm64"), ["ok", "ok", "ok"], "arm64"),
        (Ssh(**HERE | {"mlx": "0.1"}), ["ok", "ok", "failed"], f"mlx 0.1 there, mlx {HERE['mlx']}"),
        (Ssh(login=255), ["ok", "failed", "not checked"], "Permission denied; try: ssh mac true"),
    ],
    ids=["all is well", "another version", "no login"],
)
def test_a_host_is_tried_step_by_step(ssh: Ssh, verdicts: list[str], said: str) -> None:
    found = hosts.check(hosts.Host("mac", ["10.0.0.2"]), ssh)
    assert [check.what for check in found] == ["name", "login", "versions"]
    assert [check.verdict for check in found] == verdicts
    assert any(said in check.detail for check in found)


def test_an_unknown_name_leaves_the_rest_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(hosts.socket, "getaddrinfo", refuse)
    found = hosts.check(hosts.Host("mac", ["10.0.0.2"]), Ssh())
    assert [check.verdict for check in found] == ["failed", "not checked", "not checked"]
    assert "Name or service not known" in found[0].detail


def test_without_ssh_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts.shutil, "which", lambda name: None)
    found = hosts.check(hosts.Host("localhost", ["10.0.0.2"]), Ssh())
    assert [check.verdict for check in found] == ["ok", "not checked", "not checked"]


def test_the_command_prints_all_checks_and_what_was_not_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hosts, "_run", Ssh(login=255))
    path = str(written(TWO))
    for words, read in ((["--json"], json.loads), ([], str)):
        monkeypatch.setattr(sys, "argv", ["mlxt", "doctor", "--hosts", path, *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 1
        shown = read(capsys.readouterr().out)
        if words:
            assert [(c["rank"], c["verdict"]) for c in shown["checks"]] == [
                (0, "ok"),
                (1, "ok"),
                (1, "failed"),
                (1, "not checked"),
            ]
        else:
            assert "Permission denied" in shown
            assert "Not checked from here:" in shown
            assert "firewall" in shown
