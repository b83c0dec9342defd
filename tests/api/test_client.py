"""What both clients send and to whom, and what they make of answers that are none."""

from __future__ import annotations

import asyncio
import gzip
import io
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api import endpoints, errors
from airflow_provider_diffio.api.async_client import DiffioAsyncClient
from airflow_provider_diffio.api.log_redaction import LOGGERS, keep_out_of_logs
from airflow_provider_diffio.api.models import EdgeUpload, SignedPutUpload
from airflow_provider_diffio.api.settings import USER_AGENT, ClientSettings
from airflow_provider_diffio.api.uploads import Slice
from airflow_provider_diffio.sandbox import Sandbox
from tests.api.conftest import API_KEY, Caller, UploadHarness, everything_said, project_in, settings_for
from tests.api.scripted import Scripted, Step, answer, error, hang, reset

LIST = endpoints.list_projects()
UNKEYED = endpoints.create_generation("p")
EMPTY = answer({"projects": []})
HarnessFor = Callable[..., UploadHarness]


def failure_of(
    carry: Caller, server: Scripted | str, call: Any = LIST, **settings: Any
) -> errors.DiffioError:
    with pytest.raises(errors.DiffioError) as caught:
        carry(server, call, max_attempts=1, **settings)
    return caught.value


# --- what is sent -----------------------------------------------------------------------------------------


def test_a_call_is_a_post_of_json_below_the_base_url(carry: Caller, server: Scripted) -> None:
    server.play(EMPTY)
    carry(server, LIST, headers={"X-Trace": "7"})
    (request,) = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/v1/list_projects", b"{}")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == USER_AGENT
    assert request.headers["x-trace"] == "7"


@pytest.mark.parametrize("auth_header", ["Authorization", "X-Api-Key", "Xi-Api-Key"])
def test_every_way_to_present_the_key_is_accepted(carry: Caller, sandbox: Sandbox, auth_header: str) -> None:
    assert carry(sandbox, LIST, auth_header=auth_header) == ()


def test_a_wrong_key_is_refused_at_once(carry: Caller, sandbox: Sandbox) -> None:
    with pytest.raises(errors.DiffioAuthenticationError) as caught:
        carry(sandbox, LIST, api_key="diffio_live_wrong")
    assert "diffio_live_wrong" not in everything_said(caught.value)
    assert carry.naps == []


def test_a_netrc_does_not_replace_the_key(
    carry: Caller, server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.play(EMPTY)
    carry(server, LIST)
    assert server.requests[0].headers["authorization"] == f"Bearer {API_KEY}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_does_not_follow_a_redirect(
    carry: Caller, server: Scripted, other_server: Scripted, status: int
) -> None:
    server.play(answer(status=status, headers={"Location": f"{other_server.url}/v1/list_projects"}))
    other_server.play(EMPTY)
    assert "redirect" in failure_of(carry, server).message
    assert other_server.requests == []


def test_a_redirect_to_nowhere_is_an_error_like_any_other(carry: Caller, server: Scripted) -> None:
    server.play(answer(status=302, headers={"Location": "http://[bad"}))
    assert isinstance(failure_of(carry, server), errors.DiffioResponseError)


def test_cookies_are_not_kept(harness_for: HarnessFor, server: Scripted, carry: Caller) -> None:
    server.play(answer({"projects": []}, headers={"Set-Cookie": "session=hunter2; Path=/"}))
    client = harness_for(server).client
    client.call(LIST)
    client.call(LIST)
    assert all("cookie" not in request.headers for request in server.requests)


def test_options_hold_for_one_call(harness_for: HarnessFor, server: Scripted) -> None:
    server.play(EMPTY)
    client = harness_for(server).client
    client.call(LIST, {"api_key": "other", "headers": {"X-Trace": "7"}})
    client.call(LIST)
    first, second = server.requests
    assert (first.headers["authorization"], first.headers["x-trace"]) == ("Bearer other", "7")
    assert second.headers["authorization"] == f"Bearer {API_KEY}"
    assert "x-trace" not in second.headers


# --- proxies ----------------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_asked_for_other_machines(
    carry: Caller, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    server.play(answer(status=502))
    failure_of(carry, "https://api.diffio.test")
    assert (server.requests[0].method, server.requests[0].target) == ("CONNECT", "api.diffio.test:443")
    assert API_KEY not in str(server.requests)


