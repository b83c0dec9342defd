"""``make e2e-distributed``: 200 restorations on CeleryExecutor, while a worker and a triggerer are killed.

One machine plays the cluster: PostgreSQL, Redis, an S3 server, the sandbox in Diffio's place, and Airflow
with two workers, two triggerers, scheduler, DAG processor and API server. Everything is made in
``.distributed/``, logs included, and every process is ended, whatever happens. Exit code 1 when a file is not
whole, was not billed exactly once, or was left half-written, when a task failed, or when a kill hit nobody at
work.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_provider_diffio.sandbox import SandboxProcess, start_sandbox_process
from tests.crash.crash_tests import make_recording
from tests.distributed.cluster import SLOTS, TRIGGERERS, WORKERS, Cluster
from tests.distributed.observer import Database, Observer
from tests.distributed.services import MissingServiceError, Services
from tests.distributed.verdict import Kill, Outcome
from tests.e2e.command import alone, end_like_ctrl_c

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".distributed"
PICTURE = FOLDER / "timeline.png"
DAG_ID = "distributed_restore"
TASK_ID = "restore"
BUCKET = "recordings"

MIB = 2**20
SHORT_BYTES = MIB // 2 + 321
#: Every tenth recording: several parts on the way to Diffio, and on the way into the bucket.
LONG_BYTES = 9 * MIB + 321
PART_BYTES = 4 * MIB

FEWEST = 8
#: A supervisor's delay before it starts a killed member again.
RESTART_SECONDS = 5.0
PATIENCE_SECONDS = 3600.0
RECOVERY_SECONDS = 120.0


class NotAsPromisedError(AssertionError):
    """Something does not hold."""


@dataclass(frozen=True)
class Death:
    """A kill, before it is known how it was got over."""

    member: str
    at: float
    when: datetime
    held: Sequence[int]
    recovered: Sequence[float] = ()


class DistributedRun:
    """The run's steps, in order."""

    def __init__(self, files: int, processing_seconds: float) -> None:
        self._names = [f"recording-{number:03}.wav" for number in range(files)]
        self._processing_seconds = processing_seconds
        self._started = time.monotonic()
        self._services = Services(FOLDER / "services")
        self._database = Database(self._services.database)

    def run(self) -> None:
        """Do it all, or raise."""
        with self._services, self._sandbox() as sandbox:
            self._say("PostgreSQL, Redis, S3 and the sandbox are up")
            self._fill_bucket()
            dags = Path(__file__).parent / "dags"
            env = self._environment(sandbox)
            with Cluster(FOLDER / "airflow", dags, self._services, env) as cluster:
                self._say(f"Airflow {cluster.version} is up: {', '.join(cluster.components)}")
                outcome = self._restore(cluster, sandbox)
        self._conclude(outcome)

    def _restore(self, cluster: Cluster, sandbox: SandboxProcess) -> Outcome:
        run_id = cluster.trigger(DAG_ID)
        count = len(self._names)
        self._say(f"the run begins: {count} recordings, {len(WORKERS)} workers with {SLOTS} slots each")
        with Observer(self._database, DAG_ID) as observer:
            worker = self._kill_worker(cluster, observer)
            triggerer = self._kill_triggerer(cluster, observer)
            state = cluster.wait_run(DAG_ID, run_id, timeout=PATIENCE_SECONDS)
            wall_seconds = observer.now()
        observer.latest()
        self._say(f"the run ended: {state}")
        tasks = sorted(cluster.task_instances(DAG_ID, run_id), key=lambda task: task.map_index)
        again = [tasks[index].started for index in worker.held]
        values = [
            cluster.xcom(DAG_ID, run_id, TASK_ID, map_index=task.map_index)
            for task in tasks
        ]  # fmt: skip
        ledger = sandbox.ledger()
        contents = self._contents()
        return Outcome(
            names=self._names,
            run_state=state,
            states=[task.state for task in tasks],
            tries=[task.try_number for task in tasks],
            deferrals=self._database.events(DAG_ID).get("deferred", 0),
            bought=_bought(ledger),
            whole=[
                name
                for name, value in zip(self._names, values, strict=True)
                if value and _is_whole(contents.get(name), value, sandbox)
            ],
            found=sorted(contents),
            unfinished=self._unfinished(),
            open_uploads=[project["fileName"] for project in ledger["projects"] if project["openUploads"]],
            worker=Kill(
                worker.member,
                worker.at,
                worker.held,
                [(started - worker.when).total_seconds() for started in again if started],
            ),
            triggerer=Kill(triggerer.member, triggerer.at, triggerer.held, triggerer.recovered),
            samples=observer.samples,
            wall_seconds=wall_seconds,
            slots=len(WORKERS) * SLOTS,
        )

    # Killing

    def _kill_worker(self, cluster: Cluster, observer: Observer) -> Death:
        """Kill a worker in the midst of its tasks, when some tasks wait already."""
        name = WORKERS[0]
        count = len(self._names)

        def at_work() -> bool:
            sample = observer.latest()
            if not self._is_ripe(sample.states, count // 5):
                return False
            pids = cluster.pids(name)
            running = self._database.running_on(DAG_ID, name)
            return sum(pid in pids for pid in running.values()) >= SLOTS // 2

        self._wait(cluster, observer, at_work)
        at, when = observer.now(), datetime.now(UTC)
        cluster.kill_member(name)
        held = list(self._database.running_on(DAG_ID, name))
        self._say(f"SIGKILL to {name}, which ran {len(held)} tasks: {held}")
        time.sleep(RESTART_SECONDS)
        cluster.start_again(name)
        return Death(name, at, when, held)

    def _kill_triggerer(self, cluster: Cluster, observer: Observer) -> Death:
        """Kill the triggerer on which most tasks wait, some time after the worker."""
        count = len(self._names)

        def at_work() -> bool:
            sample = observer.latest()
            most = max(sample.waiting.values(), default=0)
            return self._is_ripe(sample.states, count // 2) and most >= max(count // 20, 1)

        self._wait(cluster, observer, at_work)
        waiting = observer.latest().waiting
        name = max(TRIGGERERS, key=lambda each: waiting.get(each, 0))
        job = self._database.newest_job(name)
        at, when = observer.now(), datetime.now(UTC)
        cluster.kill_member(name)
        held = self._database.waiting_on(DAG_ID, job)
        self._say(f"SIGKILL to {name}, on which {len(held)} tasks waited")
        recovered: list[float] = []
        left = set(held)
        restarted = False
        while left and (elapsed := observer.now() - at) < RECOVERY_SECONDS:
            if not restarted and elapsed > RESTART_SECONDS:
                cluster.start_again(name)
                restarted = True
            here = set(self._database.waiting_on(DAG_ID, job))
            recovered += [elapsed] * len(left - here)
            left &= here
            time.sleep(0.25)
        if not restarted:
            cluster.start_again(name)
        return Death(name, at, when, held, recovered)

    @staticmethod
    def _is_ripe(states: dict[str, int] | Any, enough: int) -> bool:
        """Whether that many tasks have at least come to wait."""
        return states.get("deferred", 0) + states.get("success", 0) >= max(enough, 1)

    def _wait(self, cluster: Cluster, observer: Observer, ripe: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ripe():
            states = observer.latest().states
            if states and set(states) <= {"success", "failed"}:
                raise NotAsPromisedError(f"everything was over before all kills: {dict(states)}")
            if time.monotonic() > deadline:
                raise NotAsPromisedError(f"nobody to kill was at work: {dict(states)}")
            cluster.check()
            time.sleep(0.2)

    # Around it

    @contextlib.contextmanager
    def _sandbox(self) -> Iterator[SandboxProcess]:
        with start_sandbox_process(
            engine="passthrough",
            processing_seconds=self._processing_seconds,
            part_size=PART_BYTES,
            workers=len(self._names),
        ) as sandbox:
            yield sandbox

    def _environment(self, sandbox: SandboxProcess) -> dict[str, str]:
        store = {
            "conn_type": "aws",
            "login": "testing",
            "password": "testing",
            "extra": {"endpoint_url": self._services.s3_url, "region_name": "us-east-1"},
        }
        return {
            "AIRFLOW_CONN_DIFFIO_DEFAULT": json.dumps(sandbox.connection),
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(store),
            "DIFFIO_DISTRIBUTED_NAMES": json.dumps(self._names),
            "DIFFIO_DISTRIBUTED_BUCKET": f"s3://aws_default@{BUCKET}",
            "PYTHONPATH": str(ROOT),
        }

    def _store(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self._services.s3_url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def _fill_bucket(self) -> None:
        store = self._store()
        store.create_bucket(Bucket=BUCKET)
        draft = FOLDER / "draft"
        draft.mkdir()
        for number, name in enumerate(self._names):
            make_recording(draft / name, SHORT_BYTES if number % 10 else LONG_BYTES)
            store.put_object(Bucket=BUCKET, Key=f"raw/{name}", Body=(draft / name).read_bytes())
            (draft / name).unlink()

    def _contents(self) -> dict[str, bytes]:
        """What is at the destination, by name."""
        store = self._store()
        pages = store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="restored/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {
            key.removeprefix("restored/"): store.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            for key in keys
        }

    def _unfinished(self) -> list[str]:
        uploads = self._store().list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return [upload["Key"].removeprefix("restored/") for upload in uploads]

    def _conclude(self, outcome: Outcome) -> None:
        """Draw, print and judge."""
        from tests.distributed import picture

        picture.draw(outcome.samples, [outcome.worker, outcome.triggerer], SLOTS, PICTURE)
        rows = [
            *outcome.rows(),
            ("picture", str(PICTURE.relative_to(ROOT))),
            ("command", f"{time.monotonic() - self._started:.0f} s"),
        ]
        print()
        for name, value in rows:
            print(f"{name:<16}{value}")
        if problems := outcome.problems():
            raise NotAsPromisedError("\n".join(problems))
        print("\nPAID ONCE, LOST NOTHING")

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)


def _bought(ledger: dict[str, Any]) -> Counter[str]:
    """Billed generations by recording."""
    names = {project["apiProjectId"]: project["fileName"] for project in ledger["projects"]}
    return Counter(names[generation["apiProjectId"]] for generation in ledger["generations"])


def _is_whole(content: bytes | None, value: dict[str, Any], sandbox: SandboxProcess) -> bool:
    """Whether a file holds what Diffio made, and is what the task said it wrote."""
    if content is None or content != sandbox.result_bytes(value["generation_id"]):
        return False
    return (len(content), hashlib.sha256(content).hexdigest()) == (value["size_bytes"], value["sha256"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="make e2e-distributed", description=(__doc__ or "").strip())
    parser.add_argument("--files", type=int, default=200, help="recordings to restore (default 200)")
    parser.add_argument(
        "--processing-seconds", type=float, default=60.0, help="how long Diffio takes for one (default 60)"
    )
    options = parser.parse_args(arguments)
    if options.files < FEWEST:
        parser.error(f"--files: at least {FEWEST}, or nobody is at work when the kills come")
    end_like_ctrl_c()
    try:
        with alone(FOLDER):
            DistributedRun(options.files, options.processing_seconds).run()
    except KeyboardInterrupt:
        print("\nInterrupted; everything was stopped.", file=sys.stderr)
        return 130
    except MissingServiceError as error:
        print(error, file=sys.stderr)
        return 2
    except Exception as error:
        print(f"\nNOT AS PROMISED: {error}\nLogs are in {FOLDER.name}/.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
