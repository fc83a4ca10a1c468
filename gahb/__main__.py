"""``python -m gahb``."""

from gahb.cli import main

if __name__ == "__main__":
    main()
