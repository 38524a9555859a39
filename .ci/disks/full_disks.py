"""Disks fill up, and have room again: what clients, the status and the log say, and that all is well afterwards.

Three nodes, each on a file system of its own. Somebody else's file takes the room: on one node, then on two, and then all of it.
"""

import sys
import time

from cluster import Cluster
from ext4 import Disk, programs_are_there
from fresh_reads import read_through
from service import Service, generate_stubs, grpc, refused, until_answered
from verdict import check, note, play
from writers import Writers

BUCKETS = [f"bucket-{number}" for number in range(8)]
WRITERS = 24
DISK_BYTES = 1 << 30
# So much that what is written in the few seconds between two steps does not use it up.
RESERVE_BYTES = 256 << 20
LOAD_S = 3
# Others lead at once, or nearly so.
LED_BY_OTHERS_WITHIN_S = 10
SERVED_WITHIN_S = 30
FULL_S = 10

# Put to see whether it is refused.
ASKED = b"one more"


def script(cleanup, directory):
    programs_are_there()
    disks = {}
    for name in ("n1", "n2", "n3"):
        disk = disks[name] = Disk(directory / f"{name}.img", directory / name, DISK_BYTES)
        cleanup.callback(disk.unmount)
        disk.mount()
    stubs = directory / "stubs"
    stubs.mkdir()
    generate_stubs(stubs)

    data_dirs = [directory / name / "data" for name in disks]
    cluster = Cluster(directory, data_dirs, ["--min-free-disk", str(RESERVE_BYTES), "--engine", engine()])
    note(f"engine {engine()}")
    cleanup.callback(cluster.kill)
    cluster.start()
    services = {node.name: Service(node.address) for node in cluster.nodes}
    for bucket in BUCKETS:
        until_answered(lambda: services["n1"].create(bucket), 30, "a bucket is created", cluster.must_run)
    writers = Writers(services, BUCKETS, WRITERS)
    cleanup.callback(writers.stop)
    begun_at = time.monotonic()
    writers.start(large=False)
    served_again(writers, begun_at, "from the start")
    time.sleep(LOAD_S)

    fill_one(cluster, disks, services, writers)
    fill_two(cluster, disks, services, writers)
    fill_to_the_last_byte(cluster, disks, services, writers)
    start_on_a_full_disk(cluster)

    for disk in disks.values():
        disk.clear()
    served_again(writers, time.monotonic(), "with room again")
    time.sleep(LOAD_S)
    writers.stop()
    acks, lost = len(writers.acks()), writers.wrong()
    for sentence in lost[:20]:
        note(sentence)
    check(not lost, f"all {acks} acknowledged writes are there, on every node")
    note(f"{writers.unknown()} outcomes are unknown; errors that writers saw: {dict(writers.errors())}")
    levels = {name: service.room().level for name, service in services.items()}
    check(set(levels.values()) == {"enough"}, f"every node says that it has room: {levels}")
    cluster.must_run()
    check(True, "no process ended")
    for node in cluster.nodes:
        again = node.log.read_text().count("starts again when there is room")
        note(f"{node.name} began anew {again} times, for want of room")


def engine():
    return sys.argv[sys.argv.index("--engine") + 1] if "--engine" in sys.argv else "lsm"


