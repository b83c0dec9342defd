"""
Many triggers of one kind on one event loop, in a process of their own, and what they cost it.

Started as ``python -m benchmarks.waiters JSON`` in the environment that holds the peers' packages.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
#: Seconds between two measurements of the loop's lag; memory is measured at every tenth.
TICK = 0.01


@dataclass(frozen=True)
class Task:
    """
    What to run.

    :ivar kind: ``diffio``, ``session``, ``databricks`` or ``dbt``.
    :ivar count: triggers at once.
    :ivar interval: seconds between the polls of each.
    """

    kind: str
    count: int
    interval: float
    polls: int
    port: int
    ca: str


@dataclass(frozen=True)
class Cost:
    """What it cost, from the first trigger's start to the last one's end."""

    polls: int
    connections: int
    cpu_seconds: float
    wall_seconds: float
    grown_mib: float
    lag_p99_ms: float
    lag_worst_ms: float


Start = Callable[[int], Awaitable[Any]]


async def measure(task: Task) -> Cost:
    """Run one trigger to warm up, then all of them under observation."""
    start = await KINDS[task.kind](task)
    await start(0)
    before = await _stats(task)
    gc.collect()
    memory, lags = [_resident()], [0.0]
    cpu, wall = time.process_time(), time.perf_counter()
    watch = asyncio.ensure_future(_watch(lags, memory))
    await asyncio.gather(*(start(number) for number in range(1, task.count + 1)))
    watch.cancel()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    after = await _stats(task)
    lags.sort()
    return Cost(
        polls=after["requests"] - before["requests"],
        # One of them is the connection of this question.
        connections=after["connections"] - before["connections"] - 1,
        cpu_seconds=cpu,
        wall_seconds=wall,
        grown_mib=(max(memory) - memory[0]) / MIB,
        lag_p99_ms=1000 * lags[int(0.99 * (len(lags) - 1))],
        lag_worst_ms=1000 * lags[-1],
    )


async def _watch(lags: list[float], memory: list[int]) -> None:
    while True:
        expected = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        lags.append(max(0.0, time.perf_counter() - expected))
        if len(lags) % 10 == 0:
            memory.append(_resident())


async def _stats(task: Task) -> dict[str, int]:
    import ssl

    tls = ssl.create_default_context(cafile=task.ca)
    reader, writer = await asyncio.open_connection("localhost", task.port, ssl=tls)
    writer.write(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    response: dict[str, int] = json.loads(await reader.readexactly(length))
    writer.close()
    return response


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _diffio(task: Task) -> Start:
    from airflow_provider_diffio.triggers import DiffioGenerationTrigger

    os.environ["AIRFLOW_CONN_DIFFIO_DEFAULT"] = json.dumps(
        {
            "conn_type": "diffio",
            "host": f"https://localhost:{task.port}",
            "password": "diffio_live_benchmark",
            "extra": {"verify": task.ca},
        }
    )

    async def start(number: int) -> Any:
        now = time.time()
        trigger = DiffioGenerationTrigger(
            generation_id=f"generation-{number}",
            project_id="project",
            started_at=now,
            deadline=now + 86400,
            poll_interval=0.1 if number == 0 else task.interval,
            max_poll_interval=0.1 if number == 0 else task.interval,
        )
        return await anext(trigger.run())

    return start


async def _session(task: Task) -> Start:
    """The limit: one session, the same requests at the same times, and nothing done with the responses."""
    import ssl

    import aiohttp

    # A triggerer has Airflow loaded too, and Python's garbage collector scans all of it.
    import_module("airflow.triggers.base")
    import_module("airflow.providers.common.compat.sdk").BaseHook  # noqa: B018 - loads what hooks load
    tls = ssl.create_default_context(cafile=task.ca)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=16, keepalive_timeout=75))
    headers = {"Authorization": "Bearer diffio_live_benchmark"}
    url = f"https://localhost:{task.port}/v1/get_generation_progress"
    lined_up = 0

    async def start(number: int) -> Any:
        nonlocal lined_up
        lined_up += 1
        interval = 0.1 if number == 0 else task.interval
        await asyncio.sleep(max(interval * random.uniform(1, 1.1), lined_up * 0.01))  # noqa: S311 - no secret
        while True:
            asked = {"generationId": f"generation-{number}", "apiProjectId": "project"}
            async with session.post(url, json=asked, headers=headers) as response:
                progress = await response.json()
            if progress["status"] == "complete":
                return progress
            await asyncio.sleep(interval * random.uniform(0.9, 1.1))  # noqa: S311 - no secret

    return start


async def _databricks(task: Task) -> Start:
    from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger

    # The scheme's port belongs to the host there.
    os.environ["AIRFLOW_CONN_DATABRICKS_DEFAULT"] = json.dumps(
        {"conn_type": "databricks", "host": "localhost", "port": task.port, "password": "token"}
    )

    async def start(number: int) -> Any:
        trigger = DatabricksExecutionTrigger(
            run_id=number + 1,
            databricks_conn_id="databricks_default",
            polling_period_seconds=0.1 if number == 0 else task.interval,
        )
        return await anext(trigger.run())

    return start


async def _dbt(task: Task) -> Start:
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    os.environ["AIRFLOW_CONN_DBT_CLOUD_DEFAULT"] = json.dumps(
        {"conn_type": "dbt_cloud", "host": f"localhost:{task.port}", "login": "1", "password": "token"}
    )

    async def start(number: int) -> Any:
        trigger = DbtCloudRunJobTrigger(
            conn_id="dbt_cloud_default",
            run_id=number + 1,
            end_time=time.time() + 86400,
            poll_interval=0.1 if number == 0 else task.interval,
            account_id=1,
        )
        return await anext(trigger.run())

    return start


KINDS: dict[str, Callable[[Task], Awaitable[Start]]] = {
    "diffio": _diffio,
    "session": _session,
    "databricks": _databricks,
    "dbt": _dbt,
}

if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(measure(Task(**json.loads(sys.argv[1])))))))
