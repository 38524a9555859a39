"""Files of a stopped node are damaged, one way after the other. What becomes of it is counted.

With two healthy peers the node gets whole again by itself, whatever it was: nothing acknowledged is lost, nothing else is read from it. Alone
it stops, with an error that names the file, or it was not damage (the end of what was not synced), and it reads as before.
"""

import argparse
import collections
import random
import shutil
import time

from cluster import Cluster
from service import Service, generate_stubs, grpc, refused
from verdict import Failed, check, note, play

BUCKETS = [f"bucket-{number}" for number in range(4)]
KEYS = 300
VALUE_BYTES = 400
MEMBER_WITHIN_S = 60
STARTS_WITHIN_S = 40

KINDS = {
    "the identity": ["identity.json"],
    "the peers": ["peers.json"],
    "the list of members": ["members.json"],
    "the log's owner": ["log/owner.json"],
    "a log segment": ["log/*.log"],
    "a file of the store": ["store/**/*"],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=25)
    parser.add_argument("--alone", type=int, default=15, help="cases on a node that stands alone")
    parser.add_argument("--engine", default="lsm")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def flip(path, rng):
    size = path.stat().st_size
    with path.open("r+b") as file:
        at = rng.randrange(size)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))
    return f"a bit of byte {at} of {size} flipped"


def flip_many(path, rng):
    for _ in range(20):
        flip(path, rng)
    return "20 bits flipped"


def truncate(path, rng):
    size = path.stat().st_size
    left = rng.randrange(size)
    with path.open("r+b") as file:
        file.truncate(left)
    return f"cut from {size} to {left} bytes"


def zero(path, rng):
    size = path.stat().st_size
    at = rng.randrange(size) // 4096 * 4096
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(min(4096, size - at)))
    return f"4 KiB at {at} of {size} zeroed"


def delete(path, _rng):
    path.unlink()
    return "deleted"


WAYS = [flip, flip_many, truncate, zero, delete]


def damage(data_dir, kind, rng):
    """Damages one file of this kind. What was done to which."""
    files = [path for pattern in KINDS[kind] for path in sorted(data_dir.glob(pattern))]
    files = [path for path in files if path.is_file() and path.stat().st_size]
    if not files:
        return None
    path = rng.choice(files)
    before = path.read_bytes()
    for _ in range(20):
        told = rng.choice(WAYS)(path, rng)
        if not path.exists() or path.read_bytes() != before:
            return f"{path.relative_to(data_dir)}: {told}"
        # A block of a preallocated file may be zero already.
    path.unlink()
    return f"{path.relative_to(data_dir)}: deleted"


def fill(service, values, cluster):
    for bucket in BUCKETS:
        for number in range(KEYS):
            key = f"key-{number:04}".encode()
            value = f"{bucket} {number} {len(values)} ".encode().ljust(VALUE_BYTES, b"v")
            service.put(bucket, key, value, 20)
            values[bucket, key] = value
    cluster.must_run()


def is_right(service, values):
    """What is wrong with what a node says, or nothing: a scan of each bucket."""
    for bucket in BUCKETS:
        found = {key: value for key, (value, _) in service.entries(bucket).items()}
        wanted = {key: value for (name, key), value in values.items() if name == bucket}
        if found != wanted:
            wrong = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
            return f"{bucket} is wrong at {len(wrong)} keys, as {sorted(wrong)[0]!r}"
    return None


def until_member(service, name, count, seconds):
    """Waits until a node says that it, under its name, votes in all groups, with the others."""
    deadline, last = time.monotonic() + seconds, "it does not answer"
    while time.monotonic() < deadline:
        try:
            status = service.cluster.Status(service.messages.StatusRequest(), timeout=2)
            voters = [member for member in status.members if member.role == service.messages.Member.VOTER]
            if status.name == name and len(voters) == len(status.members) == count and all(
                    group.leader for group in status.groups):
                return status.node
            last = f"{len(voters)} of {len(status.members)} members vote"
        except grpc.RpcError as error:
            last = f"{refused(error)}: {error.details()}"
        time.sleep(0.1)
    raise Failed(f"{name} is no member again after {seconds} s: {last}")


def script(cleanup, directory, options):
    stubs = directory / "stubs"
    stubs.mkdir()
    generate_stubs(stubs)
    note(f"engine {options.engine}, seed {options.seed}")
    with_peers(cleanup, directory, options)
    alone(cleanup, directory, options)


