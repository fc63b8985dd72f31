"""`python -m boneage`: the command line."""

from boneage.cli.main import main

if __name__ == "__main__":
    main()