def test_a_host_of_no_proxy_is_reached_directly(
    carry: Caller, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    monkeypatch.setenv("NO_PROXY", "diffio.invalid")
    server.play(answer(status=502))
    assert "cannot be resolved" in failure_of(carry, "https://api.diffio.invalid").message
    assert server.requests == []


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
def test_a_proxy_of_the_environment_is_not_shown_what_stays_on_this_machine(
    carry: Caller, server: Scripted, other_server: Scripted, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, other_server.url)
    server.play(EMPTY)
    carry(server, LIST)
    assert (len(server.requests), other_server.requests) == (1, [])


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_of_the_connection_is_asked_for_every_host(
    carry: Caller, server: Scripted, other_server: Scripted, scheme: str
) -> None:
    other_server.play(EMPTY)
    carry(server, LIST, proxy=other_server.url.replace("http://", scheme))
    assert server.requests == []
    assert other_server.requests[0].target == f"{server.url}/v1/list_projects"


def test_a_proxy_that_is_not_there_is_named_as_the_trouble(carry: Caller) -> None:
    settings = {"proxy": f"http://me:hunter2@127.0.0.1:{closed_port()}"}
    failure = failure_of(carry, "https://api.diffio.test", UNKEYED, **settings)
    assert failure.message == "No response from api.diffio.test: the proxy did not pass the request on."
    assert "hunter2" not in everything_said(failure)


def test_a_proxy_of_a_kind_that_is_not_served_is_an_error_like_any_other(carry: Caller) -> None:
    assert "proxy" in failure_of(carry, "https://api.diffio.test", proxy="socks5://127.0.0.1:1").message


@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
def test_a_socks_proxy_of_the_environment_is_refused_by_both(
    carry: Caller, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "socks5h://me:hunter2@127.0.0.1:1080")
    failure = failure_of(carry, "https://api.diffio.test")
    assert isinstance(failure, errors.DiffioConfigurationError)
    assert "HTTPS_PROXY or ALL_PROXY" in failure.message
    assert "hunter2" not in everything_said(failure)


# --- no answer --------------------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_refused_connection_is_described_and_started_nothing(carry: Caller) -> None:
    port = closed_port()
    failure = failure_of(carry, f"http://127.0.0.1:{port}", UNKEYED)
    assert failure.message == f"No response from 127.0.0.1:{port}: it refused the connection."
    assert not failure.may_be_billed


def test_a_wrong_host_is_described_and_started_nothing(carry: Caller) -> None:
    failure = failure_of(carry, "https://api.diffio.invalid", UNKEYED)
    assert failure.message == "No response from api.diffio.invalid: its name cannot be resolved."
    assert not failure.may_be_billed


def test_silence_is_described_and_may_have_started_something(carry: Caller, server: Scripted) -> None:
    server.play(hang)
    failure = failure_of(carry, server, UNKEYED, timeout=0.2)
    assert failure.message.endswith(": nothing came for 0.2 s.")
    assert failure.may_be_billed


def test_a_reset_is_described(carry: Caller, server: Scripted) -> None:
    server.play(reset)
    failure = failure_of(carry, server, UNKEYED)
    assert re.fullmatch(
        r"No response from 127\.0\.0\.1:\d+: (the connection broke|connection .*)\.", failure.message
    )
    assert failure.may_be_billed


def begin_and_hang(connection: Any) -> None:
    connection.send(answer(b'{"projects"', length=99))
    hang(connection)


GARBLED: list[tuple[str, Step, str]] = [
    ("cut off", answer(b'{"projects"', length=99), "the connection broke in the middle of the response"),
    (
        "cut off in chunks",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "the connection broke in the middle of the response",
    ),
    ("stuck", begin_and_hang, "nothing came for 0.3 s"),
    ("no http", b"SSH-2.0-OpenSSH_9.6\r\n", "connection broke|status line"),
    ("no gzip", answer(b"plain", headers={"Content-Encoding": "gzip"}), "connection broke"),
    ("silent", b"", "connection broke|closed"),
]


@pytest.mark.parametrize(("step", "says"), [case[1:] for case in GARBLED], ids=[case[0] for case in GARBLED])
def test_an_answer_that_does_not_arrive_whole_is_no_answer(
    carry: Caller, server: Scripted, step: Step, says: str
) -> None:
    server.play(step)
    failure = failure_of(carry, server, UNKEYED, timeout=0.3)
    assert isinstance(failure, errors.DiffioConnectionError)
    assert re.search(says, failure.message), failure.message
    assert failure.may_be_billed


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (answer(b"<html>Sign in", content_type="text/html"), "text/html instead of JSON"),
        (answer(b"{}", content_type=None), "no content type instead of JSON"),
        (answer(b"{", content_type="application/json"), "not a JSON object"),
        (answer(b"", status=204, content_type=None), "no content type"),
        (answer(b"{}"), "no usable 'projects'"),
    ],
)
def test_an_answer_that_is_not_the_contracts_is_described(
    carry: Caller, server: Scripted, step: Step, says: str
) -> None:
    server.play(step)
    failure = failure_of(carry, server)
    assert isinstance(failure, errors.DiffioResponseError)
    assert says in failure.message
    assert len(server.requests) == 1


