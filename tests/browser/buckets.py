"""Buckets that a task finds at AWS by a proxy: what answers behind that is moto."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.s3 import s3_server

REGION = "eu-west-1"
SECRETS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}


@contextmanager
def buckets(recording: Path) -> Iterator[dict[str, Any]]:
    """Serve the buckets ``raw``, with ``interview.wav``, and ``restored``; yield the connection to them."""
    import boto3

    with s3_server() as url:
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
