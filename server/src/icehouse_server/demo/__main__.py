"""`python -m icehouse_server.demo stac|cogs`: one stand-in server."""

from icehouse_server.demo.serve import main

if __name__ == "__main__":
    main()
