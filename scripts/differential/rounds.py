"""Rounds of random commands and of random frames, and the book of what differed."""

import random
import re
import time

from commands import Generator
from replies import KNOWN, MONITOR, alike, client_lines, show
from servers import Client, wait

class Differ:
    def __init__(self, servers, verbose):
        self.servers, self.generator, self.found, self.excused, self.commands, self.verbose = servers, Generator(), {}, {}, 0, verbose

    def report(self, number, step, client, words, ours, peers):
        if len(words) > 1 and words[0].upper() == b"CLIENT" and words[1].upper() in (b"INFO", b"LIST") and ours[:1] == peers[:1] != b"-":
            ours, peers = (b" ".join(b"|".join(line.split(b" ")) for line in client_lines(text)) for text in (ours, peers))
            fields = [set(text.split(b"|")) for text in (ours, peers)]
            ours, peers = (b" ".join(sorted(fields[at] - fields[1 - at])) for at in range(2))
        line = b" ".join(words).decode("latin-1")
        key = f"{line}\n{show(ours)}\n{show(peers)}".replace("\0", "")
        for pattern, reason in KNOWN:
            if pattern.search(key):
                self.excused[reason] = self.excused.get(reason, 0) + 1
                return False
        # The same difference is told once: by command, and by the replies without their details.
        name = line.upper().split(" ")[0]
        signature = (name, re.sub(r"\d+", "#", show(ours))[:50], re.sub(r"\d+", "#", show(peers))[:50])
        count, first = self.found.get(signature, (0, None))
        if first is None:
            first = f"round {number} step {step} RESP{client.protocol}: {show(b' '.join(words))}\n    ours: {show(ours)}\n    peer: {show(peers)}"
            print(first, flush=True)
        self.found[signature] = (count + 1, first)
        return True

    def settle(self, number, step, clients, sender, words):
        """Waits until both servers have said the same; False at a difference."""
        answered = sender is None
        deadline = time.monotonic() + 3.0
        good = True
        in_exec = False
        while True:
            for client in clients:
                for ours, peers in client.split():
                    mine = client is sender
                    answered |= mine
                    about = words if mine else [b"(message)"]
                    if client.monitor:
                        ours, peers = MONITOR.sub(rb"+[\1]", ours), MONITOR.sub(rb"+[\1]", peers)
                        if b"\"time\"" in ours.lower():
                            continue
                    if not alike(about, ours, peers, in_exec):
                        good &= not self.report(number, step, client, about, ours, peers)
            if sender is not None and any(side.ended for side in sender.sides):
                answered = True
            rest = [client for client in clients if any(side.data for side in client.sides) or len({side.ended for side in client.sides}) > 1]
            if answered and not rest:
                return good
            if time.monotonic() > deadline:
                for client in rest or [sender]:
                    texts = [side.data + (b"<closed>" if side.ended else b"<open>") for side in client.sides]
                    self.report(number, step, client, words, *texts)
                return False
            wait(clients, 0.05)

    def round(self, number, steps):
        rng = random.Random(number)
        admin = Client(self.servers, 2)
        clients = []
        guarded = rng.random() < 0.1
        for words in [[b"FLUSHALL"], [b"CLIENT", b"UNPAUSE"], [b"CONFIG", b"SET", b"slowlog-log-slower-than", b"-1"], [b"SLOWLOG", b"RESET"], [b"CONFIG", b"SET", b"requirepass", b"sesame" if guarded else b""]]:
            admin.send(words)
            self.settle(number, 0, [admin], admin, words)
        for at in range(4):
            clients.append(Client(self.servers, 2 + (at + number) % 2))
        everything = clients[3]
        for client in clients:
            client.send([b"HELLO", b"%d" % client.protocol])
            self.settle(number, 0, clients, client, [b"HELLO"])
        events = rng.random() < 0.5
        setup = [(clients[0], [b"CONFIG", b"SET", b"notify-keyspace-events", b"KEA" if events else b""]),
                 (clients[0], [b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lfu" if rng.random() < 0.2 else b"noeviction"])]
        if events:
            setup.append((everything, [b"PSUBSCRIBE", b"__key*"]))
        elif rng.random() < 0.2:
            everything.monitor = True
            setup.append((everything, [b"MONITOR"]))
        for client, words in setup:
            client.send(words)
            self.settle(number, 0, clients, client, words)
        for step in range(1, steps + 1):
            client = rng.choice(clients[:3])
            words = self.generator.command(rng)
            if self.leave_out(client, words):
                continue
            self.commands += 1
            if self.verbose:
                print(f"  {step} {clients.index(client)}: {show(b' '.join(words))}", flush=True)
            client.send(words)
            good = self.settle(number, step, clients, client, words)
            name = words[0].upper()
            if name == b"MULTI":
                client.queued = True
            elif name in (b"EXEC", b"DISCARD", b"RESET", b"QUIT"):
                client.queued = False
            if not good:
                break
            for at, one in enumerate(clients[:3]):
                if one.sides[0].ended:
                    one.close()
                    clients[at] = Client(self.servers, one.protocol)
                    clients[at].send([b"HELLO", b"%d" % one.protocol])
                    self.settle(number, step, clients, clients[at], [b"HELLO"])
        for words in [[b"AUTH", b"sesame"], [b"CONFIG", b"SET", b"requirepass", b""]]:
            admin.send(words)
            self.settle(number, steps, [admin], admin, words)
        for client in [admin, *clients]:
            client.close()

    @staticmethod
    def leave_out(client, words):
        """What would end, stop or stall a server, or answers by a table's order inside EXEC."""
        upper = [word.upper() for word in words]
        name, sub = upper[0], upper[1] if len(upper) > 1 else b""
        if name == b"SHUTDOWN" and (len(upper) < 2 or not any(word in (b"ABORT",) for word in upper)):
            # An option that is none is refused; everything else would end it.
            options = (b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"SAFE", b"FAILOVER")
            return all(word in options for word in upper[1:])
        # Times so short that the two servers may see them pass at different commands.
        for at, word in enumerate(upper[:-1]):
            soon = {b"PX": 50000, b"EX": 60, b"PEXPIRE": 50000, b"EXPIRE": 60, b"PSETEX": 50000, b"SETEX": 60}.get(word, 0)
            if any(re.fullmatch(rb"[1-9][0-9]{0,4}", time) and int(time) <= soon for time in upper[at + 1:at + 3]):
                return True
        if name == b"CLIENT" and sub == b"PAUSE" and len(upper) > 2 and re.fullmatch(rb"[0-9]+", upper[2]):
            return True
        if name == b"CLIENT" and sub == b"KILL":
            return any(word in (b"NORMAL", b"DEFAULT", b"NO", b"MAXAGE", b"PUBSUB") for word in upper) or b"ID" in upper
        if name == b"CLIENT" and sub in (b"REPLY", b"ID", b"TRACKING", b"CACHING", b"LIST") and (sub in (b"ID",) or b"OFF" in upper or b"SKIP" in upper or b"ID" in upper[2:]):
            return True
        if name == b"DEBUG" and sub not in (b"", b"ABC", b"SET-ACTIVE-EXPIRE"):
            return True
        if name == b"CONFIG" and sub == b"SET" and len(upper) == 4:
            takes = {b"MAXMEMORY": rb"[0-9]+", b"PROTO-MAX-BULK-LEN": rb"[0-9]+", b"PORT": rb".*", b"BIND": rb".*", b"TIMEOUT": rb".*", b"MAXCLIENTS": rb".*", b"APPENDONLY": rb".*"}
            return bool(re.fullmatch(takes.get(upper[2], rb"(?!)"), upper[3]))
        if client.queued and name in (b"KEYS", b"SCAN", b"RANDOMKEY", b"TIME", b"PUBSUB", b"CLIENT", b"HELLO", b"MEMORY", b"COMMAND", b"CONFIG", b"UNSUBSCRIBE",
                                      b"PUNSUBSCRIBE", b"SUNSUBSCRIBE", b"OBJECT", b"LATENCY"):
            return True
        return False

    def frames(self, number):
        """Broken and odd frames: everything the server says until it closes or falls silent."""
        rng = random.Random(~number)
        pieces = [b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"*", b"\r\n", b"$", b"-1", b"0", b"*0\r\n", b"*-1\r\n", b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n", b"*1\r\n", b"$-1\r\n", b"$0\r\n\r\n",
                  b"GET a\r\n", b"SET a \"b\\x41\\n\"\r\n", b"ECHO 'it\\'s'\r\n", b"ECHO \"x\"y\r\n", b"ECHO \"open\r\n", b":1\r\n", b"+OK\r\n", b"*3\n", b"\n", b"$99999999999\r\n",
                  b"*1048577\r\n", b"*2147483648\r\n", b"*1\r\n:5\r\n", b"*01\r\n$04\r\nPING\r\n", b"* 1\r\n$4\r\nPING\r\n", b"*1\r\n$4\r\nPINGxx", b"  PING  \r\n", b"ECHO \xc3\xa9\r\n", b"*+1\r\n", b"EXEC\r\n", b"ECHO\r\n",
                  b"ECHO " + b"x" * 200 + b"\r\n", b"*1\r\n$" + b"1" * 40]
        data = b"".join(rng.choice(pieces) for _ in range(rng.randint(1, 6)))
        client = Client(self.servers, 2)
        client.send_bytes(data)
        quiet = time.monotonic() + 0.05
        while not all(side.ended for side in client.sides) and time.monotonic() < quiet + 0.3:
            if wait([client], 0.02):
                quiet = time.monotonic()
            elif time.monotonic() > quiet and client.sides[0].data == client.sides[1].data and client.sides[0].ended == client.sides[1].ended:
                break
        self.commands += 1
        texts = [side.data + (b"<closed>" if side.ended else b"<open>") for side in client.sides]
        if texts[0] != texts[1]:
            self.report(number, 0, client, [b"(frames)", data], *texts)
        client.close()
