#!/usr/bin/env python3
"""A client made from drey.proto alone, in another language: every call, and the errors it must answer with.

Usage: python_client.py ADDR [ADDR ...]

The calls go to the first address; the others are nodes of the same cluster, which must answer the same. Needs grpcio and
grpcio-tools. Prints a line for each check, and exits with 1 if one failed.
"""

import os
import pathlib
import socket
import sys
import tempfile
import time

import grpc
import grpc_tools
from grpc_tools import protoc

PROTO_DIR = pathlib.Path(__file__).resolve().parent.parent / "proto"
KEY_BYTES_MAX = 4096
VALUE_BYTES_MAX = 1 << 20
BATCH_OPS_MAX = 4096
TIMEOUT_S = 20
READY_TIMEOUT_S = 30

PASSED = []
FAILED = []


def generate_stubs(out_dir):
    """Makes the Python modules of both protocols, and lets them be imported."""
    wellknown = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    status = protoc.main([
        "protoc", f"-I{PROTO_DIR}", f"-I{wellknown}", f"--python_out={out_dir}", f"--grpc_python_out={out_dir}",
        "drey.proto", "health.proto",
    ])
    if status != 0:
        sys.exit(f"the stubs cannot be generated from {PROTO_DIR}")
    sys.path.insert(0, str(out_dir))


def check(name):
    """Runs the function below it as one check: it fails by an assertion or by any other exception."""
    def run(body):
        try:
            body()
        except Exception as error:  # noqa: BLE001 (a failed call is a failed check, whatever it failed with)
            FAILED.append(name)
            said = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else repr(error)
            print(f"FAIL  {name}: {said}")
        else:
            PASSED.append(name)
            print(f"ok    {name}")
        return body
    return run


