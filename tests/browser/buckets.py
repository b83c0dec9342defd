"""Buckets that a task finds at AWS by a proxy: what answers behind that is moto."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REGION = "eu-west-1"
SECRETS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@contextmanager
def buckets(recording: Path) -> Iterator[dict[str, Any]]:
    """Serve the buckets ``raw``, with ``interview.wav``, and ``restored``; yield the connection to them."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        client = boto3.client("s3", endpoint_url=url, region_name=REGION, **SECRETS)
        for name in ("raw", "restored"):
            client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        client.upload_file(str(recording), "raw", "interview.wav")
        extra = {
            "region_name": REGION,
            "endpoint_url": f"http://s3.{REGION}.amazonaws.com",
            "service_config": {"s3": {"proxy-uri": url}},
        }
        yield {"conn_type": "aws", "login": "testing", "password": "testing", "extra": extra}
    finally:
        server.stop()
