"""``python -m airflow_provider_diffio.sandbox``."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from airflow_provider_diffio.sandbox.remote import RemoteSandbox
from airflow_provider_diffio.sandbox.settings import (
    DEFAULT_API_KEY,
    DEFAULT_WEBHOOK_SECRET,
    ENGINES,
    PROTOCOLS,
    Settings,
    is_loopback,
)

#: Stands for a control token that is still to be made.
_GENERATED: Final = "\0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    parser = _parser()
    options = parser.parse_args(arguments)
    fields = vars(options)
    ready_file = fields.pop("ready_file")
    webhook_urls = fields.pop("webhook_url")
    sample = fields.pop("sample")
    if sample is not None:
        return _write_sample(sample)
    if not fields.pop("quiet"):
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if fields["control_token"] == _GENERATED:
        fields["control_token"] = secrets.token_urlsafe(24)
    try:
        settings = Settings(**fields)
    except ValueError as error:
        sys.stderr.write(f"The sandbox cannot start: {error}\n")
        return 2
    try:
        asyncio.run(_serve(settings, ready_file, webhook_urls))
    except OSError as error:
        sys.stderr.write(f"The sandbox cannot listen: {error.strerror or error}\n")
        return 1
    return 0


def _write_sample(path: Path) -> int:
    """Write the noisy recording that comes with the package; it exists once, in the example DAGs' folder."""
    package = Path(__file__).parents[1]
    # The wheel has the examples inside of the package, a checkout beside it.
    places = [
        folder / "example_dags" / "recordings" / "noisy_speech.wav" for folder in (package, package.parent)
    ]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        sys.stderr.write("This installation has no example recording.\n")
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found, path)
    sys.stdout.write(f"Wrote a noisy recording of speech to {path}\n")
    return 0


async def _serve(settings: Settings, ready_file: Path | None, webhook_urls: Sequence[str]) -> None:
    from airflow_provider_diffio.sandbox.server import Server

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = Server(settings)
    try:
        await server.start()
        for url in webhook_urls:
            server.add_webhook(url)
        remote = RemoteSandbox(
            server.api_url,
            server.media_url,
            settings.api_key,
            settings.webhook_secret,
            public_url=server.public_url,
            control_token=settings.control_token,
        )
        _announce(remote, settings)
        if ready_file is not None:
            _write_ready(ready_file, remote)
        await stop.wait()
    finally:
        await server.stop()


def _announce(remote: RemoteSandbox, settings: Settings) -> None:
    connection = shlex.quote(json.dumps(remote.connection))
    token = "" if remote.control_token is None else f"#token={remote.control_token}"
    lines = [
        f"export AIRFLOW_CONN_DIFFIO_DEFAULT={connection}",
        f"# API {remote.public_url}/v1 ({settings.protocol}), uploads and downloads {remote.media_url}",
        f"# What it does, in a browser:  {remote.public_url}/{token}",
        f"# What would have been billed: {remote.public_url}/sandbox/ledger",
        f"# Every request seen:          {remote.public_url}/sandbox/requests",
        f"# Webhook signing secret:      {remote.webhook_secret}",
    ]
    if remote.control_token is not None:
        lines.append(f"# Control routes ask for:      Authorization: Bearer {remote.control_token}")
    if settings.allow_remote and settings.public_url is None and not is_loopback(settings.host):
        lines.append(
            "# Other machines cannot use these addresses: name the one they use, --public-url http://<name>:<port>"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _write_ready(path: Path, remote: RemoteSandbox) -> None:
    """Appear whole or not at all: a waiting process reads the file at once."""
    ready = {
        "api_url": remote.api_url,
        "public_url": remote.public_url,
        "media_url": remote.media_url,
        "api_key": remote.api_key,
        "webhook_secret": remote.webhook_secret,
        "control_token": remote.control_token,
        "pid": os.getpid(),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    # It holds the control token, which is for whoever started the sandbox.
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(ready))
    partial.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_diffio.sandbox",
        description="A local Diffio API: restores speech, signs webhooks, keeps a ledger, fails on demand.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=8788, help="port of the API; 0 is any free one")
    add("--media-port", type=int, default=0, help="port of uploads and downloads; 0 is any free one")
    add("--protocol", choices=PROTOCOLS, default="edge", help="how recordings are uploaded")
    add("--engine", choices=ENGINES, default="denoise", help="passthrough returns the upload as the result")
    add("--processing-seconds", type=float, default=5.0, help="how long a generation takes at least")
    add("--workers", type=int, default=1, help="recordings restored at a time")
    add("--data-dir", type=Path, help="where to keep files; a temporary folder if not given")
    add("--api-key", default=DEFAULT_API_KEY, help="the key to accept")
    add("--link-seconds", type=float, help="life of a download link; 6 h (edge) or 2 h if not given")
    add("--upload-seconds", type=float, default=24 * 3600.0, help="life of an upload token or address")
    add("--part-size", type=int, default=32 * 1024 * 1024, help="bytes of an upload part")
    add("--max-bytes", type=int, default=2 * 1024 * 1024 * 1024, help="largest upload")
    add("--webhook-secret", default=DEFAULT_WEBHOOK_SECRET, help="signs webhook deliveries")
    add("--webhook-url", action="append", default=[], help="address to tell of every generation")
    add(
        "--webhook-time-scale",
        type=float,
        default=0.01,
        help="shortens the 5 s, 5 min, 30 min ... of retries",
    )
    add("--accept-4-5", action="store_true", help="take diffio-4.5 models for their 4.6 successors")
    add("--allow-remote", action="store_true", help="listen on an address other machines can reach")
    add("--public-url", help="address of the API for other machines, such as http://sandbox:8788")
    add(
        "--public-media-url",
        help="the same for uploads and downloads; the host of --public-url with --media-port if not given",
    )
    add(
        "--control-token",
        nargs="?",
        const=_GENERATED,
        help="ask for this token on the page and the control routes, and let other machines use them; "
        "without a value one is made up and shown once",
    )
    add("--allow-private-http", action="store_true", help="take webhooks of plain http to private hosts")
    add("--quiet", action="store_true", help="log no requests")
    add("--sample", type=Path, metavar="PATH", help="write a noisy recording to this path, and exit")
    add("--ready-file", type=Path, help="JSON file to write once requests are served")
    return parser


if __name__ == "__main__":
    sys.exit(main())
