"""``python -m enqueuer``: the program ``enqueuer``."""

from enqueuer.cli.main import main

if __name__ == "__main__":
    main(prog_name="enqueuer")
