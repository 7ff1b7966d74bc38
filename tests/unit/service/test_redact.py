from __future__ import annotations

import pytest

from balancer.service.redact import HIDDEN, Secrets

SECRET = "Tr0ub4dor&3"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PASSWORD",
        "db_password",
        "url.token",
        "Authorization",
        "api_key",
        "apikey",
        "pwd",
    ],
)
def test_what_is_called_a_secret_is_hidden_whatever_it_holds(name: str) -> None:
    assert Secrets().clean({"a": [{name: SECRET}]}) == {"a": [{name: HIDDEN}]}
    assert Secrets().clean({name: {"deep": SECRET}}) == {name: HIDDEN}


@pytest.mark.parametrize("name", ["password_file", "token_count", "compass", "passed", "secretary"])
def test_names_that_only_sound_like_one_stay(name: str) -> None:
    assert Secrets().clean({name: "value"}) == {name: "value"}


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://me:{SECRET}@db/x",
        f"mailtos://me%40example.com:{SECRET}@smtp.example.com",
        f"Authorization: Basic {'QWxhZGRpbjpvcGVuIHNlc2FtZQ=='}",
        "authorization: Bearer eyJhbGciOiJIUzI1NiJ9.x.y",
        f"password={SECRET} was refused",
        f'{{"password": "{SECRET}"}}',
        f"login failed, pwd: {SECRET}",
    ],
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(text: str) -> None:
    hidden = Secrets().hide(text)
    assert HIDDEN in hidden
    for secret in (SECRET, "QWxhZGRpbjpvcGVuIHNlc2FtZQ", "eyJhbGciOiJIUzI1NiJ9"):
        assert secret not in hidden


@pytest.mark.parametrize(
    "text",
    [
        "Kerberos authentication failed for hv01",
        "basic configuration is good",
        "https://hv01.example.com:5986/wsman",
        "the password was refused",
        "HV01 does not answer at 10.0.0.1:5985",
    ],
)
def test_ordinary_sentences_stay(text: str) -> None:
    assert Secrets().hide(text) == text


def test_a_known_secret_is_hidden_in_the_middle_of_anything() -> None:
    secrets = Secrets()
    secrets.learn("hunter2", "hunter22", None, "abc")
    assert secrets.hide("xhunter22y and hunter2") == f"x{HIDDEN}y and {HIDDEN}"
    assert secrets.hide("abc") == "abc", "too short to be taken out of every word"
    assert secrets.clean(ValueError("hunter2")) == HIDDEN
    assert secrets.clean(("hunter2", 3, None, 1.5, True)) == [HIDDEN, 3, None, 1.5, True]