def test_a_compressed_answer_is_read(carry: Caller, server: Scripted) -> None:
    body = gzip.compress(b'{"projects": []}')
    server.play(answer(body, headers={"Content-Encoding": "gzip"}))
    assert carry(server, LIST) == ()


def flood(connection: Any) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    for _ in range(64):
        connection.send(b"[" * 1024 * 1024)


def test_a_gigantic_answer_is_not_read_to_its_end(carry: Caller, server: Scripted) -> None:
    server.play(flood)
    failure = failure_of(carry, server, endpoints.get_account_settings())
    assert failure.message == "account/settings/get responded with more than 1048576 bytes."


def test_a_small_answer_that_unpacks_to_a_gigantic_one_is_refused(carry: Caller, server: Scripted) -> None:
    body = gzip.compress(b"[" * 20 * 1024 * 1024)
    server.play(answer(body, headers={"Content-Encoding": "gzip"}))
    failure = failure_of(carry, server, endpoints.get_account_settings())
    assert "responded with more than" in failure.message


# --- TLS --------------------------------------------------------------------------------------------------


@contextmanager
def tls_port(certificate: Path | None) -> Iterator[int]:
    """Speak TLS under a certificate that nobody trusts, or no TLS at all."""

    def talk() -> None:
        while True:
            try:
                peer, _ = listener.accept()
                with peer:
                    if context:
                        context.wrap_socket(peer, server_side=True).close()
                    else:
                        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            except ssl.SSLError:
                continue
            except OSError:
                return

    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "self-signed.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_a_certificate_that_is_not_trusted_is_described(carry: Caller, certificate: Path) -> None:
    with tls_port(certificate) as port:
        failure = failure_of(carry, f"https://127.0.0.1:{port}", UNKEYED)
    assert failure.message.startswith(
        f"No response from 127.0.0.1:{port}: its TLS certificate is not trusted"
    )
    assert not failure.may_be_billed


def test_a_host_without_tls_is_described(carry: Caller) -> None:
    with tls_port(None) as port:
        failure = failure_of(carry, f"https://127.0.0.1:{port}")
    assert "the TLS handshake failed" in failure.message


def test_verification_can_be_switched_off(carry: Caller, certificate: Path) -> None:
    with tls_port(certificate) as port:
        failure = failure_of(carry, f"https://127.0.0.1:{port}", verify=False)
    assert "TLS certificate" not in failure.message


def test_a_ca_bundle_that_is_missing_is_a_mistake_in_the_connection(carry: Caller, tmp_path: Path) -> None:
    with pytest.raises(errors.DiffioConfigurationError, match="does not exist"):
        carry("https://api.diffio.test", LIST, verify=str(tmp_path / "none.pem"))


