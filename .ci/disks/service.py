"""What drey serves, as a client made from drey.proto sees it."""

import pathlib
import sys
import time

from verdict import Failed, skip

sys.path.insert(0, str(pathlib.Path("server/tests").resolve()))
try:
    import grpc
    import python_client
except ImportError as error:
    skip(f"Python has no {error.name}, of the packages grpcio and grpcio-tools")

# A channel waits for up to two minutes before it connects again, unless told otherwise.
CHANNEL_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.initial_reconnect_backoff_ms", 100),
                   ("grpc.min_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
# After these nothing was proposed. After any other error a write may have been applied, or may be later.
NOT_APPLIED = {"no_leader", "not_ready", "overloaded", "quota_exceeded"}
CALL_TIMEOUT_S = 20


class Service:
    """One node's calls, each with a time limit."""

    def __init__(self, address):
        import drey_pb2
        import drey_pb2_grpc
        channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.messages = drey_pb2
        self.kv = drey_pb2_grpc.KvStub(channel)
        self.buckets = drey_pb2_grpc.BucketsStub(channel)
        self.cluster = drey_pb2_grpc.ClusterStub(channel)

    def put(self, bucket, key, value, timeout):
        """The write's version."""
        return self.kv.Put(self.messages.PutRequest(bucket=bucket, key=key, value=value), timeout=timeout).version

    def get(self, bucket, key):
        """The key's value as it is now, or None."""
        response = self.kv.Get(self.messages.GetRequest(bucket=bucket, key=key), timeout=CALL_TIMEOUT_S)
        return response.entry.value if response.HasField("entry") else None

    def entries(self, bucket):
        """All of a bucket, as it is now: key to (value, version)."""
        chunks = self.kv.Scan(self.messages.ScanRequest(bucket=bucket), timeout=CALL_TIMEOUT_S)
        return {entry.key: (entry.value, entry.version) for chunk in chunks for entry in chunk.entries}

    def create(self, bucket):
        request = self.messages.CreateBucketRequest(name=bucket, if_not_exists=True)
        self.buckets.Create(request, timeout=CALL_TIMEOUT_S)

    def delete(self, bucket, key):
        self.kv.Delete(self.messages.DeleteRequest(bucket=bucket, key=key), timeout=CALL_TIMEOUT_S)

    def open_session(self, bucket, timeout):
        return self.kv.OpenSession(self.messages.OpenSessionRequest(bucket=bucket), timeout=timeout).session

    def raise_counter(self, bucket, counter, journal, entry, request_id, timeout):
        """Adds one to a counter and an entry to a journal, both or neither, under a session and its number."""
        session, sequence = request_id
        ops = [self.messages.Op(increment=self.messages.IncrementOp(key=counter, by=1)),
               self.messages.Op(append=self.messages.AppendOp(key=journal, value=entry))]
        request_id = self.messages.RequestId(session=session, sequence=sequence, first_unacked=sequence)
        self.kv.Batch(self.messages.BatchRequest(bucket=bucket, ops=ops, id=request_id), timeout=timeout)

    def scrubs(self):
        """The groups that there are, and of those led here, how far their replicas are compared."""
        status = self.cluster.Status(self.messages.StatusRequest(), timeout=CALL_TIMEOUT_S)
        return {"groups": {group.id for group in status.groups},
                "led": {group.id: group.scrub for group in status.groups if group.HasField("scrub")}}

    def room(self):
        """What the node says of its disks: free_bytes, reserve_bytes, level."""
        return self.cluster.Status(self.messages.StatusRequest(), timeout=CALL_TIMEOUT_S).room

    def applied(self):
        """Each group's last entry that the node's store has."""
        status = self.cluster.Status(self.messages.StatusRequest(), timeout=CALL_TIMEOUT_S)
        return {group.id: group.applied for group in status.groups}

    def leader(self, bucket):
        """The name of the node that leads the bucket's group."""
        described = self.buckets.Describe(self.messages.DescribeBucketRequest(name=bucket), timeout=CALL_TIMEOUT_S)
        status = self.cluster.Status(self.messages.StatusRequest(), timeout=CALL_TIMEOUT_S)
        names = {member.id: member.name for member in status.members}
        return next(names.get(group.leader) for group in status.groups if group.id == described.group)


def generate_stubs(directory):
    python_client.generate_stubs(directory)


def refused(error):
    """What drey calls the error, or what gRPC calls it where it did not come from drey."""
    return dict(error.trailing_metadata() or ()).get("drey-error") or error.code().name


def until_answered(call, seconds_max, what, meanwhile=lambda: None):
    """Calls again until it works, and returns what it returned. `meanwhile` may find that it never will."""
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {seconds_max} s, but {refused(error)}: {error.details()}") from error
        meanwhile()
        time.sleep(0.05)
