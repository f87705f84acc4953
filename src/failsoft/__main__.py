"""`python -m failsoft`: the command, where the script is not on the path."""

from failsoft.cli import main

if __name__ == "__main__":
    main()