def test_a_ca_bundle_without_certificates_is_a_mistake_in_the_connection(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    with pytest.raises(errors.DiffioConfigurationError, match="holds no certificates"):
        Caller("async")("https://api.diffio.test", LIST, verify=str(junk))


# --- the async client -------------------------------------------------------------------------------------


def test_the_async_client_is_used_in_its_block_only() -> None:
    client = DiffioAsyncClient(ClientSettings(API_KEY))
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(client.call_once(LIST))


def test_one_look_is_one_request(server: Scripted) -> None:
    async def look() -> None:
        async with DiffioAsyncClient(settings_for(server)) as client:
            await client.call_once(LIST)

    server.play(error(503))
    with pytest.raises(errors.DiffioServerError):
        asyncio.run(look())
    assert len(server.requests) == 1


# --- other hosts ------------------------------------------------------------------------------------------

TOKEN = "v1.upload-token-0123456789abcdef-0123456789.sig"
SIGNED = "signature-0123456789abcdef0123456789abcdef"


def session_at(url: str) -> EdgeUpload:
    return EdgeUpload("api-p", url, TOKEN, "key", 1 << 20, 1 << 30)


def test_the_upload_host_sees_the_uploads_token_and_not_the_key(
    harness_for: HarnessFor, server: Scripted, other_server: Scripted
) -> None:
    other_server.play(answer({"uploadId": "u"}))
    client = harness_for(server, headers={"X-Gateway": "hunter2"}).client
    client.call_edge(endpoints.start_edge_upload(session_at(other_server.url)), {"api_key": API_KEY})
    (request,) = other_server.requests
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert API_KEY not in str(request)
    assert "x-gateway" not in request.headers


def test_the_sandbox_never_sees_the_key_off_the_api(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    project_in(sandbox)
    media = [request for request in sandbox.requests() if request["origin"] == "media"]
    assert {request["authorization"] for request in media} == {"upload-token"}
    assert not any(request["apiKeySeen"] for request in media)


@pytest.mark.parametrize(
    "url", ["http://media.diffio.test", "ftp://x", "https://me:pw@x.test", "junk", "https://[x"]
)
def test_nothing_is_sent_to_an_upload_or_download_host_that_is_not_safe(
    harness_for: HarnessFor, server: Scripted, url: str
) -> None:
    client = harness_for(server).client
    with pytest.raises(errors.DiffioResponseError, match="as upload host; only https will do"):
        client.call_edge(endpoints.start_edge_upload(session_at(url)))
    with pytest.raises(errors.DiffioResponseError, match="as upload host"):
        client.put_file(SignedPutUpload(url), Slice(empty(), 0, 0, "x"), "audio/wav")
    with pytest.raises(errors.DiffioResponseError, match="as download host"), client.open_media(url):
        pass


def empty() -> io.BytesIO:
    return io.BytesIO()


@pytest.mark.parametrize("token", ["t\u00f6ken\u20ac", "a\r\nX: 1"])
def test_a_token_that_can_not_be_sent_is_an_error_like_any_other(
    harness_for: HarnessFor, server: Scripted, token: str
) -> None:
    session = EdgeUpload("s", server.url, token, "k", 1, 1)
    with pytest.raises(errors.DiffioConnectionError, match="a header or the URL is malformed") as caught:
        harness_for(server).client.call_edge(endpoints.start_edge_upload(session))
    assert token not in everything_said(caught.value)


def test_an_edge_that_echoes_its_token_is_not_quoted(harness_for: HarnessFor, server: Scripted) -> None:
    server.play(answer({"error": {"code": "bad_request", "message": f"Token {TOKEN} is odd"}}, 400))
    with pytest.raises(errors.DiffioApiError) as caught:
        harness_for(server).client.call_edge(endpoints.start_edge_upload(session_at(server.url)))
    assert caught.value.message == "Token *** is odd"


CUT_OFF = answer(b"x", length=99)


def test_a_page_in_place_of_the_stores_answer_is_no_refusal(
    harness_for: HarnessFor, server: Scripted
) -> None:
    server.play(answer(PAGE, 403, content_type="text/html"), answer(b"", content_type=None))
    upload = SignedPutUpload(f"{server.url}/bucket/a.wav?sig={SIGNED}")
    harness_for(server).client.put_file(upload, Slice(empty(), 0, 0, "x"), "audio/wav")
    assert len(server.requests) == 2


PAGE = b"<html><h1>Forbidden"
BREAKING: list[Step] = [reset, hang, CUT_OFF, answer(status=503), answer(status=403)]


@pytest.mark.parametrize("step", BREAKING)
def test_what_goes_wrong_with_a_signed_url_does_not_show_it(
    harness_for: HarnessFor, server: Scripted, step: Step
) -> None:
    client = harness_for(server, timeout=0.2, max_attempts=2).client
    url = f"{server.url}/bucket/a.wav?sig={SIGNED}"
    server.play(step)
    with pytest.raises(errors.DiffioError) as download, client.open_media(url) as stream:
        list(stream.blocks())
    assert SIGNED not in everything_said(download.value)
    if step is not CUT_OFF:  # the status alone says that a file was taken
        with pytest.raises(errors.DiffioError) as upload:
            client.put_file(SignedPutUpload(url), Slice(empty(), 0, 0, "x"), "audio/wav")
        assert SIGNED not in everything_said(upload.value)


def test_a_signed_url_that_nobody_listens_at_is_not_shown(harness_for: HarnessFor, server: Scripted) -> None:
    client = harness_for(server, max_attempts=1).client
    url = f"http://127.0.0.1:{closed_port()}/bucket/a.wav?sig={SIGNED}"
    with pytest.raises(errors.DiffioConnectionError) as caught, client.open_media(url):
        pass
    assert SIGNED not in everything_said(caught.value)


# --- logs -------------------------------------------------------------------------------------------------


def logged(caplog: pytest.LogCaptureFixture, name: str) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.name.startswith(name))


@pytest.mark.parametrize("quoting", ["/a%2fb~c.wav", "/a b.wav", "/\u00e4.wav", "/plain.wav"])
def test_no_signed_url_is_in_the_http_librarys_log(
    harness_for: HarnessFor, server: Scripted, caplog: pytest.LogCaptureFixture, quoting: str
) -> None:
    harness = harness_for(server)
    redirected = f"{server.url}/elsewhere{quoting}?sig=redirected-{SIGNED}"
    server.play(
        answer(b"", content_type=None),
        answer(status=302, headers={"Location": redirected.encode().decode("latin-1")}),
        answer(b"x"),
    )
    with caplog.at_level(logging.DEBUG):
        upload = SignedPutUpload(f"{server.url}{quoting}?sig=a%2bb-{SIGNED}")
        harness.client.put_file(upload, Slice(empty(), 0, 0, "x"), "audio/wav")
        with harness.client.open_media(f"{server.url}{quoting}?sig=c%2Fd-{SIGNED}") as stream:
            list(stream.blocks())
    said = logged(caplog, "urllib3")
    assert [word for word in said.split() if word in ('"PUT', '"GET')] == ['"PUT', '"GET', '"GET']
    assert SIGNED not in said
    # The callback is for what lives long: what it is told is kept for good.
    assert harness.secrets == []


def test_a_response_announces_its_plaintext_key_alone(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    harness = harness_for(sandbox)
    made = harness.client.call(endpoints.create_api_key("label", ["projects:read"]))
    created = harness.client.call(endpoints.create_project("a", content_type="a/b", content_length=1))
    assert isinstance(created.upload, EdgeUpload)
    assert harness.secrets == [made.key]


def test_malformed_headers_of_a_media_host_do_not_log_the_link(
    harness_for: HarnessFor, server: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    target = f"/m/v1.token-{SIGNED}/a.mp3?sig={SIGNED}"
    odd = f"HTTP/1.1 200 OK\r\nX: 1\r\nGET {target} no header\r\nContent-Length: 1\r\n\r\nx"
    server.play(odd.encode())
    with (
        caplog.at_level(logging.DEBUG),
        harness_for(server).client.open_media(f"{server.url}{target}") as stream,
    ):
        list(stream.blocks())
    (warning,) = [record for record in caplog.records if record.name == "urllib3.connection"]
    assert warning.getMessage().startswith("Failed to parse headers")
    assert SIGNED not in caplog.text


@pytest.mark.parametrize("name", LOGGERS)
def test_a_link_is_in_no_log_of_the_http_library(
    harness_for: HarnessFor, server: Scripted, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    server.play(answer(b"x"))
    with (
        caplog.at_level(logging.DEBUG),
        harness_for(server).client.open_media(f"{server.url}/a?sig={SIGNED}"),
    ):
        logging.getLogger(name).warning("Retrying %s after %d", f"http://h/a?sig={SIGNED}", 1)
        logging.getLogger(name).warning("Other %s", "http://h/b")
    assert SIGNED not in caplog.text
    assert "Retrying *** after 1" in caplog.text
    assert "Other http://h/b" in caplog.text


def test_links_are_kept_out_of_logs_at_a_constant_cost(harness_for: HarnessFor, server: Scripted) -> None:
    """However many links a process has seen, the next one costs the same, and old ones are forgotten."""
    for number in range(5_000):
        keep_out_of_logs(f"https://media.test/m/{number}?sig={SIGNED}")
    filters: list[Any] = list(logging.getLogger("urllib3.connection").filters)
    (hide,) = [found for found in filters if hasattr(found, "add")]
    assert len(hide._links) <= 256
    assert logging.getLogger("urllib3.connectionpool").filters.count(hide) == 1
    server.play(answer(b"x"))
    with harness_for(server).client.open_media(f"{server.url}/a?sig={SIGNED}") as stream:
        assert list(stream.blocks()) == [b"x"]


def test_our_own_log_holds_no_secret(
    harness_for: HarnessFor, server: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    server.play(error(503, f"Key {API_KEY} came too early"), reset)
    client = harness_for(server, max_attempts=3).client
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(errors.DiffioError):
            client.call(LIST)
        with pytest.raises(errors.DiffioError):
            client.call_edge(endpoints.start_edge_upload(session_at(server.url)))
        with pytest.raises(errors.DiffioError):
            client.put_file(SignedPutUpload(f"{server.url}/?sig={SIGNED}"), Slice(empty(), 0, 0, "x"), "a/b")
    said = logged(caplog, "airflow_provider_diffio")
    assert "Try 2 failed" in said
    assert not any(secret in said for secret in (API_KEY, TOKEN, SIGNED))


def test_the_client_can_be_shared_by_threads(harness_for: HarnessFor, sandbox: Sandbox) -> None:
    client = harness_for(sandbox).client
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(client.call(LIST))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [()] * 8
