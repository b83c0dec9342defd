"""Misconfigurations to be found by doctor, each with what has to be said of it."""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from airflow_provider_diffio.sandbox import Sandbox
from tests.features import INSTALLED

Fields = Mapping[str, Any]

KEY = "diffio_live_a_secret_that_is_never_shown"
WEBHOOK_SECRET = "whsec_c2VjcmV0LXRoYXQtaXMtbmV2ZXItc2hvd24="


@dataclass
class Place:
    """What a seed is made of: a sandbox, a folder, and servers that end with the test."""

    sandbox: Sandbox
    folder: Path
    servers: ExitStack

    def answering(self, status: int, body: bytes, **headers: str) -> str:
        """Return the address of a server that always answers the same."""
        return self.servers.enter_context(server(status, body, headers))


@dataclass(frozen=True)
class Seed:
    """
    One misconfiguration.

    :ivar fields: what is wrong with a connection that works, or with all of it.
    :ivar area: what the finding is about.
    :ivar cause: words of the cause.
    :ivar fix: words of the fix.
    :ivar environment: what is wrong around the connection.
    :ivar level: how bad it is.
    """

    name: str
    fields: Callable[[Place], Fields]
    area: str
    cause: str
    fix: str
    environment: Mapping[str, str] = field(default_factory=dict)
    conn_id: str = "diffio_default"
    level: str = "problem"


def extra(**fields: Any) -> Callable[[Place], Fields]:
    return lambda _: {"extra": fields}


def field_of(**fields: Any) -> Callable[[Place], Fields]:
    return lambda _: fields


def key_with(*scopes: str) -> Callable[[Place], Fields]:
    return lambda place: {"password": place.sandbox.add_key(*scopes)}


def _html(place: Place) -> Fields:
    return {"host": place.answering(200, b"<html>Welcome to nginx!</html>", **{"Content-Type": "text/html"})}


def _wants_login(place: Place) -> Fields:
    return {"host": "https://api.diffio.ai", "extra": {"proxy": place.answering(407, b"")}}


def _late(place: Place) -> Fields:
    past = format_datetime(dt.datetime.now(dt.UTC) - dt.timedelta(minutes=10), usegmt=True)
    return {"host": place.answering(401, b'{"error": "Unauthorized"}', Date=past)}


def _self_signed(place: Place) -> Fields:
    return {"host": place.servers.enter_context(tls_server(place.folder))}


def _unpaid(place: Place) -> Fields:
    body = b'{"error": "Your card was declined.", "code": "paymentFailed"}'
    return {"host": place.answering(402, body, **{"Content-Type": "application/json"})}


def _file_in_place(place: Place) -> Fields:
    (place.folder / "file").write_text("")
    return {"extra": {"output_path": str(place.folder / "file" / "restored")}}


ALL_SCOPES = ("projects:read", "projects:write", "generations:read", "generations:write", "artifacts:read")

