"""`python -m icehouse_server.testing stac|cogs|earth-stac|earth-cogs|ee`: one stand-in server."""

from icehouse_server.testing.serve import main

if __name__ == "__main__":
    main()
