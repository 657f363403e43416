"""Look-aside with leases, hints, marks and tokens, in plain meta commands. Copy it, and change what you like.

One `Node` is one connection to one node and belongs to one thread; your usual client says which node has a key. The database
is anything with the interface of PEP 249. `docs/client.md` says why each step is there.
"""

import json
import random
import socket
import time
import urllib.request

ABSENT = 1  # Client flags of an empty value: the database has none.


class Node:
    def __init__(self, host, port, timeout_s=1.0):
        self.socket = socket.create_connection((host, port), timeout_s)
        self.file = self.socket.makefile("rb")

    def ask(self, line, data=None):
        """Sends one command; returns the words of its answer and the value."""
        self.socket.sendall(line.encode() + b"\r\n" + (b"" if data is None else data + b"\r\n"))
        words = self.file.readline().decode().split()
        if not words:
            raise OSError("the node has closed the connection")
        value = None
        if words[0] == "VA":
            value = self.file.read(int(words[1]) + 2)[:-2]
        return words, value


def flag(words, letter):
    return next((int(word[1:]) for word in words[1:] if word[0] == letter and word[1:]), 0)


class Cache:
    """`epochs_url` is `/epochs` of a `mcsqueal run` or `mcsqueal invalidator`."""

    def __init__(self, node, epochs_url, ttl_s=3600, absent_ttl_s=30, renew_s=0, patience_s=3.0):
        self.node, self.epochs_url, self.epochs = node, epochs_url, []
        self.ttl_s, self.absent_ttl_s = ttl_s, absent_ttl_s
        self.renew_s, self.patience_s = renew_s, patience_s

    def get(self, key, fill, token=None, may_fill=True):
        """The value, or None if there is none.

        `fill(primary)` reads the database, the primary if it is told so, in a snapshot that it opens itself. `may_fill` must be
        False inside a transaction that has written or has read before, and at READ UNCOMMITTED. `token` comes from `write`.
        """
        if token == "primary":
            return fill(True)
        ask = f"mg {key} v c f G " + (f"V{token}" if token else "V")
        if may_fill:
            ask += " N10" + (f" R{self.renew_s}" if self.renew_s else "")
        give_up, wait_s = time.monotonic() + self.patience_s, 0.005
        while True:
            words, value = self.node.ask(ask)
            flags = words[1:]
            primary = "G" in flags or token is not None
            if words[0] == "EN":  # Nothing, and no right to store anything.
                return fill(primary)
            if words[0] != "VA":
                raise ValueError(" ".join(words))
            if "W" in flags and may_fill:  # Ours to read, and to store.
                return self.fill(key, flag(words, "c"), fill, primary)
            held = "Z" in flags and value == b"" and flag(words, "f") != ABSENT
            if not held and "X" not in flags:
                return None if flag(words, "f") == ABSENT else value
            if time.monotonic() > give_up:  # The replicas may be behind: only the holder of the lease is told.
                return fill(True)
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # Somebody else reads it.
            wait_s = min(wait_s * 2, 0.1)

    def fill(self, key, lease, fill, primary):
        try:
            value = fill(primary)
        except BaseException:
            self.node.ask(f"md {key} C{lease}")  # Somebody else may try.
            raise
        if value is None:
            self.node.ask(f"ms {key} 0 C{lease} T{self.absent_ttl_s} F{ABSENT}", b"")
        else:
            self.node.ask(f"ms {key} {len(value)} C{lease} T{self.ttl_s}", value)
        return value

    def write(self, keys, transaction, connection, owners=None):
        """Runs `transaction(connection)`, which writes `keys` and commits; returns the token for its user.

        `owners(key)` are the nodes that have the key, one in each cluster of the region.
        """
        owners = owners or (lambda key: [self.node])
        mark = random.getrandbits(63)
        everywhere = [(node, key) for key in keys for node in owners(key)]
        for node, key in everywhere:  # `NS`: no mark stands there. The token is as good.
            node.ask(f"md {key} m{mark}")
        try:
            transaction(connection)
        except BaseException:
            # If it is sure that nothing was committed, V0 ends the marks; else they end by themselves.
            raise
        version = self.version(connection)
        if version is None:
            return "primary"
        for node, key in everywhere:
            node.ask(f"md {key} m{mark} V{version}")
        return version

    def version(self, connection):
        """The version of what was committed last on this connection, or a later one; None if it cannot be told."""
        cursor = connection.cursor()
        cursor.execute("SELECT VERSION()")
        if "MariaDB" in cursor.fetchone()[0]:
            cursor.execute("SELECT @@last_gtid")
            domain, server, number = cursor.fetchone()[0].split("-")
            return self.version_of(f"{domain}-{server}", int(number))
        # Drivers with a session tracker can say it exactly: SET SESSION session_track_gtids = OWN_GTID.
        cursor.execute("SELECT @@server_uuid, @@global.gtid_executed")
        uuid, executed = cursor.fetchone()
        for part in executed.replace("\n", "").split(","):
            words = part.strip().split(":")
            if words[0].lower() == uuid.lower():
                return self.version_of(uuid.lower(), int(words[-1].split("-")[-1]))
        return None

    def version_of(self, origin, number):
        for _ in range(10):
            newest = self.epochs[-1] if self.epochs else None
            # Of another server's epoch, or of one that has ended, the number says nothing.
            if newest and newest["origin"] == origin and number >= newest["first"]:
                return newest["epoch"] << 48 | number
            with urllib.request.urlopen(self.epochs_url, timeout=1.0) as page:
                self.epochs = json.load(page)
            time.sleep(0.05)
        return None
