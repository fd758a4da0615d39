"""`python -m reconciler.git.bounded`: see `child`."""

import sys

from reconciler.git.bounded.child import main

sys.exit(main())
