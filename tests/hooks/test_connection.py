"""An Airflow connection of type diffio, wherever it is configured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.models.connection import Connection
from pytest_mock import MockerFixture

from airflow_provider_diffio.api.errors import DiffioConfigurationError
from airflow_provider_diffio.api.settings import ClientSettings
from airflow_provider_diffio.hooks.connection import EXTRA_FIELDS, DiffioConnection
from airflow_provider_diffio.hooks.connection_fields import CONN_FIELDS

KEY = "diffio_live_0123456789abcdef"


@dataclass
class Fields:
    """The fields that every one of Airflow's connection classes has."""

    conn_id: str = "diffio_default"
    host: str | None = None
    schema: str | None = None
    port: int | None = None
    password: str | None = KEY
    extra: str | None = None


def read(**fields: Any) -> DiffioConnection:
    extra = fields.pop("extra", None)
    return DiffioConnection.read(
        Fields(extra=extra if isinstance(extra, str) else json.dumps(extra), **fields)
    )


def refusal(**fields: Any) -> str:
    with pytest.raises(DiffioConfigurationError) as caught:
        read(conn_id="my_diffio", **fields)
    assert str(caught.value).startswith("Connection 'my_diffio': ")
    return str(caught.value)


def test_a_password_alone_is_a_connection() -> None:
    connection = DiffioConnection.read(Fields())
    assert connection.settings == ClientSettings(KEY)
    assert (connection.model, connection.output_path, connection.webhook_secret) == (
        "diffio-4.6-flash",
        None,
        None,
    )


@pytest.mark.parametrize("password", [None, "", " "])
def test_without_a_password_the_connection_is_named(password: str | None) -> None:
    assert "There is no API key" in refusal(password=password)


@pytest.mark.parametrize(
    ("host", "schema", "port", "url"),
    [
        (None, None, None, "https://api.diffio.ai/v1"),
        ("", "", None, "https://api.diffio.ai/v1"),
        (None, "https", None, "https://api.diffio.ai/v1"),
        ("gateway.test", None, None, "https://gateway.test/v1"),
        ("gateway.test", None, 8443, "https://gateway.test:8443/v1"),
        ("gateway.test:8443", None, 9999, "https://gateway.test:8443/v1"),
        ("gateway.test/diffio", None, 8443, "https://gateway.test:8443/diffio/v1"),
        ("gateway.test", "v1", 8443, "https://gateway.test:8443/v1"),
        ("gateway.test", "diffio/v1", None, "https://gateway.test/diffio/v1"),
        ("gateway.test", "HTTPS", None, "https://gateway.test/v1"),
        ("localhost", "http", 5001, "http://localhost:5001/v1"),
        ("http://127.0.0.1:5001", None, None, "http://127.0.0.1:5001/v1"),
        ("http://127.0.0.1", None, 5001, "http://127.0.0.1:5001/v1"),
        ("http://127.0.0.1", "v1", 5001, "http://127.0.0.1:5001/v1"),
        ("http://127.0.0.1", "http", 5001, "http://127.0.0.1:5001/v1"),
        ("https://gateway.test/v1", "v1", None, "https://gateway.test/v1"),
        ("http://[::1]", None, 5001, "http://[::1]:5001/v1"),
        ("::1", "http", 5001, "http://[::1]:5001/v1"),
        ("::1", None, None, "https://[::1]/v1"),
        ("http://::1", "v1", 5001, "http://[::1]:5001/v1"),
        ("2001:db8::7/diffio", None, 8443, "https://[2001:db8::7]:8443/diffio/v1"),
        ("[2001:db8::7]:8443", None, 9999, "https://[2001:db8::7]:8443/v1"),
        (" https://gateway.test/v1/ ", None, None, "https://gateway.test/v1"),
    ],
)
def test_where_the_api_is(host: str | None, schema: str | None, port: int | None, url: str) -> None:
    assert read(host=host, schema=schema, port=port).settings.base_url == url


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (f"diffio://:{KEY}@", "https://api.diffio.ai/v1"),
        (f"diffio://:{KEY}@api.diffio.ai", "https://api.diffio.ai/v1"),
        (f"diffio://:{KEY}@gateway.test:8443/v1", "https://gateway.test:8443/v1"),
        (f"diffio://:{KEY}@localhost:5001/http", "http://localhost:5001/v1"),
        (f"diffio://:{KEY}@[::1]:8788/http", "http://[::1]:8788/v1"),
        (f"diffio://:{KEY}@[2001:db8::7]/", "https://[2001:db8::7]/v1"),
        (f"diffio://http://:{KEY}@127.0.0.1:5001", "http://127.0.0.1:5001/v1"),
        (f"diffio://http://:{KEY}@127.0.0.1:5001/v1", "http://127.0.0.1:5001/v1"),
        (f"diffio://https://:{KEY}@gateway.test/diffio", "https://gateway.test/diffio/v1"),
        (f"diffio://:{KEY}@http%3A%2F%2F127.0.0.1%3A5001", "http://127.0.0.1:5001/v1"),
    ],
)
def test_where_the_api_of_a_uri_is(uri: str, url: str) -> None:
    connection = DiffioConnection.read(Connection(conn_id="c", uri=uri))
    assert (connection.settings.base_url, connection.settings.api_key) == (url, KEY)


