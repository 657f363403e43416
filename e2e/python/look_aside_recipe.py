"""Runs docs/recipes/look_aside.py: own writes are read while the replica stands still.

    look_aside_recipe.py FOLDER_OF_RECIPES NODE EPOCHS_URL PRIMARY_PORT REPLICA_PORT
"""

import sys

import pymysql

sys.path.insert(0, sys.argv[1])
import look_aside  # noqa: E402

host, port = sys.argv[2].rsplit(":", 1)
primary, replica = (
    pymysql.connect(host="127.0.0.1", user="root", port=int(at), autocommit=True) for at in sys.argv[4:6]
)
cache = look_aside.Cache(look_aside.Node(host, int(port), timeout_s=10), sys.argv[3])


def fill_of(thing, reads):
    def fill(at_primary):
        reads.append(at_primary)
        cursor = (primary if at_primary else replica).cursor()
        cursor.execute("SELECT value FROM shop.things WHERE id = %s", (thing,))
        row = cursor.fetchone()
        return row and row[0].encode()

    return fill


# Whatever was filled once is served.
reads = []
assert cache.get("thing:51", fill_of(51, reads)) == b"v0"
assert cache.get("thing:51", fill_of(51, reads)) == b"v0"
assert len(reads) == 1, reads
assert cache.get("thing:9999", fill_of(9999, reads)) is None
assert cache.get("thing:9999", fill_of(9999, reads)) is None
assert len(reads) == 2, reads

# A lease that nobody uses is given back.
try:
    cache.get("thing:53", lambda at_primary: 1 // 0)
except ZeroDivisionError:
    pass
assert cache.get("thing:53", fill_of(53, reads)) == b"v0"

# In a transaction that has written, nothing is stored.
primary.begin()
primary.cursor().execute("UPDATE shop.things SET value = 'mine' WHERE id = 54")
assert cache.get("thing:54", lambda at_primary: b"mine", may_fill=False) == b"mine"
primary.rollback()
assert cache.get("thing:54", fill_of(54, reads)) == b"v0"

for number in range(1, 11):
    def transaction(connection):
        connection.cursor().execute("UPDATE shop.things SET value = %s WHERE id = 51", (f"v{number}",))

    token = cache.write(["thing:51"], transaction, primary)
    assert isinstance(token, int), token
    assert cache.get("thing:51", fill_of(51, reads), token=token) == f"v{number}".encode()
    assert cache.get("thing:51", fill_of(51, reads)) == f"v{number}".encode()
print("ok")
