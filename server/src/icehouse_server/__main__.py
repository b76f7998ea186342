"""``python -m icehouse_server`` is the command ``icehouse``."""

from icehouse_server.cli import main

if __name__ == "__main__":
    main()
