"""Ordinary operations, and leases, of meta-memcache against the node at host and port."""

import sys

from meta_memcache import CacheClient, Key, ServerAddress, connection_pool_factory_builder
from meta_memcache.configuration import LeasePolicy, StalePolicy

host, port = sys.argv[1].rsplit(":", 1)
client = CacheClient.cache_client_from_servers(
    servers=[ServerAddress(host, int(port))], connection_pool_factory_fn=connection_pool_factory_builder()
)
key = Key("meta:1")
assert client.get(key) is None
assert client.set(key, {"a": 1}, ttl=100) and client.get(key) == {"a": 1}
assert client.get_or_lease(Key("meta:lease"), LeasePolicy(ttl=30)) is None
value, token = client.get_cas(Key("meta:lease"))
assert token is not None
# Somebody else has the lease: after waiting in vain, a miss.
assert client.get_or_lease(Key("meta:lease"), LeasePolicy(ttl=30, miss_retries=2, miss_retry_wait=0.01)) is None
assert client.set(Key("meta:lease"), "filled", ttl=100, cas_token=token)
assert client.get_or_lease(Key("meta:lease"), LeasePolicy(ttl=30)) == "filled"
assert not client.set(Key("meta:lease"), "late", ttl=100, cas_token=token)
# Marked as outdated: one reader renews it, the others go on with it.
value, token = client.get_cas(key)
assert client.set(key, {"a": 2}, ttl=100, cas_token=token)
assert client.invalidate(key, stale_policy=StalePolicy(mark_stale_on_deletion_ttl=30))
assert client.get(key) is None and client.get(key) == {"a": 2}
assert client.touch(key, ttl=50)
assert client.delta_initialize(Key("meta:count"), 5, initial_value=1, initial_ttl=100)
assert client.delta_and_get(Key("meta:count"), 5) == 6
assert client.get(Key("a key with spaces")) is None and client.set(Key("a key with spaces"), 1, ttl=9)
assert client.get(Key("a key with spaces")) == 1
assert client.multi_get([key, Key("none")]) == {key: {"a": 2}, Key("none"): None}
assert client.delete(key) and client.get(key) is None
print("meta-memcache: ok")
