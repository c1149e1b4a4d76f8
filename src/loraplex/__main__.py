"""`python -m loraplex` is the command line."""

from loraplex.platform.cli.main import main

if __name__ == "__main__":
    main()
