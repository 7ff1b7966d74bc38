"""The configuration file: what it may say, where things are found, and what is never shown."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from sqlalchemy.engine import URL

from balancer.config import (
    Config,
    config_schema,
    find_config,
    load_config,
    read_password,
)
from balancer.connect import ways
from balancer.errors import InputError
from balancer.store.address import named

ROOT = Path(__file__).parents[2]
SMALLEST = "version: 1\nclusters:\n  - name: PROD\n    hosts: [hv01]\n"
SECRET = "correct horse battery staple"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "balancer.yaml"
    path.write_text(text, "utf-8")
    return path


def loaded(tmp_path: Path, text: str) -> Config:
    return load_config(written(tmp_path, text))


def test_the_smallest_configuration_has_safe_defaults(tmp_path: Path) -> None:
    config = loaded(tmp_path, SMALLEST)
    connection = config.cluster(None).connection
    assert connection.tls
    assert connection.auth == "negotiate"
    assert read_password(config, connection) is None
    assert config.store == tmp_path / "balancer.sqlite"


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("version: 1\nclusters: [\n", 3, ""),
        (SMALLEST + "    pasword: x\n", 5, "pasword"),
        (SMALLEST + "    connection: {port: 70000}\n", 5, "port"),
        (SMALLEST + "    connection: {deadline: 30}\n", 5, "expected a duration"),
        (SMALLEST + "    connection: {tls: maybe}\n", 5, "true"),
        (SMALLEST + "    connection: {auth: ntlm2}\n", 5, "ntlm"),
        (SMALLEST + "    connection: {password: x}\n", 5, "unknown key"),
        (SMALLEST + "  - name: prod\n    hosts: [hv02]\n", 5, "two clusters"),
        ("version: 2\nclusters: []\n", 1, "1"),
        ("version: 1\nclusters: []\n", 2, "clusters"),
        ("version: 1\nclusters:\n  - name: A\n    hosts: []\n", 4, "hosts"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    with pytest.raises(InputError) as error:
        loaded(tmp_path, text)
    message = str(error.value)
    assert f"balancer.yaml:{line}:" in message
    assert told in message
    assert "remedy: " in message


def test_a_secret_written_into_the_file_is_not_repeated(tmp_path: Path) -> None:
    text = f"{SMALLEST}    connection: {{username: a, password: {SECRET}}}\n"
    with pytest.raises(InputError) as error:
        loaded(tmp_path, text)
    assert SECRET not in str(error.value)


def test_which_cluster(tmp_path: Path) -> None:
    config = loaded(tmp_path, SMALLEST + "  - name: Branch\n    hosts: [b1]\n")
    assert config.cluster("bRANCH").name == "Branch"
    with pytest.raises(InputError, match=r"(?s)several clusters: PROD, Branch.*--cluster NAME"):
        config.cluster(None)
    with pytest.raises(InputError, match=r"(?s)no cluster 'x'.*PROD, Branch"):
        config.cluster("x")


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BALANCER_CONFIG", raising=False)
    with pytest.raises(InputError, match="no configuration found"):
        find_config(None)
    written(tmp_path, SMALLEST)
    assert find_config(None) == Path("balancer.yaml")
    monkeypatch.setenv("BALANCER_CONFIG", "/somewhere/else.yaml")
    assert find_config(None) == Path("/somewhere/else.yaml")
    assert find_config(Path("given")) == Path("given")


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/balancer")
    assert loaded(tmp_path, SMALLEST).store == Path("/var/lib/balancer/balancer.sqlite")
    config = loaded(tmp_path, f"store: state/x.sqlite\n{SMALLEST}")
    assert config.store == tmp_path / "state" / "x.sqlite"
    assert config.beside(Path("/etc/policy.yaml")) == Path("/etc/policy.yaml")


def test_where_the_password_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def password(connection: str) -> str | None:
        config = loaded(tmp_path, f"{SMALLEST}    connection: {{username: a, {connection}}}\n")
        return read_password(config, config.cluster(None).connection)

    (tmp_path / "secret").write_text(f"{SECRET} \r\n", "utf-8")
    assert password("password_file: secret") == f"{SECRET} "
    monkeypatch.setenv("THE_PASSWORD", SECRET)
    assert password("password_env: THE_PASSWORD") == SECRET
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "secret").write_text("from systemd", "utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert password("password_file: secret") == "from systemd"
    for missing in ("password_file: nowhere", "password_env: NOWHERE"):
        with pytest.raises(InputError, match=r"(?s)balancer\.yaml.*connection\.password.*remedy"):
            password(missing)


@pytest.mark.parametrize("address", ["10.0.0.1:0", "10.0.0.1:x", "[::1]:99999", "h:"])
def test_a_wrong_address_is_told_before_anything_is_connected(tmp_path: Path, address: str) -> None:
    config = loaded(tmp_path, f'{SMALLEST}    addresses: {{HV01: "{address}"}}\n')
    with pytest.raises(InputError, match="the address of hv01"):
        ways(config, config.cluster(None))


def test_the_configuration_in_the_readme_is_one(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    loaded(tmp_path, block)
    jsonschema.validate(yaml.safe_load(block), dict(config_schema()))


def test_schema_and_reader_agree(tmp_path: Path) -> None:
    wrong = SMALLEST + "    surprise: 1\n"
    with pytest.raises(jsonschema.ValidationError, match="surprise"):
        jsonschema.validate(yaml.safe_load(wrong), dict(config_schema()))
    with pytest.raises(InputError, match="surprise"):
        loaded(tmp_path, wrong)


def test_a_store_in_postgresql_has_its_password_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "store: postgresql://balancer@db.example:5433/balancer?sslmode=verify-full\n"
    bare = loaded(tmp_path, SMALLEST + url).store
    assert isinstance(bare, URL)
    assert (bare.host, bare.port, bare.password) == ("db.example", 5433, None)
    (tmp_path / "db").write_text(f"{SECRET}\n", "utf-8")
    for line in ("store_password_file: db\n", "store_password_env: DB_SECRET\n"):
        monkeypatch.setenv("DB_SECRET", SECRET)
        store = loaded(tmp_path, SMALLEST + url + line).store
        assert isinstance(store, URL)
        assert store.password == SECRET
        assert SECRET not in f"{store} {store!r} {named(store)}"
    monkeypatch.delenv("DB_SECRET")
    with pytest.raises(InputError, match="DB_SECRET is not set") as caught:
        _ = loaded(tmp_path, SMALLEST + url + line).store
    assert "balancer.yaml: store_password_env" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:geheim@db/balancer",
        "postgresql://u@db/balancer?password=geheim",
        "postgresql://u:geheim@db:port/balancer",
    ],
)
def test_a_password_in_the_stores_url_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError) as caught:
        _ = loaded(tmp_path, f"{SMALLEST}store: {url}\n").store
    assert "geheim" not in str(caught.value)
    assert caught.value.remedy
