"""Writers that remember what each key may hold, and whether it does.

A key belongs to one writer, which has one write under way at a time. So it must hold the last acknowledged value under
the version that was acknowledged, or, under a later version, one whose outcome was never told: such a write may be
applied at any time, even after a write that came later was acknowledged.
"""

import collections
import random
import threading
import time

from service import NOT_APPLIED, grpc, refused, until_answered

PUT_TIMEOUT_S = 2
LARGE_BYTES = 64 << 10
PAUSE_S = 0.05  # after an error, so that an outage is no busy loop

Ack = collections.namedtuple("Ack", "begun ended node bucket")


class Key:
    """What is known of one key."""

    def __init__(self):
        self.value = None     # that was acknowledged, or was read since
        self.version = 0      # its version; 0: nothing was acknowledged
        self.unknown = set()  # values whose write is under way, or ended with an error that leaves it open

    def wrong(self, found):
        """Why the key must not hold `found`, a value and its version or None; nothing if it may."""
        if found is None:
            return f"is not there, but version {self.version} was acknowledged" if self.version else None
        value, version = found
        if version == self.version:
            return None if value == self.value else f"holds another value under the acknowledged version {version}"
        if version < self.version:
            return f"holds version {version}, but version {self.version} was acknowledged"
        return None if value in self.unknown else f"holds version {version}, which nobody wrote, after {self.version}"

    def settle(self, found):
        """What was read must stay, like what was acknowledged."""
        if found is not None and found[1] > self.version:
            self.value, self.version = found
            self.unknown.discard(self.value)


class Writer:
    """One task that writes one value after the other to its own keys of one bucket, through one node."""

    def __init__(self, number, node, service, bucket):
        self.number = number
        self.node = node
        self.service = service
        self.bucket = bucket
        self.random = random.Random(number)
        self.keys = {}
        self.acks = []
        self.astray = []  # what an acknowledgement must not say
        self.errors = collections.Counter()
        self.writes = 0
        self.large = False  # whether to write enough for logs that fill up and are truncated

    def run(self, stop):
        while not stop.is_set():
            if not self.write():
                stop.wait(PAUSE_S)

    def write(self):
        self.writes += 1
        name, size = self.choose()
        value = f"{self.writes} ".encode().ljust(size, b".")
        key = self.keys.setdefault(name, Key())
        key.unknown.add(value)
        begun = time.monotonic()
        try:
            version = self.service.put(self.bucket, name, value, PUT_TIMEOUT_S)
        except grpc.RpcError as error:
            why = refused(error)
            self.errors[why] += 1
            if why in NOT_APPLIED:
                key.unknown.discard(value)
            return False
        self.acks.append(Ack(begun, time.monotonic(), self.node, self.bucket))
        key.unknown.discard(value)
        if version <= key.version:
            where = f"{self.node}: {self.bucket}/{name.decode()}"
            self.astray.append(f"{where} was acknowledged as version {version}, after version {key.version}")
        # An earlier write whose outcome is open may have been applied after this one, but not before it.
        key.value, key.version = value, version
        return True

    def choose(self):
        """A key, and how long its value shall be."""
        # In one key, so that what is read later stays small.
        if self.large and self.writes % 4 == 0:
            return f"writer-{self.number:02}/large".encode(), LARGE_BYTES
        # As often a new key as one that was written before: a key that was overwritten no longer tells what was lost.
        names = len(self.keys)
        index = self.random.randrange(names) if names and self.random.random() < 0.5 else names
        return f"writer-{self.number:02}/{index:06}".encode(), self.random.randrange(16, 1024)


class Writers:
    """All of them: each combination of node and bucket has some, if the counts have no common divisor."""

    def __init__(self, services, buckets, count):
        nodes = list(services)
        self.services = services
        self.buckets = buckets
        self.writers = []
        for number in range(count):
            node = nodes[number % len(nodes)]
            self.writers.append(Writer(number, node, services[node], buckets[number % len(buckets)]))
        self.stopping = threading.Event()
        self.threads = []

    def start(self, large):
        """With `large` values the logs fill up, so that their oldest parts go and the stores are synced."""
        self.stopping = threading.Event()
        for writer in self.writers:
            writer.large = large
        self.threads = [threading.Thread(target=writer.run, args=[self.stopping], daemon=True)
                        for writer in self.writers]
        for thread in self.threads:
            thread.start()

    def stop(self):
        """Every write has ended after this, one way or another."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=PUT_TIMEOUT_S + 10)
            assert not thread.is_alive(), "a write has no end"

    def acks(self, begun_after=0.0):
        """The acknowledged writes that began after this moment, in the order in which they were acknowledged."""
        found = [ack for writer in self.writers for ack in list(writer.acks) if ack.begun > begun_after]
        return sorted(found, key=lambda ack: ack.ended)

    def errors(self):
        return sum((writer.errors for writer in self.writers), collections.Counter())

    def wait_until_served(self, moment, seconds_max):
        """Waits until writes that began after this moment were acknowledged through every node and in every bucket.

        Returns how many seconds after it that was, or None where it took too long.
        """
        nodes, buckets = set(self.services), set(self.buckets)
        while (waited := time.monotonic() - moment) < seconds_max:
            acks = self.acks(begun_after=moment)
            if {ack.node for ack in acks} == nodes and {ack.bucket for ack in acks} == buckets:
                return waited
            time.sleep(0.05)
        return None

    def tried(self):
        """How many writes were begun."""
        return sum(writer.writes for writer in self.writers)

    def unknown(self):
        """How many writes' outcomes are open."""
        return sum(len(key.unknown) for writer in self.writers for key in writer.keys.values())

    def wrong(self):
        """What no node may answer, as sentences: every bucket is read through every node. While no writer runs."""
        sentences = [sentence for writer in self.writers for sentence in writer.astray]
        for node, service in self.services.items():
            for bucket in self.buckets:
                found = until_answered(lambda: service.entries(bucket), 20, f"{node} reads {bucket}")
                for writer in self.writers:
                    if writer.bucket != bucket:
                        continue
                    for name, key in writer.keys.items():
                        entry = found.pop(name, None)
                        why = key.wrong(entry)
                        if why:
                            sentences.append(f"{node}: {bucket}/{name.decode()} {why}")
                        key.settle(entry)
                sentences.extend(f"{node}: {bucket}/{name!r} was never written" for name in found)
        return sentences
