"""
Write to a place again and again, in a process that is killed at a random moment each time.

usage: python killed.py URI CONN_ID TIMES SECONDS SEED

It prints "N killed" or "N done" for each. The Nth content is the byte N % 256, 3 MiB long.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

SIZE = 3 * 2**20


def content(number: int) -> bytes:
    """What the writer with a number writes."""
    return bytes([number % 256]) * SIZE


def main() -> None:
    """Fork a writer, kill it, and say so."""
    uri, conn_id, times, seconds, seed = sys.argv[1:]
    # All that takes time is imported here, so that the kills hit the writing.
    from airflow_provider_diffio.storage import resolve

    resolve(f"{uri}-warm", conn_id=conn_id or None, connect=False)
    for module in ("airflow.providers.sftp.fs.sftp", "airflow.providers.amazon.aws.fs.s3", "airflow.sdk.io"):
        __import__(module)
    dice = random.Random(int(seed))  # noqa: S311
    for number in range(1, int(times) + 1):
        child = os.fork()
        if child == 0:
            try:
                with resolve(uri, conn_id=conn_id or None).writer() as writer:
                    for _ in range(3):
                        writer.write(content(number)[: 2**20])
            finally:
                os._exit(0)
        time.sleep(dice.random() * float(seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(number, "killed" if os.WIFSIGNALED(status) else "done", flush=True)


if __name__ == "__main__":
    main()