@pytest.mark.parametrize(
    "host", ["https://me:hunter2@api.diffio.ai", "https://api.diffio.ai?k=hunter2", "a b"]
)
def test_an_impossible_host_is_refused_without_being_repeated(host: str) -> None:
    assert "hunter2" not in refusal(host=host)


@pytest.mark.parametrize(
    ("host", "schema"), [("http://api.diffio.ai", None), ("api.diffio.ai", "http"), ("10.0.0.1", "http")]
)
def test_plain_http_is_refused_off_this_machine(host: str, schema: str | None) -> None:
    assert "plain http" in refusal(host=host, schema=schema)


def test_a_uri_has_every_extra_as_text() -> None:
    uri = (
        f"diffio://:{KEY}@?auth_header=X-Api-Key&timeout=30.5&max_attempts=3&model=diffio-4.6-pro"
        "&output_path=s3%3A%2F%2Faws%40bucket%2Fout&webhook_secret=whsec_YQ%3D%3D&verify=false"
        "&headers=%7B%22X-Team%22%3A%20%22audio%22%7D&proxy=http%3A%2F%2Fproxy.test%3A3128"
    )
    connection = DiffioConnection.read(Connection(conn_id="c", uri=uri))
    found = connection.settings
    assert (found.auth_header, found.timeout, found.retry.max_attempts) == ("X-Api-Key", 30.5, 3)
    assert (found.verify, found.headers, found.proxy) == (
        False,
        {"X-Team": "audio"},
        "http://proxy.test:3128",
    )
    assert (connection.model, connection.output_path) == ("diffio-4.6-pro", "s3://aws@bucket/out")
    assert connection.webhook_secret == "whsec_YQ=="


def test_json_has_extras_of_their_own_types() -> None:
    found = read(
        extra={"timeout": 30, "max_attempts": 3, "headers": {"X-Team": "audio"}, "verify": True}
    ).settings
    assert (found.timeout, found.retry.max_attempts, found.headers, found.verify) == (
        30.0,
        3,
        {"X-Team": "audio"},
        True,
    )


def test_numbers_may_be_text() -> None:
    found = read(extra={"timeout": "30.5", "max_attempts": "3"}).settings
    assert (found.timeout, found.retry.max_attempts) == (30.5, 3)


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_form_that_was_left_empty_says_nothing(nothing: str | None) -> None:
    connection = read(extra=dict.fromkeys(EXTRA_FIELDS, nothing))
    assert connection == DiffioConnection(ClientSettings(KEY))


@pytest.mark.parametrize("extra", ["", "{}", "null", None])
def test_no_extra_is_no_trouble(extra: str | None) -> None:
    assert DiffioConnection.read(Fields(extra=extra)).model == "diffio-4.6-flash"


def test_an_extra_of_another_tool_is_ignored() -> None:
    assert read(extra={"region": "eu", "nested": {"a": 1}}).model == "diffio-4.6-flash"


@pytest.mark.parametrize(
    ("given", "verify"),
    [
        ("true", True),
        ("True", True),
        (" 1 ", True),
        ("false", False),
        ("No", False),
        (False, False),
        ("/etc/ssl/mine.pem", "/etc/ssl/mine.pem"),
    ],
)
def test_how_tls_is_verified(given: Any, verify: bool | str) -> None:
    assert read(extra={"verify": given}).settings.verify == verify


