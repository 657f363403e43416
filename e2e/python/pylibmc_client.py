"""Ordinary operations of pylibmc against the node that the first argument names."""

import sys

import pylibmc

client = pylibmc.Client([sys.argv[1]], behaviors={"cas": True, "tcp_nodelay": True})
client.flush_all()
assert client.get("a") is None
assert client.set("a", {"some": ["value", 1]}, time=60) and client.get("a") == {"some": ["value", 1]}
assert not client.add("a", 1) and client.add("b", 1) and client.replace("b", 2) and client.get("b") == 2
assert not client.replace("none", 1)
assert client.set_multi({f"m:{n}": n for n in range(100)}) == []
assert client.get_multi([f"m:{n}" for n in range(101)]) == {f"m:{n}": n for n in range(100)}
assert client.set("n", 10) and client.incr("n", 5) == 15 and client.decr("n", 20) == 0
assert client.set("t", b"b") and client.append("t", b"c") and client.prepend("t", b"a") and client.get("t") == b"abc"
value, token = client.gets("b")
assert value == 2 and client.cas("b", 3, token) and client.get("b") == 3
try:
    assert not client.cas("b", 4, token)
except pylibmc.Error:
    pass
assert client.touch("b", 100) and client.delete("b") and client.get("b") is None and not client.delete("b")
assert client.delete_multi([f"m:{n}" for n in range(100)])
try:
    client.set("big", "v" * (2 << 20))
    raise AssertionError("too large a value was stored")
except pylibmc.Error as error:
    print("refused:", type(error).__name__)
assert client.get("big") is None
[(_, stats)] = client.get_stats()
assert int(stats["cmd_set"]) > 100 and stats["version"] == b"1.6.45", stats
client.disconnect_all()
print("pylibmc: ok")
