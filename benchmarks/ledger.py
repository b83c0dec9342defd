"""
Many finished records in a ledger, and a few new recordings: what deciding costs.

``python -m benchmarks.ledger [RECORDS] [local] [s3]`` prints seconds, this process's CPU seconds, and the
requests that the store was sent, by kind. Of S3, moto stands in, in a process of its own; its index is filled
from within, since a hundred thousand uploads would take it minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from airflow_provider_diffio.ledger.names import DONE, Hint
from airflow_provider_diffio.steps.ledger import Ledger, LedgerIndex, LedgerRequest, Place, Target

REQUEST = LedgerRequest(base_url="https://api.diffio.example/v1", model="diffio-4.6-flash")
NEW = 50
BUCKET = "bench"

_SERVER = """
import sys, time
from moto.server import ThreadedMotoServer
from moto.s3.models import s3_backends
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
backend = s3_backends["123456789012"]["aws"]
backend.create_bucket("bench", "us-east-1")
for line in sys.stdin:
    name = line.strip()
    if name == "END":
        break
    backend.put_object("bench", name, b"{}")
print("http://%s:%s" % server.get_host_and_port(), flush=True)
time.sleep(3600)
"""


def place(number: int) -> Place:
    """Return one of the recordings."""
    return Place(f"s3://raw/{number}.wav", 1000 + number % 7, f"etag={number}")


def target(number: int) -> Target:
    """Return its restored file."""
    return Target.of(f"s3://restored/{number}.mp3", "audio")


def done_names(records: int) -> list[str]:
    """Return the names of so many finished recordings."""
    return [
        Hint(
            place(number).key(REQUEST),
            place(number).version_key,
            place(number).size_bytes,
            f"{number:032x}",
            REQUEST.key,
            REQUEST.revision_key,
            target(number).key,
        ).name
        for number in range(records)
    ]


def decide(ledger: Ledger, records: int) -> Counter[str]:
    """Decide for all recordings, of which so many are finished and some are new."""
    index: LedgerIndex = ledger.index()
    return Counter(
        index.find(place(number), REQUEST, target(number)).status for number in range(records + NEW)
    )


def measure(name: str, ledger: Ledger, records: int, requests: Counter[str]) -> None:
    """Print what deciding takes."""
    requests.clear()
    began, cpu = time.monotonic(), time.process_time()
    statuses = decide(ledger, records)
    print(
        f"{name}: {records:,} finished, {statuses['new']} new: {time.monotonic() - began:.1f} s,"
        f" {time.process_time() - cpu:.1f} s of own CPU, requests {dict(requests) or '-'}, {dict(statuses)}",
        flush=True,
    )


def on_disk(records: int) -> None:
    """Measure on this machine's disk."""
    from airflow_provider_diffio.storage import resolve
    from airflow_provider_diffio.storage.objects import LocalObjects

    with tempfile.TemporaryDirectory() as directory:
        ledger = Ledger.open(resolve(f"{directory}/"))
        for name in done_names(records):
            path = Path(directory, DONE, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        opened: Counter[str] = Counter()
        read = LocalObjects._read

        def reading(self: Any, name: str) -> bytes | None:
            opened["opened"] += 1
            return read(self, name)

        LocalObjects._read = reading  # type: ignore[method-assign]
        measure("disk", ledger, records, opened)


def on_s3(records: int) -> None:
    """Measure on a server of S3's protocol."""
    import s3fs  # type: ignore[import-untyped]

    from airflow_provider_diffio.storage.filesystems import FixedStore
    from airflow_provider_diffio.storage.remote import RemoteLocation

    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdin
        assert server.stdout
        for name in done_names(records):
            server.stdin.write(f"ledger/{DONE}/{name}\n")
        server.stdin.write("END\n")
        server.stdin.flush()
        endpoint = server.stdout.readline().strip()
        fs = s3fs.S3FileSystem(key="test", secret="test", client_kwargs={"endpoint_url": endpoint})  # noqa: S106
        requests: Counter[str] = Counter()
        fs.connect()
        fs.s3.meta.events.register("before-send.s3", lambda request, **_: requests.update([request.method]))
        location = RemoteLocation(f"s3://{BUCKET}/ledger/", True, f"{BUCKET}/ledger", FixedStore(fs))
        measure("s3", Ledger.open(location), records, requests)
    finally:
        server.kill()


def main() -> None:
    """Measure what is asked for."""
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for kind in sys.argv[2:] or ["local", "s3"]:
        {"local": on_disk, "s3": on_s3}[kind](records)


if __name__ == "__main__":
    main()
