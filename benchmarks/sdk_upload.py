"""
One upload by the official SDK; runs in an environment that has nothing else.

Usage: ``python sdk_upload.py ADDRESS_OF_THE_API RECORDING``. Prints the seconds it took.
"""

from __future__ import annotations

import sys
import time

from diffio import DiffioClient  # type: ignore[import-not-found, unused-ignore]

if __name__ == "__main__":
    with DiffioClient(apiKey="diffio_live_benchmark", baseUrl=sys.argv[1]) as client:
        began = time.perf_counter()
        client.create_project(filePath=sys.argv[2])
        print(time.perf_counter() - began)
