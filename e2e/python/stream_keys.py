"""Reads a stream on Kafka with nothing of mcsqueal but its .proto: the keys that became stale, one per line.

    stream_keys.py --proto FILE --brokers HOST:PORT --topic TOPIC

Each line: partition, place, version and key in hexadecimal, with tabs between. Reads up to the ends that the
partitions have when it starts. Exits with 1 on the first record that it does not understand, and checks on its way
what every consumer may rely on: formats, dense sequences, chained terms, counts of keys.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile

import kafka
from grpc_tools import protoc


def compiled(proto):
    """The module that the .proto file describes."""
    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "stream.proto").write_text(pathlib.Path(proto).read_text())
    status = protoc.main(["protoc", f"-I{folder}", f"--python_out={folder}", str(folder / "stream.proto")])
    assert status == 0, "the .proto file does not compile"
    sys.path.insert(0, str(folder))
    return importlib.import_module("stream_pb2")


def records(arguments):
    """Every message that is there now: partition, headers, value."""
    consumer = kafka.KafkaConsumer(bootstrap_servers=arguments.brokers, enable_auto_commit=False)
    partitions = [
        kafka.TopicPartition(arguments.topic, partition)
        for partition in sorted(consumer.partitions_for_topic(arguments.topic))
    ]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning(*partitions)
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for batch in consumer.poll(timeout_ms=500).values():
            for message in batch:
                yield message.partition, dict(message.headers), message.value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proto", required=True)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    arguments = parser.parse_args()
    stream = compiled(arguments.proto)
    last = {}
    for partition, headers, value in records(arguments):
        assert headers["format"] == b"1", f"unknown format {headers['format']}"
        term, sequence = map(int, headers["place"].split(b":"))
        record = stream.Record.FromString(value)
        kind = record.WhichOneof("kind")
        assert kind is not None, "an unknown kind of record"
        place = (term, sequence)
        if place <= last.get(partition, (0, 0)):
            continue  # Said again, or by a writer that was replaced.
        before_term, before = last.get(partition, (0, 0))
        if term == before_term:
            assert sequence == before + 1, f"a hole before {place} in {partition}"
        else:
            assert (kind, sequence) == ("term_start", 1), f"{place} in {partition} begins no term"
            start = record.term_start
            assert (start.previous_term, start.previous_sequence) <= (before_term, before), "a hole between terms"
        last[partition] = place
        if kind == "invalidations":
            show(partition, place, record.invalidations)


def show(partition, place, invalidations):
    keys = iter(invalidations.keys)
    version = 0
    for transaction in invalidations.transactions:
        version += transaction.version_delta
        for _ in range(transaction.key_count):
            print(partition, f"{place[0]}:{place[1]}", version, next(keys).hex(), sep="\t")
    assert next(keys, None) is None, "more keys than the transactions have"
    assert sum(cause.key_count for cause in invalidations.causes) == len(invalidations.keys), "keys without a cause"


main()