def with_peers(cleanup, directory, options):
    rng = random.Random(options.seed)
    data_dirs = [directory / name / "data" for name in ("n1", "n2", "n3")]
    cluster = Cluster(directory, data_dirs, ["--min-free-disk", "0", "--engine", options.engine])
    cleanup.callback(cluster.kill)
    cluster.start()
    services = {node.name: Service(node.address) for node in cluster.nodes}
    ids = {node.name: until_member(services[node.name], node.name, 3, 30) for node in cluster.nodes}
    for bucket in BUCKETS:
        services["n1"].create(bucket)
    values, outcomes, wrong, late = {}, collections.Counter(), [], []
    for case in range(options.cases):
        kind = list(KINDS)[case % len(KINDS)]
        node = cluster.nodes[case % len(cluster.nodes)]
        fill(services[cluster.nodes[(case + 1) % 3].name], values, cluster)
        node.kill() if rng.random() < 0.5 else node.process.terminate()
        node.wait()
        told = damage(node.data_dir, kind, rng)
        if told is None:
            told = "nothing: there is none"
        before = len(node.log.read_text())
        node.start(cluster.members)
        if case % 4 == 3:
            # In the middle of whatever it does about it.
            time.sleep(rng.uniform(0, 1.5))
            node.kill()
            node.wait()
            node.start(cluster.members)
            told += ", and killed again"
        try:
            now = until_member(services[node.name], node.name, 3, MEMBER_WITHIN_S)
        except Failed as error:
            late.append(f"case {case}, {node.name}, {told}: {error}")
            break
        said = node.log.read_text()[before:]
        outcome = "repaired" if now != ids[node.name] else "went on"
        ids[node.name] = now
        outcomes[kind, outcome] += 1
        if "panicked" in said and outcome != "repaired":
            wrong.append(f"case {case}, {node.name}, {told}: it panicked")
        try:
            why = is_right(services[node.name], values)
        except grpc.RpcError:
            # Reading found it.
            now = until_member(services[node.name], node.name, 3, MEMBER_WITHIN_S)
            outcomes[kind, "repaired when it was read"] += now != ids[node.name]
            ids[node.name] = now
            why = is_right(services[node.name], values)
        if why:
            wrong.append(f"case {case}, {node.name}, {told}, {outcome}: {why}")
    for sentence in wrong[:20] + late:
        note(sentence)
    for (kind, outcome), count in sorted(outcomes.items()):
        note(f"{kind}: {outcome} {count} times")
    check(not late, f"with two healthy peers a node with damaged files is a member again within {MEMBER_WITHIN_S} s,"
                    f" {sum(outcomes.values())} of {options.cases} times")
    check(not wrong, "and says what was written, and nothing else")
    cluster.kill()


def alone(cleanup, directory, options):
    rng = random.Random(options.seed + 1)
    origin = directory / "origin"
    (directory / "alone").mkdir()
    cluster = Cluster(directory / "alone", [origin], ["--min-free-disk", "0", "--engine", options.engine])
    cleanup.callback(cluster.kill)
    cluster.start()
    node = cluster.nodes[0]
    service = Service(node.address)
    until_member(service, "n1", 1, 30)
    for bucket in BUCKETS:
        service.create(bucket)
    values, outcomes, wrong = {}, collections.Counter(), []
    fill(service, values, cluster)
    node.process.terminate()
    node.wait()
    whole = directory / "whole"
    shutil.copytree(node.data_dir, whole)
    for case in range(options.alone):
        kind = list(KINDS)[case % len(KINDS)]
        shutil.rmtree(node.data_dir)
        shutil.copytree(whole, node.data_dir)
        told = damage(node.data_dir, kind, rng) or "nothing: there is none"
        before = len(node.log.read_text())
        node.start(cluster.members)
        outcome = starts_or_ends(node, service)
        said = node.log.read_text()[before:]
        if outcome == "went on":
            try:
                why = is_right(service, values)
            except grpc.RpcError:
                # Reading found it: then it ends, and says why.
                node.wait()
                outcome = f"ended when it was read, with {node.process.returncode}"
                why = None if "damaged" in node.log.read_text()[before:] else "ended without a reason"
            node.kill()
            node.wait()
            if why:
                wrong.append(f"case {case}, {told}: it went on, and {why}")
        elif "panicked at" in said.replace("the engine panicked", ""):
            wrong.append(f"case {case}, {told}: it panicked: {said[-300:]}")
        elif str(node.data_dir) not in said and ".log" not in said:
            wrong.append(f"case {case}, {told}: it names no file: {said[-300:]}")
        outcomes[kind, outcome] += 1
    for sentence in wrong[:20]:
        note(sentence)
    for (kind, outcome), count in sorted(outcomes.items()):
        note(f"alone, {kind}: {outcome} {count} times")
    check(not wrong, f"alone, a node with damaged files stops with an error that names the file, or reads as before, {options.alone} times")


def starts_or_ends(node, service):
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        if node.process.poll() is not None:
            return f"ended with {node.process.returncode}"
        try:
            service.cluster.Status(service.messages.StatusRequest(), timeout=1)
            return "went on"
        except grpc.RpcError:
            time.sleep(0.05)
    raise Failed("a node neither answers nor ends")


if __name__ == "__main__":
    given = arguments()
    play(lambda cleanup, directory: script(cleanup, directory, given),
         seconds_max=120 + given.cases * (MEMBER_WITHIN_S + 5) + given.alone * 60)