def fill_one(cluster, disks, services, writers):
    """The others have room: whoever led with the full one hands over, and no client notices."""
    leaders = leaders_of(services["n3"])
    name = max(("n1", "n2"), key=list(leaders.values()).count)
    errors = writers.errors()
    disks[name].fill(RESERVE_BYTES // 2)
    filled_at = time.monotonic()
    until_answered_so(lambda: name not in leaders_of(services["n3"]).values(), LED_BY_OTHERS_WITHIN_S)
    check(name not in leaders_of(services["n3"]).values(),
          f"{name}, whose disk filled up, leads none of the {len(BUCKETS)} buckets after"
          f" {time.monotonic() - filled_at:.1f} s; it led {list(leaders.values()).count(name)}")
    served_again(writers, filled_at, f"with the disk of {name} nearly full")
    time.sleep(LOAD_S)
    room = services[name].room()
    check(room.level == "low" and room.free_bytes < room.reserve_bytes == RESERVE_BYTES,
          f"{name} says so: level {room.level}, {room.free_bytes >> 20} MiB free, {room.reserve_bytes >> 20} MiB kept")
    check((writers.errors() - errors)["quota_exceeded"] == 0, "no write was refused for it")
    # Once it has seen that, it takes no more: to the last byte at once, and its store would fail over what is on its way.
    disks[name].fill(RESERVE_BYTES // 8)
    until_answered_so(lambda: services[name].room().level == "exhausted", LED_BY_OTHERS_WITHIN_S)
    time.sleep(1)
    disks[name].fill(0)
    read_through(name, services, BUCKETS, FULL_S, f"with the disk of {name} full to the last byte")
    note(f"it is {behind(services, name)} entries behind then")
    cluster.must_run()


def fill_two(cluster, disks, services, writers):
    """No majority has room: what needs it is refused, what removes something is not, reads go on."""
    for name, disk in disks.items():
        if name != "n3":
            disk.fill(RESERVE_BYTES // 2)
    until_answered_so(lambda: all(refused_for_room(services["n3"], bucket) for bucket in BUCKETS), LED_BY_OTHERS_WITHIN_S)
    told = [refused_for_room(service, bucket) for service in services.values() for bucket in BUCKETS]
    check(all(told), "with the disks of n1 and n2 nearly full, puts are refused through every node and in every bucket")
    for bucket in BUCKETS:
        # The first that asked may have come before all leaders knew.
        services["n3"].delete(bucket, ASKED)
    note(f"a client is told: {told[0]}")
    read = [len(service.entries(bucket)) for service in services.values() for bucket in BUCKETS]
    check(all(read), "reads go on, through every node and in every bucket")
    try:
        for number, service in enumerate(services.values()):
            for bucket in BUCKETS:
                service.delete(bucket, f"not-there-{number}".encode())
        check(True, "and so do deletes")
    except grpc.RpcError as error:
        check(False, f"and so do deletes: {refused(error)}: {error.details()}")
    cluster.must_run()


def fill_to_the_last_byte(cluster, disks, services, writers):
    """Nothing is written any more. Nobody ends, and reads go on."""
    for disk in disks.values():
        disk.fill(0)
    acked = len(writers.acks())
    until = time.monotonic() + FULL_S
    read, failed = 0, []
    while time.monotonic() < until:
        for name, service in services.items():
            for bucket in BUCKETS:
                try:
                    read += bool(service.entries(bucket))
                except grpc.RpcError as error:
                    failed.append(f"{name}: {refused(error)}: {error.details()}")
    check(read and not failed, f"with all disks full to the last byte for {FULL_S} s, all {read} reads are answered")
    for sentence in failed[:5]:
        note(sentence)
    note(f"{len(writers.acks()) - acked} puts were acknowledged meanwhile")
    levels = {name: service.room().level for name, service in services.items()}
    check(set(levels.values()) == {"exhausted"}, f"every node says so: {levels}")
    cluster.must_run()


def start_on_a_full_disk(cluster):
    """Who is killed meanwhile, and started again, waits for room if it needs some, and does not give up."""
    node = cluster.nodes[0]
    node.kill()
    node.wait()
    node.start(cluster.members)
    time.sleep(LOAD_S)
    check(node.process.poll() is None, f"{node.name} was killed, and started on a full disk, and goes on or waits")


def behind(services, name):
    """How many entries others have applied that this node has not, all groups together."""
    applied = {other: service.applied() for other, service in services.items()}
    return sum(max(found[group] for found in applied.values()) - applied[name][group] for group in applied[name])


def leaders_of(service):
    return {bucket: service.leader(bucket) for bucket in BUCKETS}


def refused_for_room(service, bucket):
    """What the client is told, or nothing if a put is not refused for want of room."""
    try:
        service.put(bucket, ASKED, b"value", 5)
    except grpc.RpcError as error:
        return error.details() if refused(error) == "quota_exceeded" else None
    return None


def until_answered_so(is_so, seconds_max):
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline and not is_so():
        time.sleep(0.1)


def served_again(writers, moment, when):
    """Waits for acknowledgements through every node and in every bucket."""
    seconds = writers.wait_until_served(moment, SERVED_WITHIN_S)
    acks = writers.acks(begun_after=moment)
    first = f"the first after {acks[0].ended - moment:.2f} s" if acks else "none"
    check(seconds is not None, f"{when}, puts are acknowledged through every node and in every bucket:"
                               f" {first}, all after {seconds or SERVED_WITHIN_S:.2f} s")


if __name__ == "__main__":
    play(script, seconds_max=170)