@pytest.mark.parametrize(
    "extra",
    [
        "not json",
        "[1]",
        '"text"',
        {"auth_header": "Cookie"},
        {"key_header": "Cookie"},
        {"auth_header": ["Authorization"]},
        {"timeout": "soon"},
        {"timeout": "nan"},
        {"timeout": "inf"},
        {"timeout": 0},
        {"timeout": -5},
        {"timeout": True},
        {"timeout": [60]},
        {"max_attempts": 0},
        {"max_attempts": 101},
        {"max_attempts": 2.5},
        {"max_attempts": "inf"},
        {"max_attempts": "nan"},
        {"max_attempts": "many"},
        {"max_attempts": False},
        {"model": 4.6},
        {"model": "no/model"},
        {"output_path": 7},
        {"output_path": ["a"]},
        {"webhook_secret": ["whsec_a"]},
        {"webhook_secret": 7},
        {"proxy": 3128},
        {"headers": "X-Team: audio"},
        {"headers": ["X-Team"]},
        {"headers": {"X-Team": 7}},
        {"headers": {"X-Team": "a\nb"}},
        {"verify": 7},
        {"verify": {}},
    ],
)
def test_an_extra_that_can_not_work_is_a_mistake_in_the_connection(extra: Any) -> None:
    text = refusal(extra=extra)
    if isinstance(extra, dict):
        assert next(iter(extra)) in text


@pytest.mark.parametrize(
    "extra",
    [
        {"headers": {"X-Gateway": "hunter2\n"}},
        {"headers": '{"X-Gateway": hunter2}'},
        {"proxy": ["http://me:hunter2@proxy.test"]},
        {"webhook_secret": ["hunter2"]},
        '{"webhook_secret": "hunter2"',
    ],
)
def test_a_mistake_in_a_secret_does_not_show_it(extra: Any) -> None:
    assert "hunter2" not in refusal(extra=extra)


def test_every_secret_is_told_for_masking() -> None:
    connection = read(
        extra={
            "webhook_secret": "whsec_one, whsec_two",
            "headers": {"X-Gateway": "gateway-token"},
            "proxy": "http://me:pass%2Fword@proxy.test:3128",
        }
    )
    assert connection.secrets() == [
        KEY,
        "gateway-token",
        "whsec_one",
        "whsec_two",
        "pass%2Fword",
        "pass/word",
    ]


@pytest.mark.parametrize(
    ("proxy", "secrets"),
    [
        ("me:hunter2@proxy.test:3128", ["hunter2"]),
        ("http://me:hunter2@proxy.test", ["hunter2"]),
        ("http://proxy.test", []),
        ("http://[bad", []),
    ],
)
def test_the_password_of_any_proxy_is_told(proxy: str, secrets: list[str]) -> None:
    assert read(extra={"proxy": proxy}).secrets() == [KEY, *secrets]


def test_a_connection_shows_no_secret() -> None:
    extra = {
        "webhook_secret": "whsec_hunter2",
        "headers": {"X-Gateway": "hunter2"},
        "proxy": "http://me:hunter2@proxy.test",
    }
    shown = repr(read(extra=extra))
    assert KEY not in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("name", CONN_FIELDS)
def test_every_field_of_the_form_is_read(name: str) -> None:
    assert f"extra '{name}'" in refusal(extra={name: [["no such value"]]})


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("timout", "timeout"),
        ("Timeout", "timeout"),
        ("max_attempt", "max_attempts"),
        ("api_headers", "headers"),
    ],
)
def test_a_misspelled_extra_is_warned_of_with_the_nearest_field(
    name: str, near: str, caplog: pytest.LogCaptureFixture
) -> None:
    read(conn_id="my_diffio", extra={name: 5, "verify": True})
    (warning,) = caplog.messages
    assert warning == f"Connection 'my_diffio': the extra {name!r} is unknown and ignored. Is {near!r} meant?"


def test_an_extra_like_no_field_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    read(extra={"zzz": "hunter2"})
    assert caplog.messages == ["Connection 'diffio_default': the extra 'zzz' is unknown and ignored."]


def test_every_known_extra_is_read_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    read(extra={**dict.fromkeys(EXTRA_FIELDS), "auth_header": None})
    assert caplog.messages == []


@pytest.mark.parametrize(
    "proxy", ["socks5h://proxy.test:1080", "SOCKS5://me:hunter2@proxy.test", "ftp://proxy.test"]
)
def test_a_proxy_that_the_triggerer_cannot_use_is_refused_for_all(proxy: str) -> None:
    said = refusal(extra={"proxy": proxy})
    assert "proxy must be an http:// or https:// URL" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("proxy", ["http://proxy.test:3128", "HTTPS://proxy.test", "proxy.test:3128"])
def test_proxies_that_both_can_use(proxy: str) -> None:
    assert read(extra={"proxy": proxy}).settings.proxy == proxy


def test_all_secrets_of_a_connection_are_masked(mocker: MockerFixture) -> None:
    mask = mocker.patch("airflow.providers.common.compat.sdk.mask_secret")
    read(extra={"headers": {"X-Gateway": "gateway-token"}}).mask_secrets()
    assert [call.args for call in mask.call_args_list] == [(KEY,), ("gateway-token",)]
