"""Counters that are raised under ids: a write is made again, through one node after the other, until it is answered. So each counts
once, whatever is killed meanwhile.
"""

import random
import threading
import time

from service import grpc, refused, until_answered

TIMEOUT_S = 2
PAUSE_S = 0.05
# The journal goes on in another key after so many.
JOURNAL_ENTRIES_MAX = 500


class Counter:
    """One task that raises one number by one, and writes each raise into a journal, in one batch."""

    def __init__(self, number, services, bucket):
        self.number = number
        self.services = services
        self.bucket = bucket
        self.random = random.Random(1000 + number)
        self.session = None
        self.sequence = 0
        self.raised = 0
        # Raises whose session was gone when they came again: they count once or not at all.
        self.doubtful = set()
        self.repeats = 0

    def key(self):
        return f"counter-{self.number:02}".encode()

    def journal(self, raise_number):
        return f"journal-{self.number:02}-{raise_number // JOURNAL_ENTRIES_MAX:04}".encode()

    def run(self, stop):
        while not stop.is_set():
            self.raise_once()

    def raise_once(self):
        """Ends only once it is answered: also after everybody was told to stop."""
        if self.session is None:
            self.session, self.sequence = self.insist(lambda service: service.open_session(self.bucket, TIMEOUT_S)), 0
        self.sequence += 1
        entry, repeats = self.raised, 0
        while True:
            service = self.random.choice(list(self.services.values()))
            try:
                service.raise_counter(self.bucket, self.key(), self.journal(entry), f"{entry},".encode(),
                                      (self.session, self.sequence), TIMEOUT_S)
                break
            except grpc.RpcError as error:
                if refused(error) == "session_expired":
                    self.doubtful.add(entry)
                    self.session = None
                    break
                repeats += 1
                time.sleep(PAUSE_S)
        self.repeats += repeats
        self.raised += 1

    def insist(self, call):
        while True:
            try:
                return call(self.random.choice(list(self.services.values())))
            except grpc.RpcError:
                time.sleep(PAUSE_S)

    def wrong(self, node, service):
        """What a node must not answer, as sentences. While it does not run."""
        entries = until_answered(lambda: service.entries(self.bucket), 20, f"{node} reads {self.bucket}")
        journals = [self.journal(first) for first in range(0, self.raised, JOURNAL_ENTRIES_MAX)]
        found = [int(entry) for key in journals for entry in entries.get(key, (b"", 0))[0].split(b",") if entry]
        expected = [entry for entry in range(self.raised) if entry not in self.doubtful or entry in set(found)]
        if sorted(found) != expected or sorted(found) != found:
            lost = sorted(set(expected) - set(found))[:10]
            twice = sorted({entry for entry in found if found.count(entry) > 1})[:10] if len(found) > len(expected) else []
            yield f"{node}: journal {self.number} has {len(found)} entries of {len(expected)}: lost {lost}, twice {twice}"
        number = int(entries.get(self.key(), (b"0", 0))[0])
        if number != len(expected):
            yield f"{node}: counter {self.number} is {number}, and was raised {len(expected)} times"


class Counters:
    """All of them."""

    def __init__(self, services, buckets, count):
        self.services = services
        self.counters = [Counter(number, services, buckets[number % len(buckets)]) for number in range(count)]
        self.threads = []
        self.stopping = threading.Event()

    def start(self):
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=counter.run, args=[self.stopping], daemon=True)
                        for counter in self.counters]
        for thread in self.threads:
            thread.start()

    def stop(self):
        """Every raise is answered after this, so that a majority must run."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a raise is not answered"

    def raised(self):
        return sum(counter.raised for counter in self.counters)

    def repeats(self):
        return sum(counter.repeats for counter in self.counters)

    def doubtful(self):
        return sum(len(counter.doubtful) for counter in self.counters)

    def wrong(self):
        return [sentence for node, service in self.services.items() for counter in self.counters
                for sentence in counter.wrong(node, service)]
