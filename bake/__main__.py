"""`python -m bake` is the same as `bake`."""

from bake.cli.main import main

if __name__ == "__main__":
    main()
