"""`python -m nncomplexity`, the same as the console script."""

import sys

from nncomplexity.cli import main

if __name__ == "__main__":
    sys.exit(main())
