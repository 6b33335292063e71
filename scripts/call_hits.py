"""`call-hits` from a checkout; see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fatescreen.cli.call_hits import main

if __name__ == "__main__":
    main()
