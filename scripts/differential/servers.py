"""Servers of our own, and clients that send the same to both."""

import select
import socket
import subprocess
import sys
import tempfile
import time

from replies import skip

def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    def __init__(self, program, options):
        self.port = free_port()
        self.dir = tempfile.TemporaryDirectory()
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--enable-debug-command", "yes", "--dir", self.dir.name, "--save", "",
                   "--slowlog-log-slower-than", "-1", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                self.connect().close()
                return
            except OSError:
                time.sleep(0.02)
        sys.exit(f"{program} does not start")

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def end(self):
        self.process.kill()
        self.process.wait()


class Side:
    """One client's connection to one of the two servers."""

    def __init__(self, server):
        self.sock, self.data, self.ended = server.connect(), b"", False

    def receive(self):
        try:
            chunk = self.sock.recv(1 << 20)
        except ConnectionError:
            chunk = b""
        self.ended |= not chunk
        self.data += chunk


class Client:
    def __init__(self, servers, protocol):
        self.sides = [Side(server) for server in servers]
        self.protocol = protocol
        self.monitor = False
        self.queued = False

    def send(self, words):
        frame = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.send_bytes(frame)

    def send_bytes(self, frame):
        for side in self.sides:
            try:
                side.sock.sendall(frame)
            except OSError:
                side.ended = True

    def split(self):
        """Takes as many whole replies as both sides have."""
        pairs = []
        while all(side.data for side in self.sides):
            ends = [skip(side.data) for side in self.sides]
            if None in ends:
                break
            pairs.append(tuple(side.data[:end] for side, end in zip(self.sides, ends)))
            for side, end in zip(self.sides, ends):
                side.data = side.data[end:]
        return pairs

    def close(self):
        for side in self.sides:
            side.sock.close()


def wait(clients, seconds):
    """Reads what is there, waiting for something to come at most so long."""
    sides = {side.sock: side for client in clients for side in client.sides if not side.ended}
    ready, _, _ = select.select(list(sides), [], [], seconds)
    for sock in ready:
        sides[sock].receive()
    return bool(ready)
