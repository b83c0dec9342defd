"""A process that restores recordings: a job per line on standard input, a result per line on standard
output. Ends when its input does, so it cannot outlive the sandbox.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve jobs until there are no more."""
    # Ctrl-C reaches the whole process group; the sandbox ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    # Whatever a decoder has to say must not get in between the results.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        job = json.loads(line)
        results.write(json.dumps(run(Path(job["source"]), Path(job["folder"]))) + "\n")
        results.flush()


def run(source: Path, folder: Path) -> dict[str, Any]:
    """The files a recording was restored to, or why it could not be."""
    try:
        return restore(source, folder)
    except ImportError as error:
        return {
            "error": "Restoration needs the sandbox extra: pip install 'airflow-provider-diffio[sandbox]'.",
            "details": str(error),
        }
    except Exception as error:
        return {
            "error": "The recording could not be restored.",
            "details": f"{type(error).__name__}: {error}",
        }


def restore(source: Path, folder: Path) -> dict[str, Any]:
    """Decode, clean, write."""
    from airflow_provider_diffio.sandbox.audio import (
        Mp3Writer,
        UnreadableError,
        decode,
        has_picture,
        replace_sound,
    )
    from airflow_provider_diffio.sandbox.denoise import clean
    from airflow_provider_diffio.sandbox.speech import listen, transcript

    working = folder / "working.w64"
    files = {"audio": folder / "restored.mp3", "transcript": folder / "word_timestamps.json"}
    try:
        recording = decode(source, working)
        activity = listen(recording)
        writer = Mp3Writer(files["audio"], recording.rate, recording.channels)
        try:
            for block in clean(recording, activity):
                writer.write(block / max(1.0, recording.peak))
        finally:
            writer.close()
    except UnreadableError as error:
        return {"error": "The recording could not be decoded.", "details": str(error)}
    finally:
        working.unlink(missing_ok=True)
    files["transcript"].write_text(json.dumps(transcript(activity), indent=1))
    result: dict[str, Any] = {"duration": recording.seconds, "hasVideo": has_picture(source)}
    if result["hasVideo"]:
        try:
            replace_sound(source, files["audio"], folder / "restored.mp4")
            files["video"] = folder / "restored.mp4"
        except UnreadableError as error:
            # The sound is restored all the same.
            result["videoError"] = str(error)
    return {**result, "files": {name: str(path) for name, path in files.items()}}


if __name__ == "__main__":
    main()
