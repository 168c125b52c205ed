"""`python -m bake` is the same as `bake`."""

from bake.cli import main

if __name__ == "__main__":
    main()
