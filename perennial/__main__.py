"""`python -m perennial`: the command line of the interpreter that is named."""

from perennial.cli import main

if __name__ == "__main__":
    main()
