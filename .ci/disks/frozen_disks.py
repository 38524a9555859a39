"""While the disks of a quorum take no write, no write is acknowledged. That a write is synced as well, power_cut.py shows.

Three nodes; the data of n1 and n2 lie on file systems of their own. While `fsfreeze` holds one, a write to it waits,
and does not fail.
"""

import time

from cluster import Cluster
from ext4 import Disk, programs_are_there
from fresh_reads import read_through
from service import Service, generate_stubs, until_answered
from verdict import check, note, play
from writers import Writers

BUCKETS = [f"bucket-{number}" for number in range(8)]
WRITERS = 24
DISK_BYTES = 400 << 20
LOAD_S = 3
FROZEN_S = 5
# After a thaw. Elections, and what clients need to connect again, are within.
SERVED_WITHIN_S = 20


def script(cleanup, directory):
    programs_are_there("fsfreeze")
    disks = {}
    for name in ("n1", "n2"):
        disk = disks[name] = Disk(directory / f"{name}.img", directory / name, DISK_BYTES)
        cleanup.callback(disk.unmount)
        disk.mount()
    stubs = directory / "stubs"
    stubs.mkdir()
    generate_stubs(stubs)

    cluster = Cluster(directory, [directory / name / "data" for name in ("n1", "n2", "n3")],
                      ["--min-free-disk", "16MiB"])
    cleanup.callback(cluster.kill)
    for disk in disks.values():
        cleanup.callback(disk.release)
    cluster.start()
    services = {node.name: Service(node.address) for node in cluster.nodes}
    for bucket in BUCKETS:
        until_answered(lambda: services["n1"].create(bucket), 30, "a bucket is created", cluster.must_run)
    writers = Writers(services, BUCKETS, WRITERS)
    cleanup.callback(writers.stop)
    begun_at = time.monotonic()
    writers.start(large=True)
    served_again(writers, begun_at, "from the start")
    time.sleep(LOAD_S)

    freeze_one(cluster, disks, services, writers)
    time.sleep(LOAD_S)
    freeze_two(cluster, disks, writers)
    time.sleep(LOAD_S)

    writers.stop()
    acks, lost = len(writers.acks()), writers.wrong()
    for sentence in lost[:20]:
        note(sentence)
    check(not lost, f"all {acks} acknowledged writes are there, on every node")
    note(f"{writers.unknown()} outcomes are unknown; errors that writers saw: {dict(writers.errors())}")
    cluster.must_run()
    check(True, "no node ended")


def freeze_one(cluster, disks, services, writers):
    """A quorum has two disks left, so writes go on: whoever led with the frozen one hands over. So do reads, through it as well."""
    service = services["n3"]
    leaders = {bucket: service.leader(bucket) for bucket in BUCKETS}
    name = max(disks, key=list(leaders.values()).count)
    led = [bucket for bucket in BUCKETS if leaders[bucket] == name]
    disks[name].freeze()
    frozen_at = time.monotonic()
    served_again(writers, frozen_at, f"with the disk of {name} frozen, which leads {len(led)} of {len(BUCKETS)} buckets")
    read_through(name, services, BUCKETS, FROZEN_S / 2, f"with the disk of {name} frozen")
    time.sleep(max(0, frozen_at + FROZEN_S - time.monotonic()))
    leaders = {bucket: service.leader(bucket) for bucket in BUCKETS}
    disks[name].thaw()
    thawed_at = time.monotonic()
    check(name not in leaders.values(), f"{name} leads none of them")
    late = [ack for ack in writers.acks(begun_after=frozen_at) if ack.ended > frozen_at + FROZEN_S - 1]
    served = {(ack.node, ack.bucket) for ack in late}
    wanted = {(node.name, bucket) for node in cluster.nodes for bucket in BUCKETS}
    check(wanted <= served, f"in the last second of {FROZEN_S}, {len(late)} puts are acknowledged, through every node and"
                            " in every bucket")
    for node, bucket in sorted(wanted - served):
        note(f"none through {node} to {bucket}, which {leaders[bucket]} leads")
    served_again(writers, thawed_at, f"with {name}'s disk thawed")
    cluster.must_run()


def freeze_two(cluster, disks, writers):
    """No quorum has a disk, so nothing is acknowledged, whoever leads."""
    for disk in disks.values():
        disk.freeze()
    frozen_at, tried = time.monotonic(), writers.tried()
    time.sleep(FROZEN_S)
    tried, acks = writers.tried() - tried, writers.acks(begun_after=frozen_at)
    cluster.must_run()
    for disk in disks.values():
        disk.thaw()
    thawed_at = time.monotonic()
    check(tried > 0 and not acks,
          f"with both disks frozen for {FROZEN_S} s, {len(acks)} of {tried} puts are acknowledged")
    served_again(writers, thawed_at, "with both disks thawed")
    cluster.must_run()


def served_again(writers, moment, when):
    """Waits for acknowledgements through every node and in every bucket."""
    seconds = writers.wait_until_served(moment, SERVED_WITHIN_S)
    acks = writers.acks(begun_after=moment)
    first = f"the first after {acks[0].ended - moment:.2f} s" if acks else "none"
    check(seconds is not None, f"{when}, puts are acknowledged through every node and in every bucket:"
                               f" {first}, all after {seconds or SERVED_WITHIN_S:.2f} s")


if __name__ == "__main__":
    play(script, seconds_max=110)
