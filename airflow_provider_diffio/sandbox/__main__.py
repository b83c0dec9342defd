"""``python -m airflow_provider_diffio.sandbox``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .remote import RemoteSandbox
from .settings import (
    DEFAULT_API_KEY,
    DEFAULT_WEBHOOK_SECRET,
    ENGINES,
    PROTOCOLS,
    Settings,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    parser = _parser()
    options = parser.parse_args(arguments)
    fields = vars(options)
    ready_file = fields.pop("ready_file")
    webhook_urls = fields.pop("webhook_url")
    try:
        settings = Settings(**fields)
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(settings, ready_file, webhook_urls))
    except OSError as error:
        sys.stderr.write(f"The sandbox cannot listen: {error}\n")
        return 1
    return 0


async def _serve(settings: Settings, ready_file: Path | None, webhook_urls: Sequence[str]) -> None:
    from .server import Server

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = Server(settings)
    try:
        await server.start()
        for url in webhook_urls:
            server.add_webhook(url)
        remote = RemoteSandbox(server.api_url, server.media_url, settings.api_key, settings.webhook_secret)
        _announce(remote, settings)
        if ready_file is not None:
            _write_ready(ready_file, remote)
        await stop.wait()
    finally:
        await server.stop()


def _announce(remote: RemoteSandbox, settings: Settings) -> None:
    connection = shlex.quote(json.dumps(remote.connection))
    lines = (
        f"export AIRFLOW_CONN_DIFFIO_DEFAULT={connection}",
        f"# API {remote.api_url}/v1 ({settings.protocol}), uploads and downloads {remote.media_url}",
        f"# What would have been billed: {remote.api_url}/sandbox/ledger",
        f"# Every request seen:          {remote.api_url}/sandbox/requests",
        f"# Webhook signing secret:      {remote.webhook_secret}",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _write_ready(path: Path, remote: RemoteSandbox) -> None:
    """Appear whole or not at all: a waiting process reads the file at once."""
    ready = {
        "api_url": remote.api_url,
        "media_url": remote.media_url,
        "api_key": remote.api_key,
        "webhook_secret": remote.webhook_secret,
        "pid": os.getpid(),
    }
    partial = path.with_name(f".{path.name}.{os.getpid()}")
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
    add("--ready-file", type=Path, help="JSON file to write once requests are served")
    return parser


if __name__ == "__main__":
    sys.exit(main())
