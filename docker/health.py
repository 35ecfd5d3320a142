"""The container's health check: status 0 where the service on this machine is ready.

Only the standard library, so that it takes a tenth of a second.
"""

import os
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Ask `/readyz`; what it answers is printed, for `docker inspect`."""
    address = f"http://127.0.0.1:{os.environ.get('ERC_PORT') or '8000'}/readyz"
    try:
        with urllib.request.urlopen(address, timeout=4) as answer:
            print(answer.read().decode())
            return 0
    except urllib.error.HTTPError as refusal:
        print(refusal.read().decode())
    except OSError as error:
        print(error)
    return 1


if __name__ == "__main__":
    sys.exit(main())
