"""Sends the same random commands to Tercel and to a peer and compares the replies byte by byte.

    python3 scripts/differential --ours target/release/tercel-server --peer .../valkey-server --seconds 600

Starts both on free loopback ports. A round is a few clients in RESP2 and RESP3 that share a handful
of keys and channels; its number is its seed, so `--round N` repeats it alone. Commands come from the
templates below, a quarter of them spoilt: words missing, doubled, swapped or replaced. Where a reply
depends on time or on a table's order, what may differ is taken out first; what a server says of
itself is listed in KNOWN with the reason. Ends with status 1 if anything else differed. Needs only
Python's standard library.
"""

import argparse
import sys
import time

from rounds import Differ
from servers import Server

def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ours", default="target/release/tercel-server")
    options.add_argument("--peer", required=True)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--steps", type=int, default=200, help="commands a round")
    options.add_argument("--first", type=int, default=1, help="number of the first round")
    options.add_argument("--round", type=int, help="only this one, with every command shown")
    options.add_argument("--our-options", default="", help="more options for our server")
    given = options.parse_args()
    servers = [Server(given.ours, given.our_options.split()), Server(given.peer, ["--loglevel", "warning"])]
    differ = Differ(servers, given.round is not None)
    number = given.round if given.round is not None else given.first
    end = time.monotonic() + given.seconds
    try:
        while True:
            differ.round(number, given.steps)
            for at in range(3):
                differ.frames(number * 3 + at)
            for server in servers:
                if server.process.poll() is not None:
                    sys.exit(f"a server ended in round {number}")
            number += 1
            if given.round is not None or time.monotonic() > end:
                break
    finally:
        for server in servers:
            server.end()
    print(f"\n{differ.commands} commands in {number - (given.round or given.first)} rounds")
    for reason, count in sorted(differ.excused.items()):
        print(f"{count:6} excused: {reason}")
    for _, (count, first) in sorted(differ.found.items(), key=lambda item: -item[1][0]):
        print(f"{count:6} times: {first}")
    sys.exit(1 if differ.found else 0)


if __name__ == "__main__":
    main()
