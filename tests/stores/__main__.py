"""
Run the tests of ``make stores``, or those that the arguments for pytest name.

The sandbox's odd recordings belong to them: their programs are installed together with the servers.
"""

from __future__ import annotations

import sys

import pytest

TESTS = ("tests/stores", "tests/sandbox/test_media_of_programs.py", "tests/sandbox/test_odd_media.py")

if __name__ == "__main__":
    arguments = sys.argv[1:]
    selected = [argument for argument in arguments if argument.startswith("tests/")]
    sys.exit(pytest.main([*arguments, *(() if selected else TESTS)]))
