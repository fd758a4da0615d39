"""`python -m reconciler.sealer`: see `child`."""

import sys

from reconciler.sealer.child import main

sys.exit(main())
