"""What a sandbox is started with."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

Protocol = Literal["edge", "signed-put"]
Engine = Literal["denoise", "passthrough"]

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
ENGINES: tuple[Engine, ...] = get_args(Engine)

#: Has the shape of a real key, so that code which looks at the prefix sees nothing unusual, and says
#: what it is, so that nobody mistakes it for one in a log.
DEFAULT_API_KEY = "diffio_live_sandbox_this_is_not_a_real_key"
#: Same idea; Svix wants ``whsec_`` and base64.
DEFAULT_WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"not a secret: the diffio sandbox").decode()

#: Top-level domains of private networks: mDNS and Kubernetes, ICANN's, IETF's, and what routers use.
_PRIVATE_DOMAINS: Final = frozenset({"local", "internal", "localhost", "test", "lan", "home", "localdomain"})

#: How long a media link lives, by protocol generation.
LINK_SECONDS: Mapping[Protocol, float] = {"edge": 6 * 3600.0, "signed-put": 2 * 3600.0}


#: The libraries that restoring takes, which the extra ``sandbox`` brings.
_NEEDS: Mapping[Engine, tuple[str, ...]] = {
    "denoise": ("av", "noisereduce", "numpy", "scipy", "soundfile", "svix"),
    "passthrough": ("svix",),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    Everything that can be chosen; the defaults are those of a test: any free port, quick work.

    :param host: address to listen on.
    :param port: port of the API; 0 is any free one.
    :param media_port: port of uploads and downloads; 0 is any free one.
    :param protocol: how recordings are uploaded: ``edge`` or ``signed-put``.
    :param engine: ``denoise``, or ``passthrough``, which returns the upload as the result.
    :param processing_seconds: how long a generation takes at least.
    :param data_dir: where to keep files; a temporary folder when not given.
    :param api_key: the key to accept.
    :param webhook_secret: signs webhook deliveries: ``whsec_`` and base64.
    :param webhook_time_scale: shortens the waits between the tries of a delivery, which are Svix's.
    :param link_seconds: life of a download link; 6 h (edge) or 2 h when not given.
    :param upload_seconds: life of an upload's token or address.
    :param part_size: bytes of an upload part.
    :param max_bytes: bytes of the largest upload.
    :param workers: recordings restored at a time.
    :param accept_4_5: take ``diffio-4.5-flash`` and ``diffio-4.5-pro`` for their 4.6 successors, as the
        vendor's newest SDK does, instead of responding 410.
    :param allow_remote: listen on an address that other machines can reach.
    :param public_url: address of the API for others, such as ``http://sandbox:8788``; the address it listens
        on when not given.
    :param public_media_url: the same for uploads and downloads; the host of ``public_url`` with the media
        server's own port when not given.
    :param control_token: ask for this token on the control routes, and then let other machines use them.
    :param allow_private_http: let API keys configure webhooks over plain http to private hosts: private
        addresses, and names that only a private network knows.
    :raises ValueError: for values that make no sense, and for an engine whose libraries are missing.
    """

    host: str = "127.0.0.1"
    port: int = 0
    media_port: int = 0
    protocol: Protocol = "edge"
    engine: Engine = "denoise"
    processing_seconds: float = 5.0
    data_dir: Path | None = None
    api_key: str = DEFAULT_API_KEY
    webhook_secret: str = DEFAULT_WEBHOOK_SECRET
    webhook_time_scale: float = 0.01
    link_seconds: float | None = None
    upload_seconds: float = 24 * 3600.0
    part_size: int = 32 * 1024 * 1024
    max_bytes: int = 2 * 1024 * 1024 * 1024
    workers: int = 1
    accept_4_5: bool = False
    allow_remote: bool = False
    public_url: str | None = None
    public_media_url: str | None = None
    control_token: str | None = None
    allow_private_http: bool = False

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {self.protocol!r}")
        if self.engine not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, not {self.engine!r}")
        if missing := [name for name in _NEEDS[self.engine] if find_spec(name) is None]:
            raise ValueError(
                f"the {self.engine} engine needs {', '.join(missing)}: "
                'pip install "airflow-provider-diffio[sandbox]"'
            )
        if not self.allow_remote and not is_loopback(self.host):
            raise ValueError(
                f"{self.host} can be reached from other machines, and they could use this sandbox: "
                "listen on 127.0.0.1, or say allow_remote (--allow-remote) if you mean it"
            )
        if self.port and self.port == self.media_port:
            raise ValueError("the API and the media server need different ports")
        if self.part_size < 1 or self.max_bytes < 1 or self.workers < 1:
            raise ValueError("part_size, max_bytes and workers must be at least 1")
        if self.processing_seconds < 0 or self.webhook_time_scale < 0:
            raise ValueError("processing_seconds and webhook_time_scale cannot be negative")
        for name, url in (("public_url", self.public_url), ("public_media_url", self.public_media_url)):
            if url is not None and not _is_origin(url):
                raise ValueError(f"{name} must be an address such as http://sandbox:8788, not {url!r}")
        if self.control_token is not None and not (
            self.control_token.isascii() and self.control_token.isprintable() and self.control_token.strip()
        ):
            raise ValueError("control_token must be printable ASCII and not empty")
        if not self.api_key or not self.webhook_secret.startswith("whsec_"):
            raise ValueError("api_key must not be empty and webhook_secret must begin with whsec_")

    @property
    def link_life(self) -> float:
        """Seconds a download link is good for."""
        return LINK_SECONDS[self.protocol] if self.link_seconds is None else self.link_seconds


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine talking to itself."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def is_private(host: str) -> bool:
    """Whether ``host`` is in a private network: by its address, or by a name that is of no use elsewhere."""
    address = _address(host)
    if address is not None:
        return address.is_private or address.is_loopback
    name = host.lower().rstrip(".")
    return bool(name) and ("." not in name or name.rpartition(".")[2] in _PRIVATE_DOMAINS)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    # A server that listens on both families sees IPv4 callers like this.
    return getattr(address, "ipv4_mapped", None) or address


def _is_origin(url: str) -> bool:
    try:
        parts = urlsplit(url)
        valid = parts.port != 0
    except ValueError:
        return False
    return (
        valid
        and parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and not any((parts.path.strip("/"), parts.query, parts.fragment, parts.username))
    )
