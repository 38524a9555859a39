"""Nodes are killed at random moments, one to all of them, also in the middle of their starts and of snapshots, under writers with and
without sessions: nothing acknowledged is lost, nothing counts twice, and all replicas hold the same in the end.

`torture.py --engine btree --kills 200` for another engine, or for longer; `--seed N` for other moments.
"""

import argparse
import os
import random
import time

from cluster import Cluster
from counters import Counters
from service import Service, generate_stubs, until_answered
from verdict import Failed, check, note, play
from writers import Writers

BUCKETS = [f"bucket-{number}" for number in range(8)]
COUNTED = [f"counted-{number}" for number in range(4)]
WRITERS = 16
COUNTERS = 8
KILLS = 10
# After so many kills everything is read.
KILLS_PER_ROUND = 10
SERVED_WITHIN_S = 30
# What a kill takes at most, with its part of the reading.
KILL_S_MAX = 15
SCRUBBED_WITHIN_S = 120


def script(cleanup, directory, arguments):
    chance = random.Random(arguments.seed)
    stubs = directory / "stubs"
    stubs.mkdir()
    generate_stubs(stubs)
    cluster = Cluster(directory, [directory / name for name in ("n1", "n2", "n3")], ["--min-free-disk", "0"])
    cleanup.callback(cluster.kill)
    services = {node.name: Service(node.address) for node in cluster.nodes}
    writers, counters = Writers(services, BUCKETS, WRITERS), Counters(services, COUNTED, COUNTERS)
    cluster.start()
    for bucket in BUCKETS + COUNTED:
        until_answered(lambda: services["n1"].create(bucket), SERVED_WITHIN_S, "a bucket is created", cluster.must_run)

    kills, acked = 0, 0
    while kills < arguments.kills:
        begun_at = time.monotonic()
        writers.start(large=True)
        counters.start()
        until = min(kills + KILLS_PER_ROUND, arguments.kills)
        while kills < until:
            kills += kill_some(cluster, chance, until - kills)
        served_s = writers.wait_until_served(time.monotonic(), SERVED_WITHIN_S)
        check(served_s is not None, f"after {kills} kills writing goes on, through every node and in every bucket")
        counters.stop()
        writers.stop()
        cluster.must_run()
        wrong = writers.wrong() + counters.wrong()
        for sentence in wrong[:20]:
            note(sentence)
        acks = len(writers.acks())
        check(not wrong, f"after {kills} kills all {acks} acknowledged writes are there and {counters.raised()} raises"
                         " count once, on every node")
        check(acks > acked, f"{acks - acked} writes were acknowledged between them, in {time.monotonic() - begun_at:.0f} s")
        if wrong:
            raise Failed("acknowledged writes are lost, or count twice")
        acked = acks
    note(f"writes made again under their ids: {counters.repeats()}; of {counters.doubtful()} raises the session had expired")
    note(f"errors that writers saw: {dict(writers.errors())}; outcomes unknown: {writers.unknown()}")
    note(said(directory))
    compare(cluster, services)


def kill_some(cluster, chance, most):
    """Kills one to all nodes, starts them again, and maybe kills one again while it starts. Returns how many kills it was."""
    time.sleep(chance.uniform(0.05, 1.5))
    count = min(chance.choice([1, 1, 1, 2, 3]), most)
    victims = chance.sample(cluster.nodes, count)
    for node in victims:
        node.kill()
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, 0.2))
    for node in victims:
        node.wait()
    kills = len(victims)
    # Who is away for long, while others write, needs a snapshot.
    time.sleep(chance.uniform(2, 5) if count == 1 and chance.random() < 0.5 else chance.uniform(0, 0.5))
    for node in victims:
        node.start(cluster.members)
        if kills < most and chance.random() < 0.4:
            # In the middle of reading its log, of its first elections, or of a snapshot.
            time.sleep(chance.choice([chance.uniform(0, 0.1), chance.uniform(0.1, 1), chance.uniform(1, 3)]))
            node.kill()
            node.wait()
            kills += 1
            node.start(cluster.members)
    return kills


def said(directory):
    logs = "".join(log.read_text(errors="replace") for log in directory.glob("*.log"))
    lines = [("sends a snapshot", "snapshots begun"), ("installed a snapshot", "installed"), ("panicked", "panics"),
             ("repairing:", "repairs")]
    return ", ".join(f"{what}: {logs.count(line)}" for line, what in lines)


def compare(cluster, services):
    """Starts all nodes anew, so that they compare their replicas at once, and waits until they have."""
    cluster.kill()
    for node in cluster.nodes:
        node.options += ["--scrub-every", "5s"]
    cluster.start()
    deadline = time.monotonic() + SCRUBBED_WITHIN_S
    while True:
        found = [until_answered(service.scrubs, SERVED_WITHIN_S, "a node tells how far it is", cluster.must_run)
                 for service in services.values()]
        groups = {group for scrubs in found for group in scrubs["groups"]}
        whole = {group: scrub for scrubs in found for group, scrub in scrubs["led"].items()
                 if scrub.passes > 0 and scrub.unanswered == 0}
        if groups and set(whole) == groups:
            break
        if time.monotonic() > deadline:
            raise Failed(f"only {len(whole)} of {len(groups)} groups were compared whole within {SCRUBBED_WITHIN_S} s")
        time.sleep(0.2)
    differences = sum(scrub.differences for scrub in whole.values())
    compared_bytes = sum(scrub.bytes_before for scrub in whole.values())
    check(compared_bytes > 0, f"{compared_bytes >> 20} MiB were compared, in {len(whole)} groups")
    check(differences == 0, f"all replicas hold the same: {differences} parts differ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["lsm", "btree"], default="lsm")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    # The nodes have it from here.
    os.environ["DREY_ENGINE"] = arguments.engine
    print(f"engine {arguments.engine}, {arguments.kills} kills, seed {arguments.seed}", flush=True)
    play(lambda cleanup, directory: script(cleanup, directory, arguments),
         seconds_max=KILL_S_MAX * arguments.kills + SCRUBBED_WITHIN_S + 60)
