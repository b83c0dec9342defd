"""What a store was told of a file's media type counts where the file's name says nothing of the kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.storage import Location, resolve

TEXT = b"# Title\n\nNot a word is spoken here.\n"


@pytest.mark.parametrize("name", ["README.md", "README"])
@pytest.mark.parametrize("stored", ["audio/x-wav", "video/mp4; codecs=avc1"])
def test_a_recording_by_the_stores_word_is_taken(
    s3_root: Location, s3_client: Any, bucket: str, name: str, stored: str
) -> None:
    location = s3_root.child(name)
    s3_client.put_object(
        Bucket=bucket, Key=location.uri.partition(f"{bucket}/")[2], Body=TEXT, ContentType=stored
    )
    assert location.media_type() == stored
    assert DiffioHook().prepare_upload(location).content_type == stored


@pytest.mark.parametrize("stored", ["text/markdown", "application/octet-stream", "binary/octet-stream"])
def test_a_text_by_name_and_content_is_refused(
    s3_root: Location, s3_client: Any, bucket: str, stored: str
) -> None:
    for name in ("README.md", "README"):
        key = s3_root.child(name).uri.partition(f"{bucket}/")[2]
        s3_client.put_object(Bucket=bucket, Key=key, Body=TEXT, ContentType=stored)
    with pytest.raises(DiffioInputError, match="is no recording"):
        DiffioHook().prepare_upload(s3_root.child("README.md"))
    upload = DiffioHook().prepare_upload(s3_root.child("README"))
    assert upload.content_type == "application/octet-stream"


def test_a_disk_was_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(b"x")
    assert resolve(str(tmp_path / "talk.wav")).media_type() is None