def expect_error(call, status, code):
    """The call must fail with this gRPC status, and name this code in `drey-error`."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == status, f"{error.code()} instead of {status}: {error.details()}"
        named = dict(error.trailing_metadata() or ()).get("drey-error")
        assert named == code, f"drey-error is {named!r} instead of {code!r}"
        assert error.details(), "the error has no message"
    else:
        raise AssertionError(f"the call worked, and {status} was expected")


def connect(address):
    """A channel to a node that is up."""
    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
    try:
        grpc.channel_ready_future(channel).result(timeout=READY_TIMEOUT_S)
    except grpc.FutureTimeoutError:
        sys.exit(f"no node answers at {address}")
    return channel


class Node:
    """The services of one node, each call with a time limit."""

    def __init__(self, address):
        self.address = address
        self.channel = connect(address)
        self.kv = drey_grpc.KvStub(self.channel)
        self.buckets = drey_grpc.BucketsStub(self.channel)
        self.cluster = drey_grpc.ClusterStub(self.channel)
        self.health = health_grpc.HealthStub(self.channel)

    def get(self, bucket, key, read=0):
        answer = self.kv.Get(drey.GetRequest(bucket=bucket, key=key, read=read), timeout=TIMEOUT_S)
        return answer.entry if answer.HasField("entry") else None

    def put(self, bucket, key, value, **options):
        return self.kv.Put(drey.PutRequest(bucket=bucket, key=key, value=value, **options), timeout=TIMEOUT_S)

    def delete(self, bucket, key, **options):
        return self.kv.Delete(drey.DeleteRequest(bucket=bucket, key=key, **options), timeout=TIMEOUT_S)

    def batch(self, bucket, *ops):
        return self.kv.Batch(drey.BatchRequest(bucket=bucket, ops=ops), timeout=TIMEOUT_S)

    def scan(self, bucket, start=None, end=None, prefix=None, **options):
        """The entries, and whether the limit cut them."""
        key_range = drey.KeyRange(start=start, end=end, prefix=prefix)
        request = drey.ScanRequest(bucket=bucket, range=key_range, **options)
        entries, more = [], False
        for chunk in self.kv.Scan(request, timeout=TIMEOUT_S):
            entries.extend(chunk.entries)
            more = chunk.more
        return entries, more


def put_op(key, value):
    return drey.Op(put=drey.PutOp(key=key, value=value))


def check_buckets(node, bucket):
    def create(name, **options):
        return node.buckets.Create(drey.CreateBucketRequest(name=name, **options), timeout=TIMEOUT_S)

    @check("Buckets.Create makes a bucket")
    def _():
        answer = create(bucket)
        assert answer.created and answer.bucket.name == bucket and answer.bucket.group >= 1, answer

    @check("Buckets.Create refuses a bucket that is there")
    def _():
        expect_error(lambda: create(bucket), grpc.StatusCode.ALREADY_EXISTS, "bucket_exists")

    @check("Buckets.Create with if_not_exists is content with it")
    def _():
        answer = create(bucket, if_not_exists=True)
        assert not answer.created and answer.bucket.name == bucket, answer

    for name in ["a/b", "white space", ".hidden", "x" * 1000]:
        @check(f"Buckets.Create refuses the name {name[:20]!r}")
        def _(name=name):
            expect_error(lambda: create(name), grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")

    @check("Buckets.List has it, and the bucket `default`")
    def _():
        names = [found.name for found in node.buckets.List(drey.ListBucketsRequest(), timeout=TIMEOUT_S).buckets]
        assert bucket in names and "default" in names, names

    @check("Buckets.List takes a prefix")
    def _():
        answer = node.buckets.List(drey.ListBucketsRequest(prefix=bucket), timeout=TIMEOUT_S)
        assert [found.name for found in answer.buckets] == [bucket], answer

    @check("Buckets.Describe describes it")
    def _():
        answer = node.buckets.Describe(drey.DescribeBucketRequest(name=bucket), timeout=TIMEOUT_S)
        assert answer.name == bucket and answer.group >= 1, answer

    @check("Buckets.Describe knows no other")
    def _():
        request = drey.DescribeBucketRequest(name=bucket + "-not")
        expect_error(lambda: node.buckets.Describe(request, timeout=TIMEOUT_S),
                     grpc.StatusCode.NOT_FOUND, "bucket_not_found")


def check_pairs(node, bucket):
    @check("Kv.Put writes, Kv.Get reads it")
    def _():
        written = node.put(bucket, b"alice", b"\x00\xff blue")
        assert written.applied and written.version > 0, written
        entry = node.get(bucket, b"alice")
        assert entry.value == b"\x00\xff blue" and entry.version == written.version, entry
        assert not entry.HasField("ttl_ms")

    @check("Kv.Get reads locally")
    def _():
        # This node's own copy: soon there, and no sooner.
        deadline = time.monotonic() + TIMEOUT_S
        while (entry := node.get(bucket, b"alice", read=drey.LOCAL)) is None:
            assert time.monotonic() < deadline, "it never comes"
            time.sleep(0.02)
        assert entry.key == b"alice", entry

    @check("Kv.Get has no entry for a missing key")
    def _():
        assert node.get(bucket, b"nobody") is None

    @check("versions grow, and return_previous has what was there")
    def _():
        first = node.put(bucket, b"grow", b"1")
        second = node.put(bucket, b"grow", b"2", return_previous=True)
        assert second.version > first.version
        assert second.previous.value == b"1" and second.previous.version == first.version, second

    @check("an empty value is a value")
    def _():
        node.put(bucket, b"empty", b"")
        assert node.get(bucket, b"empty").value == b""

    @check("the empty bucket name is `default`")
    def _():
        key = bucket.encode()
        node.put("", key, b"v")
        assert node.get("default", key).value == b"v"
        assert node.delete("default", key).existed
        assert node.get("", key) is None

    @check("Kv.Put with conditions")
    def _():
        absent = drey.Condition(version_is=0)
        first = node.put(bucket, b"cond", b"1", condition=absent)
        assert first.applied
        assert not node.put(bucket, b"cond", b"2", condition=absent).applied
        assert node.get(bucket, b"cond").value == b"1"
        assert not node.put(bucket, b"cond", b"2", condition=drey.Condition(version_is=first.version + 1)).applied
        assert node.put(bucket, b"cond", b"2", condition=drey.Condition(version_is=first.version)).applied
        assert not node.put(bucket, b"cond", b"3", condition=drey.Condition(value_is=b"1")).applied
        assert node.put(bucket, b"cond", b"3", condition=drey.Condition(value_is=b"2")).applied
        assert node.put(bucket, b"cond", b"4", condition=drey.Condition(exists=True)).applied
        assert not node.put(bucket, b"cond", b"5", condition=drey.Condition(exists=False)).applied
        assert node.get(bucket, b"cond").value == b"4"

    @check("Kv.Delete removes, with conditions and without")
    def _():
        version = node.put(bucket, b"gone", b"1").version
        assert not node.delete(bucket, b"gone", condition=drey.Condition(version_is=version + 1)).applied
        answer = node.delete(bucket, b"gone", condition=drey.Condition(version_is=version), return_previous=True)
        assert answer.applied and answer.existed and answer.previous.value == b"1", answer
        assert node.get(bucket, b"gone") is None
        assert not node.delete(bucket, b"gone").existed

    @check("Kv.Batch applies in order, under one version")
    def _():
        node.put(bucket, b"batch-old", b"1")
        answer = node.batch(bucket, put_op(b"batch-a", b"1"), put_op(b"batch-a", b"2"), put_op(b"batch-b", b"1"),
                            drey.Op(delete=drey.DeleteOp(key=b"batch-old")), drey.Op(get=b"batch-a"))
        assert len(answer.results) == 5 and answer.results[4].entry.value == b"2", answer
        entries = [node.get(bucket, key) for key in (b"batch-a", b"batch-b")]
        assert [entry.value for entry in entries] == [b"2", b"1"]
        assert {entry.version for entry in entries} == {answer.version}
        assert node.get(bucket, b"batch-old") is None

    @check("Kv.Batch applies nothing if one operation is bad")
    def _():
        expect_error(lambda: node.batch(bucket, put_op(b"batch-bad", b"1"), put_op(b"", b"1")),
                     grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")
        assert node.get(bucket, b"batch-bad") is None


    @check("Kv.Batch adds to numbers and appends to values")
    def _():
        increment = drey.Op(increment=drey.IncrementOp(key=b"counter", by=5))
        append = drey.Op(append=drey.AppendOp(key=b"text", value=b"ab"))
        answer = node.batch(bucket, increment, append)
        assert answer.results[0].entry.value == b"5", answer
        answer = node.batch(bucket, drey.Op(increment=drey.IncrementOp(key=b"counter", by=-7)), append)
        assert answer.results[0].entry.value == b"-2", answer
        assert node.get(bucket, b"text").value == b"abab"
        node.put(bucket, b"counter", b"many")
        expect_error(lambda: node.batch(bucket, append, increment),
                     grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")
        assert node.get(bucket, b"text").value == b"abab"

    @check("Kv.Txn compares and does one of two lists")
    def _():
        def txn(expected):
            request = drey.TxnRequest(
                bucket=bucket,
                compare=[drey.Compare(key=b"txn", condition=drey.Condition(value_is=expected))],
                success=[put_op(b"txn", b"2")],
                failure=[drey.Op(get=b"txn")])
            return node.kv.Txn(request, timeout=TIMEOUT_S)

        node.put(bucket, b"txn", b"1")
        refused = txn(b"0")
        assert not refused.succeeded and refused.results[0].entry.value == b"1", refused
        assert txn(b"1").succeeded
        assert node.get(bucket, b"txn").value == b"2"


def check_times_to_live(node, bucket):
    def expire(key, **fields):
        return node.kv.Expire(drey.ExpireRequest(bucket=bucket, key=key, **fields), timeout=TIMEOUT_S)

    def gone_at(key):
        while node.get(bucket, key) is not None:
            time.sleep(0.01)
        return time.monotonic()

    @check("Kv.Put with ttl_ms: the key is there so long, and not much longer")
    def _():
        begun = time.monotonic()
        node.put(bucket, b"ttl", b"v", ttl_ms=700)
        written = time.monotonic()
        left = node.get(bucket, b"ttl").ttl_ms
        assert 1 <= left <= 700, left
        gone = gone_at(b"ttl")
        assert gone - begun >= 0.7, "gone early"
        assert gone - written < 0.7 + TIMEOUT_S, "gone late"

    @check("Kv.Expire sets, clears, and knows what is not there")
    def _():
        version = node.put(bucket, b"ttl-changed", b"v", ttl_ms=60_000).version
        answer = expire(b"ttl-changed", ttl_ms=5_000)
        assert answer.existed and answer.version > version, answer
        entry = node.get(bucket, b"ttl-changed")
        assert entry.ttl_ms <= 5_000 and entry.version == answer.version and entry.value == b"v", entry
        assert expire(b"ttl-changed").existed
        assert not node.get(bucket, b"ttl-changed").HasField("ttl_ms")
        assert not expire(b"ttl-nobody", ttl_ms=5_000).existed
        expect_error(lambda: expire(b"ttl-changed", ttl_ms=0), grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")

    @check("a bucket gives its default_ttl_ms to what is written without")
    def _():
        short = bucket + "-short"
        made = node.buckets.Create(drey.CreateBucketRequest(name=short, default_ttl_ms=60_000), timeout=TIMEOUT_S)
        assert made.bucket.default_ttl_ms == 60_000, made
        node.put(short, b"k", b"v")
        node.batch(short, drey.Op(put=drey.PutOp(key=b"own", value=b"v", ttl_ms=5_000)))
        assert 5_000 < node.get(short, b"k").ttl_ms <= 60_000
        assert node.get(short, b"own").ttl_ms <= 5_000
        node.buckets.Drop(drey.DropBucketRequest(name=short), timeout=TIMEOUT_S)


def check_sessions(node, bucket):
    def open_session():
        return node.kv.OpenSession(drey.OpenSessionRequest(bucket=bucket), timeout=TIMEOUT_S).session

    @check("Kv.OpenSession: a write that is made again is applied once, and answered alike")
    def _():
        session = open_session()
        request_id = drey.RequestId(session=session, sequence=1, first_unacked=1)
        absent = drey.Condition(version_is=0)
        first = node.put(bucket, b"once", b"1", condition=absent, id=request_id)
        again = node.put(bucket, b"once", b"1", condition=absent, id=request_id)
        assert first.applied and again == first, (first, again)
        assert not node.put(bucket, b"once", b"1", condition=absent).applied

    @check("a session that is not there has expired")
    def _():
        unknown = drey.RequestId(session=open_session() + 1000, sequence=1, first_unacked=1)
        expect_error(lambda: node.put(bucket, b"never", b"1", id=unknown),
                     grpc.StatusCode.FAILED_PRECONDITION, "session_expired")
        assert node.get(bucket, b"never") is None


def check_scans(node, bucket):
    keys = [f"scan/{number:04}".encode() for number in range(2000)]

    @check("Kv.Scan reads 2,000 entries in order")
    def _():
        for first in range(0, len(keys), 500):
            node.batch(bucket, *(put_op(key, b"v" * 100) for key in keys[first:first + 500]))
        entries, more = node.scan(bucket, prefix=b"scan/")
        assert [entry.key for entry in entries] == keys and not more, len(entries)
        assert all(entry.value == b"v" * 100 and entry.version > 0 for entry in entries)

    @check("Kv.Scan takes bounds, limit, direction, keys_only")
    def _():
        entries, more = node.scan(bucket, start=keys[10], end=keys[20])
        assert [entry.key for entry in entries] == keys[10:20] and not more
        entries, more = node.scan(bucket, prefix=b"scan/", limit=5)
        assert [entry.key for entry in entries] == keys[:5] and more
        entries, more = node.scan(bucket, prefix=b"scan/", limit=3, reverse=True)
        assert [entry.key for entry in entries] == keys[:-4:-1] and more
        entries, _ = node.scan(bucket, prefix=b"scan/", keys_only=True)
        assert [entry.key for entry in entries] == keys and not any(entry.value for entry in entries)
        entries, _ = node.scan(bucket, start=keys[1990], end=keys[1995] + b"\0", reverse=True)
        assert [entry.key for entry in entries] == keys[1995:1989:-1]

    @check("Kv.Scan of nothing is empty")
    def _():
        assert node.scan(bucket, prefix=b"no such prefix") == ([], False)

    @check("Kv.Scan without a range has everything")
    def _():
        entries = [entry for chunk in node.kv.Scan(drey.ScanRequest(bucket=bucket), timeout=TIMEOUT_S)
                   for entry in chunk.entries]
        assert len(entries) >= len(keys)
        assert [entry.key for entry in entries] == sorted(entry.key for entry in entries)

    @check("Kv.Scan refuses a bound that is too long")
    def _():
        expect_error(lambda: node.scan(bucket, start=b"k" * 70_000),
                     grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")

    @check("Kv.Scan of an unknown bucket is refused")
    def _():
        expect_error(lambda: node.scan(bucket + "-not"), grpc.StatusCode.NOT_FOUND, "bucket_not_found")


def check_errors(node, bucket):
    invalid = (grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")
    bad_keys = [("an empty key", b""), ("a key of 4,097 bytes", b"k" * (KEY_BYTES_MAX + 1)),
                ("a key of 70,000 bytes", b"k" * 70_000)]
    for name, key in bad_keys:
        @check(f"Get, Put and Delete refuse {name}")
        def _(key=key):
            expect_error(lambda: node.get(bucket, key), *invalid)
            expect_error(lambda: node.put(bucket, key, b"v"), *invalid)
            expect_error(lambda: node.delete(bucket, key), *invalid)

    @check("the longest key and the largest value are taken")
    def _():
        key, value = b"k" * KEY_BYTES_MAX, os.urandom(VALUE_BYTES_MAX)
        node.put(bucket, key, value)
        assert node.get(bucket, key).value == value

    for name, size in [("one byte too many", VALUE_BYTES_MAX + 1), ("5 MiB", 5 << 20)]:
        @check(f"Put refuses a value of {name}")
        def _(size=size):
            expect_error(lambda: node.put(bucket, b"large", b"v" * size), *invalid)
            assert node.get(bucket, b"large") is None

    @check("every call refuses an unknown bucket")
    def _():
        unknown = (grpc.StatusCode.NOT_FOUND, "bucket_not_found")
        missing = bucket + "-not"
        expect_error(lambda: node.get(missing, b"k"), *unknown)
        expect_error(lambda: node.put(missing, b"k", b"v"), *unknown)
        expect_error(lambda: node.delete(missing, b"k"), *unknown)
        expect_error(lambda: node.batch(missing, put_op(b"k", b"v")), *unknown)

    @check("a bucket name that cannot be is refused")
    def _():
        expect_error(lambda: node.put("a/b", b"k", b"v"), *invalid)

    @check("a condition without a test is refused")
    def _():
        expect_error(lambda: node.put(bucket, b"k", b"v", condition=drey.Condition()), *invalid)
        expect_error(lambda: node.delete(bucket, b"k", condition=drey.Condition()), *invalid)

    @check("a deadline that cannot be met ends the call, and the node goes on")
    def _():
        # gRPC rounds short time limits up, and a node may well be faster: so the largest batch, and several tries.
        request = drey.BatchRequest(bucket=bucket, ops=[put_op(f"late-{number}".encode(), b"v" * 400)
                                                        for number in range(BATCH_OPS_MAX)])
        for _ in range(100):
            try:
                node.kv.Batch(request, timeout=0.001)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error.code()
                break
        else:
            raise AssertionError("a millisecond was enough a hundred times")
        assert node.put(bucket, b"in time", b"v").applied

    @check("garbage on the port ends that connection, and the node goes on")
    def _():
        host, _, port = node.address.rpartition(":")
        for garbage in [b"\x00\xff" * 500, b"GARBAGE / NOTHING\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500]:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_S) as connection:
                connection.sendall(garbage)
                try:
                    while connection.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
        assert node.put(bucket, b"after garbage", b"v").applied


def check_cluster(node):
    @check("Cluster.Status shows the node, its members and its groups")
    def _():
        status = node.cluster.Status(drey.StatusRequest(), timeout=TIMEOUT_S)
        members = {member.id: member for member in status.members}
        assert status.node in members and members[status.node].address, status
        assert status.cluster and status.version and status.engine and status.shards >= 1, status
        groups = sorted(group.id for group in status.groups)
        assert len(groups) >= 2 and groups == list(range(groups[0], groups[0] + len(groups))) and groups[0] in (0, 1)
        assert all(group.leader in members for group in status.groups if group.id > 0), "a group has no leader"

    @check("Cluster.Join keeps a place, once, and Cluster.Remove gives it up")
    def _():
        name, address = f"py-{os.urandom(3).hex()}", f"127.0.0.1:{1 + os.urandom(1)[0]}"
        request = drey.JoinRequest(name=name, address=address)
        first = node.cluster.Join(request, timeout=TIMEOUT_S)
        assert name in [member.name for member in first.members] and first.groups >= 1, first
        assert node.cluster.Join(request, timeout=TIMEOUT_S).id == first.id
        elsewhere = drey.JoinRequest(name=name, address="127.0.0.1:9", incarnation=7)
        refused = (grpc.StatusCode.FAILED_PRECONDITION, "refused")
        expect_error(lambda: node.cluster.Join(elsewhere, timeout=TIMEOUT_S), *refused)
        foreign = drey.JoinRequest(name=name, address=address, cluster="0" * 32)
        expect_error(lambda: node.cluster.Join(foreign, timeout=TIMEOUT_S), *refused)
        assert node.cluster.Remove(drey.RemoveRequest(name=name), timeout=TIMEOUT_S).id == first.id
        deadline = time.monotonic() + TIMEOUT_S
        while name in [member.name for member in node.cluster.Status(drey.StatusRequest(), timeout=TIMEOUT_S).members]:
            assert time.monotonic() < deadline, "it does not go"
            time.sleep(0.05)

    @check("Cluster.Join, Remove and TransferLeader refuse what cannot be")
    def _():
        invalid = (grpc.StatusCode.INVALID_ARGUMENT, "invalid_argument")
        for name, address in [("", "h:1"), ("a b", "h:1"), ("ok", "nowhere"), ("ok", "h:99999")]:
            request = drey.JoinRequest(name=name, address=address)
            expect_error(lambda request=request: node.cluster.Join(request, timeout=TIMEOUT_S), *invalid)
        missing = (grpc.StatusCode.NOT_FOUND, "not_found")
        expect_error(lambda: node.cluster.Remove(drey.RemoveRequest(name="nobody"), timeout=TIMEOUT_S), *missing)
        expect_error(lambda: node.cluster.Remove(drey.RemoveRequest(id=1 << 40), timeout=TIMEOUT_S), *missing)
        to_nobody = drey.TransferLeaderRequest(to=1 << 40)
        expect_error(lambda: node.cluster.TransferLeader(to_nobody, timeout=TIMEOUT_S), *missing)

    @check("Cluster.Status tells the limits")
    def _():
        limits = {limit.name: limit for limit in node.cluster.Status(drey.StatusRequest(), timeout=TIMEOUT_S).limits}
        wanted = {"requests_pending", "unapplied_bytes", "uncommitted_bytes", "views", "link_bytes", "inbox_requests"}
        assert wanted <= set(limits) and all(limit.max > 0 for limit in limits.values()), limits

    for service in ["", "drey.v1.Kv", "drey.v1.Buckets", "drey.v1.Cluster"]:
        @check(f"health of {service or 'the node'}")
        def _(service=service):
            answer = node.health.Check(health.HealthCheckRequest(service=service), timeout=TIMEOUT_S)
            assert answer.status == health.HealthCheckResponse.SERVING, answer

    @check("health of a service that is not there")
    def _():
        try:
            node.health.Check(health.HealthCheckRequest(service="no.such.Service"), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error.code()
        else:
            raise AssertionError("a service that does not exist is said to be well")


def check_other(node, other, bucket):
    @check(f"{other.address} answers as {node.address} does")
    def _():
        node.put(bucket, b"shared", b"1")
        assert other.get(bucket, b"shared").value == b"1"
        other.put(bucket, b"shared", b"2")
        assert node.get(bucket, b"shared").value == b"2"
        entries, _ = other.scan(bucket, prefix=b"shared")
        assert [entry.value for entry in entries] == [b"2"]
        assert other.delete(bucket, b"shared").existed
        assert node.get(bucket, b"shared") is None
        mine, theirs = (each.cluster.Status(drey.StatusRequest(), timeout=TIMEOUT_S) for each in (node, other))
        assert mine.cluster == theirs.cluster and mine.node != theirs.node


def check_drop(node, bucket):
    def drop():
        return node.buckets.Drop(drey.DropBucketRequest(name=bucket), timeout=TIMEOUT_S)

    @check("Buckets.Drop drops the bucket and all in it")
    def _():
        assert drop().existed
        expect_error(lambda: node.get(bucket, b"alice"), grpc.StatusCode.NOT_FOUND, "bucket_not_found")
        assert not drop().existed

    @check("a bucket made again is empty")
    def _():
        node.buckets.Create(drey.CreateBucketRequest(name=bucket), timeout=TIMEOUT_S)
        assert node.scan(bucket) == ([], False)
        assert drop().existed


def main(addresses):
    bucket = f"python-{os.urandom(4).hex()}"
    node = Node(addresses[0])
    check_cluster(node)
    check_buckets(node, bucket)
    check_pairs(node, bucket)
    check_times_to_live(node, bucket)
    check_sessions(node, bucket)
    check_scans(node, bucket)
    check_errors(node, bucket)
    for address in addresses[1:]:
        check_other(node, Node(address), bucket)
    check_drop(node, bucket)
    print(f"{len(PASSED)} passed, {len(FAILED)} failed")
    return 1 if FAILED else 0


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as stubs:
        generate_stubs(stubs)
        import drey_pb2 as drey
        import drey_pb2_grpc as drey_grpc
        import health_pb2 as health
        import health_pb2_grpc as health_grpc

        sys.exit(main(sys.argv[1:]))
