"""Where Diffio is, and as whom to talk to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioConfigurationError, DiffioInputError
from airflow_provider_diffio.api.settings import (
    DEFAULT_BASE_URL,
    USER_AGENT,
    ClientSettings,
    RequestOptions,
    ca_bundle,
    normalize_base_url,
)

KEY = "diffio_live_0123456789abcdef"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", DEFAULT_BASE_URL),
        ("  ", DEFAULT_BASE_URL),
        ("api.diffio.ai", "https://api.diffio.ai/v1"),
        ("api.diffio.ai/v1", "https://api.diffio.ai/v1"),
        (" https://api.diffio.ai/ ", "https://api.diffio.ai/v1"),
        ("https://api.diffio.ai/v1/", "https://api.diffio.ai/v1"),
        ("https://gateway.test:8443/diffio", "https://gateway.test:8443/diffio/v1"),
        ("gateway.test:8443", "https://gateway.test:8443/v1"),
        ("https://gateway.test/xv1", "https://gateway.test/xv1/v1"),
        (
            "http://127.0.0.1:5001/diffioai/us-central1",
            "http://127.0.0.1:5001/diffioai/us-central1/v1",
        ),
        ("http://[::1]:5001", "http://[::1]:5001/v1"),
    ],
)
def test_base_urls_with_and_without_scheme_port_and_version(given: str, url: str) -> None:
    assert normalize_base_url(given) == url


@pytest.mark.parametrize(
    "given",
    [
        "ftp://api.diffio.ai",
        "https://",
        "https://:443",
        "https://me:hunter2@api.diffio.ai",
        "hunter2@api.diffio.ai",
        "https://api.diffio.ai?key=hunter2",
        "https://api.diffio.ai?",
        "https://api.diffio.ai#",
        "https://api.diffio.ai/v1#hunter2",
        "https://api.diffio.ai:99999",
        "https://api.diffio.ai:0",
        "https://api.diffio.ai:hunter2",
        "https://[hunter2",
        "api diffio ai",
        "https://api.diffio.ai\r\nhunter2",
        "https://api.diffio.ai\\hunter2",
    ],
)
def test_what_is_no_base_url_is_refused_without_being_repeated(given: str) -> None:
    with pytest.raises(DiffioConfigurationError) as caught:
        ClientSettings(KEY, base_url=given)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:5001",
        "http://127.0.0.1",
        "http://127.8.9.1:1",
        "http://[::1]",
        "http://api.localhost",
        "https://192.0.2.1",
        "HTTPS://api.diffio.ai",
    ],
)
def test_a_key_may_go_over_https_and_within_this_machine(url: str) -> None:
    assert ClientSettings(KEY, base_url=url).api_key == KEY


@pytest.mark.parametrize(
    "url",
    ["http://api.diffio.ai", "http://10.0.0.1", "http://127.0.0.1.evil.test", "http://localhost.evil.test"],
)
def test_a_key_may_not_go_over_plain_http_elsewhere(url: str) -> None:
    with pytest.raises(DiffioConfigurationError, match="plain http"):
        ClientSettings(KEY, base_url=url)


@pytest.mark.parametrize(
    ("url", "advises"),
    [("http://10.0.0.1:8788", True), ("http://sandbox:8788", True), ("http://api.diffio.ai", False)],
)
def test_the_way_out_is_named_where_there_is_one(url: str, advises: bool) -> None:
    with pytest.raises(DiffioConfigurationError) as refused:
        ClientSettings(KEY, base_url=url)
    assert ("allow_private_http" in str(refused.value)) == advises


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1",
        "http://192.168.7.7:8788",
        "http://[fd00::1]:8788",
        "http://sandbox:8788",
        "http://sandbox.local",
        "http://SANDBOX.audio.internal.:8788",
        "http://127.0.0.1:1",
    ],
)
def test_a_private_host_may_be_allowed(url: str) -> None:
    assert ClientSettings(KEY, base_url=url, allow_private_http=True).api_key == KEY


@pytest.mark.parametrize(
    "url",
    [
        "http://api.diffio.ai",
        "http://8.8.8.8",
        "http://10.0.0.1.evil.test.com",
        "http://internal.evil.com",
        "http://0.0.0.0",
        "http://[2606:4700::1111]",
    ],
)
def test_no_other_host_is_allowed_with_them(url: str) -> None:
    with pytest.raises(DiffioConfigurationError, match="plain http"):
        ClientSettings(KEY, base_url=url, allow_private_http=True)


@pytest.mark.parametrize(
    ("api", "url", "permitted"),
    [
        ("http://10.0.0.1:8788", "http://10.0.0.1:8789/m/x", True),
        ("http://sandbox:8788", "http://media:8789/m/x", True),
        ("http://10.0.0.1:8788", "http://media.diffio.ai/m/x", False),
        # Neither may send us to services of this machine, nor Diffio into the network.
        ("http://10.0.0.1:8788", "http://127.0.0.1/admin", False),
        ("https://api.diffio.ai", "http://10.0.0.1/admin", False),
        ("http://127.0.0.1:8788", "http://10.0.0.1/admin", False),
    ],
)
def test_where_files_may_go_with_a_private_host(api: str, url: str, permitted: bool) -> None:
    assert ClientSettings(KEY, base_url=api, allow_private_http=True).permits(url) is permitted


LOCAL, REMOTE = "http://127.0.0.1:5001", "https://api.diffio.ai"


@pytest.mark.parametrize(
    ("api", "url", "permitted"),
    [
        (REMOTE, "https://media.diffio.ai/m/x", True),
        (REMOTE, "http://media.diffio.ai/m/x", False),
        (REMOTE, "http://127.0.0.1/admin", False),
        (REMOTE, "https://me:pw@media.diffio.ai", False),
        (REMOTE, "https://me@media.diffio.ai", False),
        (REMOTE, "ftp://media.diffio.ai", False),
        (REMOTE, "file:///etc/passwd", False),
        (REMOTE, "//media.diffio.ai", False),
        (REMOTE, "", False),
        (REMOTE, "https://", False),
        (REMOTE, "https://[bad", False),
        (LOCAL, "http://127.0.0.1:5002/m/x", True),
        (LOCAL, "http://localhost/m/x", True),
        (LOCAL, "http://media.diffio.ai/m/x", False),
        (LOCAL, "https://media.diffio.ai/m/x", True),
        (LOCAL, "http://127.0.0.1\\@evil.test/", False),
        (LOCAL, "http://evil.test#@127.0.0.1/", False),
    ],
)
def test_where_secrets_and_files_may_go(api: str, url: str, permitted: bool) -> None:
    assert ClientSettings(KEY, base_url=api).permits(url) is permitted


@pytest.mark.parametrize("key", [f" {KEY} ", f"{KEY}\n", f"\t{KEY}\r\n"])
def test_white_space_around_a_key_is_not_part_of_it(key: str) -> None:
    assert ClientSettings(key).api_key == KEY


@pytest.mark.parametrize(
    "key", ["", " ", "\n", None, 7, "two words", "hunter\n2", "hunter\u20ac", "hunter\x00"]
)
def test_what_can_not_be_a_key_is_refused_without_being_repeated(key: Any) -> None:
    with pytest.raises(DiffioConfigurationError) as caught:
        ClientSettings(key)
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "value"), [("Authorization", f"Bearer {KEY}"), ("X-Api-Key", KEY), ("Xi-Api-Key", KEY)]
)
def test_the_key_goes_into_the_header_that_was_chosen(header: str, value: str) -> None:
    headers = ClientSettings(KEY, auth_header=header).request_headers()
    assert headers == {
        header: value,
        "User-Agent": USER_AGENT,
        "Content-Type": "application/json",
        "Accept": "application/json",
    }


def test_further_headers_replace_none_that_matter() -> None:
    mine = {"x-api-key": "mine", "AUTHORIZATION": "mine", "content-type": "mine", "Content-Length": "9"}
    headers = ClientSettings(KEY, headers={**mine, "X-Trace": "1"}).request_headers()
    assert headers == {**ClientSettings(KEY).request_headers(), "X-Trace": "1"}


def test_further_headers_replace_others_in_any_case() -> None:
    settings = ClientSettings(KEY, headers={"user-agent": "me", "X-Trace": "1"})
    headers = settings.with_options({"headers": {"x-trace": "2"}}).request_headers()
    assert {name.lower(): value for name, value in headers.items()}["user-agent"] == "me"
    assert [name.lower() for name in headers].count("user-agent") == 1
    assert [value for name, value in headers.items() if name.lower() == "x-trace"] == ["2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"auth_header": "Cookie"},
        {"auth_header": ["Authorization"]},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": True},
        {"timeout": "60"},
        {"headers": "X: hunter2"},
        {"headers": {"X": 7}},
        {"headers": {7: "x"}},
        {"headers": {"X": "hunter2\r\nY: 1"}},
        {"headers": {"X": "hunter2\u20ac"}},
        {"headers": {"X Y": "1"}},
        {"headers": {"": "1"}},
        {"verify": ""},
        {"verify": 7},
        {"verify": None},
    ],
)
def test_settings_that_can_not_work_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DiffioConfigurationError) as caught:
        ClientSettings(KEY, **changes)
    assert "hunter2" not in str(caught.value)


# --- options of one call ----------------------------------------------------------------------------------


def test_options_change_one_call() -> None:
    settings = ClientSettings(KEY, headers={"A": "1"})
    changed = settings.with_options(
        {"timeout": 5, "max_attempts": 1, "headers": {"B": "2"}, "api_key": "other"}
    )
    assert (changed.timeout, changed.retry.max_attempts, changed.api_key) == (5, 1, "other")
    assert changed.headers == {"A": "1", "B": "2"}
    assert settings == ClientSettings(KEY, headers={"A": "1"})


@pytest.mark.parametrize(
    "options", [None, {}, RequestOptions(), {"timeout": None, "headers": None, "api_key": None}]
)
def test_no_options_change_nothing(options: Any) -> None:
    assert ClientSettings(KEY).with_options(options) == ClientSettings(KEY)


@pytest.mark.parametrize(
    "options",
    [
        "timeout=5",
        7,
        {"retries": 3},
        {"timeout": "5"},
        {"timeout": 0},
        {"max_attempts": 0},
        {"max_attempts": 101},
        {"max_attempts": 1.5},
        {"max_attempts": True},
        {"headers": "X: 1"},
        {"headers": {"X": 1}},
        {"api_key": ""},
        {"api_key": 7},
        RequestOptions(timeout=-1),
    ],
)
def test_options_that_can_not_work_are_refused_and_the_connection_is_not_blamed(options: Any) -> None:
    with pytest.raises(DiffioInputError) as caught:
        ClientSettings(KEY).with_options(options)
    assert "request_options" in str(caught.value)
    assert "connection" not in str(caught.value)


# --- CA bundles -------------------------------------------------------------------------------------------


def test_the_ca_bundle_of_verify_outranks_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = tmp_path / "mine.pem", tmp_path / "theirs.pem"
    mine.touch()
    theirs.touch()
    assert ca_bundle(True) is None
    monkeypatch.setenv("CURL_CA_BUNDLE", str(theirs))
    assert ca_bundle(True) == str(theirs)
    assert ca_bundle(str(mine)) == str(mine)
    assert ca_bundle(False) is None


def test_a_ca_bundle_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DiffioConfigurationError, match=r"'/nowhere.pem', named by verify"):
        ca_bundle("/nowhere.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    with pytest.raises(DiffioConfigurationError, match="named by REQUESTS_CA_BUNDLE"):
        ca_bundle(True)
