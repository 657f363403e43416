#!/usr/bin/env python3
"""Shows on which node real clients put their keys, to compare with our ring.

    ring_vectors.py --hashing ketama|ketama-jenkins|rendezvous [options] NODE...

A NODE is `host:port` or `host:port:weight` (weights only with ketama; IPv6 as `[::1]:port`). Each node
must be a running memcached. The script sets keys through the client, then asks every node for every
key, deletes them again, and prints one JSON object, {key: index of the node in the arguments}. It fails
if a key is on no node or on several.

The client's settings are those that `schemas/src/ring.rs` names:

    ketama          pylibmc, behaviors={"ketama": True, "ketama_weighted": True}
    ketama-jenkins  pylibmc, behaviors={"ketama": True}
    rendezvous      pymemcache, HashClient with its default hasher

Options:

    --keys N        how many keys (2000)
    --ask-client    do not connect; ask the client's own library where it would send each key. So names
                    that do not exist here can be tried (port 11211, IPv6, a hundred nodes).
    --vectors       print an object for `schemas/tests/ring_vectors.json` instead: the nodes with their
                    weights, and the keys of each

Needs `pip install pylibmc pymemcache`.
"""

import argparse
import ctypes
import glob
import json
import os
import socket
import sys
import uuid


def main():
    arguments = parse_arguments()
    nodes = [parse_node(node) for node in arguments.nodes]
    keys = make_keys(arguments.keys, nodes)
    if arguments.ask_client:
        owners = ask_client(arguments.hashing, nodes, keys)
    else:
        owners = ask_nodes(arguments.hashing, nodes, keys)
    if arguments.vectors:
        print(json.dumps(vectors(arguments.hashing, nodes, owners), ensure_ascii=False))
    else:
        print(json.dumps(owners, ensure_ascii=False))


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hashing", required=True, choices=["ketama", "ketama-jenkins", "rendezvous"])
    parser.add_argument("--keys", type=int, default=2000)
    parser.add_argument("--ask-client", action="store_true")
    parser.add_argument("--vectors", action="store_true")
    parser.add_argument("nodes", nargs="+", metavar="NODE")
    return parser.parse_args()


def parse_node(text):
    """`host:port[:weight]` as (host, port, weight)."""
    if text.startswith("["):
        host, rest = text[1:].split("]:", 1)
    else:
        host, rest = text.split(":", 1)
    port, _, weight = rest.partition(":")
    return host, int(port), int(weight or 1)


def make_keys(count, nodes):
    """Keys as applications have them: numbers, addresses, long ones, and a few outside ASCII.

    The first ones are texts that libmemcached hashes for the points of its ring, so that they fall
    exactly on a point.
    """
    points = [f"{host}-0" if port == 11211 else f"{host}:{port}-0" for host, port, _ in nodes]
    shapes = [
        lambda n: f"user:{n}",
        lambda n: f"user-by-email:person{n}@example.com",
        lambda n: f"product-by-sku:{n * 7919:08x}",
        lambda n: f"orders-of:{n}/page=2",
        lambda n: f"{n}",
        lambda n: f"long:{'x' * (n % 230)}:{n}",
        lambda n: f"name:käse-{n}-жук",
    ]
    return points + [shapes[n % len(shapes)](n) for n in range(count - len(points))]


def pylibmc_behaviors(hashing):
    behaviors = {"ketama": True}
    if hashing == "ketama":
        behaviors["ketama_weighted"] = True
    return behaviors


def ask_nodes(hashing, nodes, keys):
    """Sets every key through the client and looks for it on every node."""
    mark = uuid.uuid4().hex
    if hashing == "rendezvous":
        client = pymemcache_client(nodes)
        for key in keys:
            client.set(key, mark, noreply=False)
    else:
        import pylibmc

        client = pylibmc.Client([node_spec(node) for node in nodes], behaviors=pylibmc_behaviors(hashing))
        for key in keys:
            client.set(key, mark)
    owners = {}
    for index, (host, port, _) in enumerate(nodes):
        for key in keys_on_node(host, port, keys, mark):
            if key in owners:
                sys.exit(f"{key!r} is on node {owners[key]} and on node {index}")
            owners[key] = index
    lost = [key for key in keys if key not in owners]
    if lost:
        sys.exit(f"{len(lost)} keys are on no node, the first is {lost[0]!r}")
    for key in keys:
        client.delete(key)
    return {key: owners[key] for key in keys}


