"""Asks the app in the same container and prints its answer."""

import sys
from urllib.request import urlopen

with urlopen("http://127.0.0.1:8000" + sys.argv[1], timeout=5) as answer:
    print(answer.read().decode().strip())