SEEDS: tuple[Seed, ...] = (
    Seed("no connection", field_of(), "connection", "no connection 'diffio_prod'", "airflow connections add",
         conn_id="diffio_prod"),
    Seed("a variable that is no connection", field_of(_raw="{'conn_type': 'diffio'"), "connection",
         "cannot be read", "must be the JSON or the URI"),
    Seed("another type", field_of(conn_type="http"), "connection", "of the type 'http'",
         "Set its type to Diffio"),
    Seed("no key", field_of(password=""), "connection", "no API key", "fields of the Diffio connection"),
    Seed("Bearer in the key", field_of(password="Bearer_" + KEY), "key", "begins with the word Bearer",
         "key alone"),
    Seed("the webhook's secret as the key", field_of(password=WEBHOOK_SECRET), "key", "signing secret",
         "webhook_secret"),
    Seed("a line break in the key", field_of(password="diffio_live_a\nb"), "connection",
         "characters that no key has",
         "fields of the Diffio connection"),
    Seed("no URL as the host", field_of(host="api.diffio.ai?key=1"), "connection", "no usable base URL",
         "such as https://api.diffio.ai/v1"),
    Seed("plain http", field_of(host="http://10.0.0.1"), "connection", "plain http", "https://"),
    Seed("a misspelled extra", extra(timout=30), "connection", "'timout' is unknown and ignored",
         "Write 'timeout'"),
    Seed("extra that is no JSON", field_of(extra="{not json"), "connection", "not JSON",
         "fields of the Diffio connection"),
    Seed("an unknown header for the key", extra(key_header="Token"), "connection", "key_header",
         "fields of the Diffio connection"),
    Seed("a name that does not exist", field_of(host="https://api.diffio.invalid"), "host",
         "its name cannot be resolved", "Correct the connection's host"),
    Seed("a port where nobody listens", field_of(host="http://127.0.0.1:9"), "host", "refused the connection",
         "Correct host and port"),
    Seed("a certificate of nobody", _self_signed, "TLS", "certificate is not trusted", "CA's bundle"),
    Seed("a CA bundle that is not there", extra(verify="/no/such/bundle.pem"), "TLS",
         "'/no/such/bundle.pem', named by verify, does not exist", "fields of the Diffio connection"),
    Seed("TLS switched off", extra(verify=False), "TLS", "'verify' is false", "your own CA's bundle"),
    Seed("a page of a gateway", _html, "host", "does not respond like Diffio", "must be Diffio's API"),
    Seed("a proxy that is away", lambda _: {"host": "https://api.diffio.ai",
         "extra": {"proxy": "http://user:hidden-word@127.0.0.1:9"}}, "proxy",
         "through the proxy http://127.0.0.1:9", "extra 'proxy'"),
    Seed("a SOCKS proxy", extra(proxy="socks5h://127.0.0.1:1080"), "connection", "'socks5h' cannot be used",
         "fields of the Diffio connection"),
    Seed("a proxy that wants a login", _wants_login, "proxy", "proxy", "proxy"),
    Seed("a proxy of the environment", field_of(host="https://api.diffio.ai"), "proxy",
         "through the proxy http://127.0.0.1:9", "HTTPS_PROXY", {"HTTPS_PROXY": "http://127.0.0.1:9"}),
    Seed("a key that is not active", field_of(password=KEY), "key", "refuses the API key",
         "a key that is active"),
    Seed("an account that is not paid", _unpaid, "key", "declined", "billing portal"),
    Seed("no scope for downloads", key_with(*ALL_SCOPES[:-1]), "scopes", "may not download what was paid for",
         "artifacts:read"),
    Seed("no scope for uploads", key_with("generations:read", "generations:write", "artifacts:read"),
         "scopes",
         "may not upload", "projects:write"),
    Seed("a key that may only read", key_with("projects:read", "generations:read", "artifacts:read"),
         "scopes",
         "may not start generations", "generations:write"),
    Seed("a model with a typo", extra(model="diffio-4.6-flsh"), "model",
         "not offer the model 'diffio-4.6-flsh'",
         "diffio-4.6-flash"),
    Seed("another vendor's model", extra(model="enhance-1"), "model", "has no model 'enhance-1'",
         "Correct the extra 'model'"),
    Seed("a retired model", extra(model="diffio-4.5-flash"), "model", "retired", "diffio-4.6-flash"),
    Seed("a clock that is off", _late, "clock", "s fast", "NTP"),
    Seed("a webhook secret that is none", extra(webhook_secret="sk_live_hidden-word"), "webhooks",
         "webhook secret",
         ""),
    Seed("a webhook secret that can be guessed", extra(webhook_secret="whsec_AA=="), "webhooks",
         "could be guessed",
         "whole signing secret"),
    Seed("wake_up without a secret", field_of(), "webhooks", "wake_up is on", "",
         {"AIRFLOW__DIFFIO__WAKE_UP": "True"}),
    Seed("a place that cannot be written", _file_in_place, "output_path", "file", ""),
    Seed("a root of another connection that is not there", extra(output_path="s3://nobody@bucket/x"),
         "output_path",
         "nobody", ""),
    Seed("deferrable tasks without a triggerer", field_of(), "triggerer", "No triggerer runs",
         "airflow triggerer", {"AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True"}),
    Seed("no triggerer", field_of(), "triggerer", "No triggerer runs", "airflow triggerer", level="note"),
)  # fmt: skip

if INSTALLED >= (3, 0):
    SEEDS = (
        *SEEDS,
        Seed("an id that the receiver refuses", extra(webhook_secret=WEBHOOK_SECRET), "receiver",
             "refuses the connection id", "single dots", conn_id="dïffio"),
        Seed("no API server", extra(webhook_secret=WEBHOOK_SECRET), "receiver", "does not respond",
             "base_url",
             {"AIRFLOW__API__BASE_URL": "http://127.0.0.1:9"}),
    )  # fmt: skip
else:
    SEEDS = (
        *SEEDS,
        Seed("webhooks on Airflow 2", extra(webhook_secret=WEBHOOK_SECRET), "receiver", "needs Airflow 3",
             "Upgrade"),
    )  # fmt: skip


@contextmanager
def server(status: int, body: bytes, headers: Mapping[str, str]) -> Iterator[str]:
    """Serve the same answer to every request."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_CONNECT = answer  # noqa: N815

        def log_message(self, *args: Any) -> None: ...

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def tls_server(folder: Path) -> Iterator[str]:
    """Serve TLS with a certificate that nobody has signed."""
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
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    listener = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    with _serving(listener) as port:
        yield f"https://localhost:{port}"


@contextmanager
def _serving(listener: ThreadingHTTPServer) -> Iterator[int]:
    listener.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield listener.server_address[1]
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
