"""``make powercut``."""

import sys

from tests.powercut.check import main

sys.exit(main())
