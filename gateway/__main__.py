"""``python -m gateway``: the same as ``ward-gateway``."""

import sys

from gateway.cli import main

sys.exit(main())