def ask_client(hashing, nodes, keys):
    """What the client's library computes, without a connection."""
    if hashing == "rendezvous":
        client = pymemcache_client(nodes)
        names = [f"{host}:{port}" for host, port, _ in nodes]
        return {key: names.index(client.hasher.get_node(key)) for key in keys}
    library = libmemcached()
    memc = library.memcached_create(None)
    # The order of the calls is pylibmc's: behaviors first, then the servers.
    for behavior in pylibmc_behaviors(hashing):
        number = {"ketama": 3, "ketama_weighted": 16}[behavior]
        assert library.memcached_behavior_set(memc, number, 1) == 0
    for host, port, weight in nodes:
        assert library.memcached_server_add_with_weight(memc, host.encode(), port, weight) == 0
    owners = {}
    for key in keys:
        raw = key.encode()
        owners[key] = library.memcached_generate_hash(memc, raw, len(raw))
    library.memcached_free(memc)
    return owners


def libmemcached():
    """The very library that pylibmc's wheel carries."""
    import pylibmc

    beside = os.path.join(os.path.dirname(os.path.dirname(pylibmc.__file__)), "pylibmc.libs")
    found = glob.glob(os.path.join(beside, "libmemcached-*.so*")) or ["libmemcached.so.11"]
    library = ctypes.CDLL(found[0])
    handle = ctypes.c_void_p
    library.memcached_create.restype = handle
    library.memcached_create.argtypes = [handle]
    library.memcached_free.argtypes = [handle]
    library.memcached_behavior_set.argtypes = [handle, ctypes.c_int, ctypes.c_uint64]
    library.memcached_server_add_with_weight.argtypes = [
        handle, ctypes.c_char_p, ctypes.c_uint16, ctypes.c_uint32
    ]
    library.memcached_generate_hash.restype = ctypes.c_uint32
    library.memcached_generate_hash.argtypes = [handle, ctypes.c_char_p, ctypes.c_size_t]
    return library


def pymemcache_client(nodes):
    from pymemcache.client.hash import HashClient

    if any(weight != 1 for _, _, weight in nodes):
        sys.exit("pymemcache has no weights")
    return HashClient([(host, port) for host, port, _ in nodes], allow_unicode_keys=True)


def node_spec(node):
    host, port, weight = node
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}:{weight}"


def keys_on_node(host, port, keys, mark):
    """Those of `keys` that the node holds with the value `mark`."""
    by_bytes = {key.encode(): key for key in keys}
    found = []
    with socket.create_connection((host, port), timeout=10) as connection:
        answers = connection.makefile("rb")
        for raw, key in by_bytes.items():
            connection.sendall(b"get " + raw + b"\r\n")
            line = answers.readline()
            while line.startswith(b"VALUE "):
                name, _, size = line.split()[1:4]
                value = answers.read(int(size) + 2)[:-2]
                if value == mark.encode() and by_bytes.get(name) == key:
                    found.append(key)
                line = answers.readline()
            if line != b"END\r\n":
                sys.exit(f"{host}:{port} answered {line!r}")
    return found


def vectors(hashing, nodes, owners):
    named = []
    for host, port, weight in nodes:
        host = f"[{host}]" if ":" in host else host
        named.append({"name": f"{host}:{port}", "weight": weight})
    keys = [[key for key, owner in owners.items() if owner == index] for index in range(len(nodes))]
    return {"hashing": hashing, "nodes": named, "keys": keys}


if __name__ == "__main__":
    main()
