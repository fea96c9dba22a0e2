"""`python -m proxy` is `pictor`."""

import sys

from proxy.cli import main

sys.exit(main())
