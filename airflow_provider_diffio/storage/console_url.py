"""The page of a file in its cloud's web console."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from airflow_provider_diffio.storage.location import Location


def console_url(location: Location) -> str | None:
    """
    Return the address of a file's page in its cloud's console.

    It follows from the host that the store's client sends its requests to: no cloud's console shows a bucket
    of MinIO or of an emulator. It holds bucket, key and region, and grants no access: whoever opens it has to
    log in.

    * S3 at AWS: the AWS console, also those of China and GovCloud.
    * Google Cloud Storage: the Google Cloud console.
    * Anything else: None. A browser cannot open a local path or ``sftp://``, and the Azure portal addresses
      a blob by subscription and resource group, which neither path nor connection holds.

    :param location: a connected location.
    """
    fs = getattr(location, "fs", None)
    scheme, _, rest = location.uri.partition("://")
    bucket, _, key = rest.partition("/")
    # The console has no page for the ARN of an access point.
    if fs is None or not key or location.is_directory_like or ":" in bucket:
        return None
    if scheme in ("s3", "s3a", "s3n"):
        return _at_amazon(fs, bucket, key)
    if scheme in ("gs", "gcs"):
        return _at_google(fs, bucket, key)
    return None


def _at_amazon(fs: Any, bucket: str, key: str) -> str | None:
    meta = fs.s3.meta
    host, region = f".{urlsplit(meta.endpoint_url).hostname}", str(meta.region_name or "")
    if host.endswith(".amazonaws.com.cn"):
        console = "console.amazonaws.cn"
    elif host.endswith(".amazonaws.com"):
        console = "console.amazonaws-us-gov.com" if region.startswith("us-gov-") else "console.aws.amazon.com"
    else:
        return None
    regional = {"region": region} if region and region != "aws-global" else {}
    query = urlencode({**regional, "prefix": key}, quote_via=quote, safe="")
    return f"https://{console}/s3/object/{bucket}?{query}"


def _at_google(fs: Any, bucket: str, key: str) -> str | None:
    if urlsplit(fs._location).hostname not in ("storage.googleapis.com", "storage.mtls.googleapis.com"):
        return None
    return f"https://console.cloud.google.com/storage/browser/_details/{bucket}/{quote(key)};tab=live_object"
