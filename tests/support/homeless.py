"""Takes the home folder from its process, as a container with an arbitrary user id has none.

`python -m support.homeless WORDS` then runs `icehouse WORDS`.
"""

from __future__ import annotations

import os
import pwd


def _unknown(uid: int) -> pwd.struct_passwd:
    raise KeyError(uid)


pwd.getpwuid = _unknown
for name in [name for name in os.environ if name == "HOME" or name.startswith("XDG_")]:
    del os.environ[name]

if __name__ == "__main__":
    from icehouse_server.cli import main

    main()
