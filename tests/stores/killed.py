"""
Write to a place again and again, in a process that is killed at a random moment each time.

usage: python killed.py URI CONN_ID TIMES SEED

It prints "N killed" or "N done" for each. The Nth content is the byte N % 256, 3 MiB long. The moments lie
within the time that the first writer takes, which is left in peace, and a little more.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

SIZE = 3 * 2**20
#: What a writer imports, by scheme.
MODULES = {
    "file": ("airflow.sdk.io",),
    "s3": ("airflow.sdk.io", "airflow.providers.amazon.aws.fs.s3", "s3fs"),
    "gs": ("airflow.sdk.io", "airflow.providers.google.cloud.fs.gcs", "gcsfs"),
    "abfs": (
        "airflow.sdk.io",
        "airflow.providers.microsoft.azure.fs.adls",
        "adlfs",
        "azure.storage.blob.aio",
    ),
    "sftp": ("airflow.sdk.io", "airflow.providers.sftp.fs.sftp", "sshfs"),
}


def content(number: int) -> bytes:
    """What the writer with a number writes."""
    return bytes([number % 256]) * SIZE


def main() -> None:
    """Fork a writer, kill it, and say so."""
    uri, conn_id, times, seed = sys.argv[1:]
    # All that takes time is imported here, so that the kills hit the writing.
    from airflow_provider_diffio.storage import resolve

    resolve(f"{uri}-warm", conn_id=conn_id or None, connect=False)
    for module in MODULES[uri.partition("://")[0] if "://" in uri else "file"]:
        __import__(module)
    dice = random.Random(int(seed))  # noqa: S311
    started = time.monotonic()
    os.waitpid(begin(uri, conn_id, 0), 0)
    longest = (time.monotonic() - started) * 1.1
    for number in range(1, int(times) + 1):
        child = begin(uri, conn_id, number)
        time.sleep(dice.random() * longest)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(number, "killed" if os.WIFSIGNALED(status) else "done", flush=True)


def begin(uri: str, conn_id: str, number: int) -> int:
    """Fork a writer."""
    from airflow_provider_diffio.storage import resolve

    child = os.fork()
    if child == 0:
        try:
            with resolve(uri, conn_id=conn_id or None).writer() as writer:
                for _ in range(3):
                    writer.write(content(number)[: 2**20])
        finally:
            os._exit(0)
    return child


if __name__ == "__main__":
    main()
