"""``python -m gahb``."""

from gahb.companion.cli import main

if __name__ == "__main__":
    main()
