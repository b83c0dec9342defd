"""Defaults that the connection's form names, too. Imports nothing."""

from __future__ import annotations

DEFAULT_MODEL = "diffio-4.6-flash"
DEFAULT_BASE_URL = "https://api.diffio.ai/v1"
DEFAULT_REQUEST_TIMEOUT = 60.0
DEFAULT_MAX_ATTEMPTS = 5
AUTH_HEADERS = ("Authorization", "X-Api-Key", "Xi-Api-Key")
