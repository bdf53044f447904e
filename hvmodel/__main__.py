"""``python -m hvmodel``."""

import sys

from hvmodel.cli import main

sys.exit(main())
