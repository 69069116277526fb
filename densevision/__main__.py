"""`python -m densevision` is the command line."""

from densevision.cli.main import run

if __name__ == "__main__":
    run()
