#!/usr/bin/env python3
"""A node that was away while much was written catches up while clients go on writing.

usage: bench/scripts/catch_up.py [--mib 2048] [--buckets 8] [--rate 2000] [--repeats 3] [--directory DIR]
(after cargo build --release)

Prints a line a repeat: how long it took until the node had applied all that was committed when it came back; the bytes that it was
sent and wrote; the memory of the three at their largest, how much that is above the largest under the same writers
before, and what the two needed to take the same as writes; and the latencies of the writers for as long, beside it and before it. Takes both cores; let nothing else run.
"""

import argparse
import contextlib
import pathlib
import re
import statistics
import threading
import time

import processes
from processes import MIB

VALUE_BYTES = 8192
WITHIN_S = 600


@contextlib.contextmanager
def watched(nodes):
    """The most memory that each of the nodes had meanwhile, in bytes."""
    largest, done = [0] * len(nodes), threading.Event()

    def watch():
        while not done.wait(0.05):
            for number, node in enumerate(nodes):
                largest[number] = max(largest[number], node.resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield largest
    finally:
        done.set()
        watcher.join()


def missed(rest):
    """By group: what is committed on the two that stayed."""
    first, second = (processes.entries(node, "committed") for node in rest)
    return {group: max(first[group], second[group]) for group in first}


def run(directory, options):
    nodes = processes.drey_nodes(directory)
    away, rest = nodes[2], nodes[:2]
    try:
        for node in nodes:
            node.start()
        processes.until(lambda: len(processes.entries(nodes[0], "applied")) == 17, 60, "the cluster serves")
        time.sleep(3)
        buckets = [f"b{number}" for number in range(options.buckets)]
        for bucket in [*buckets, "busy"]:
            processes.drey(nodes[0], "create", bucket)
        away.kill()
        keys = options.mib * MIB // VALUE_BYTES // options.buckets
        with watched(rest) as taking:
            for bucket in buckets:
                processes.load(rest, "--bucket", bucket, "--value-size", str(VALUE_BYTES), "--key-count", str(keys),
                               "--preload", "--operations", "1")
        # Until the tables of what was written are merged.
        time.sleep(15)
        writers = ["--bucket", "busy", "--rate", str(options.rate), "--key-count", "100000", "--clients", "64"]
        with watched(rest) as before:
            alone = processes.load(rest, *writers, "--warmup", "3s", "--duration", f"{options.seconds}s")
        generator = processes.begin_load(rest, *writers, "--duration", f"{options.seconds}s")
        time.sleep(1)
        goal = missed(rest)
        began = time.monotonic()
        away.start()

        def has(goal):
            applied = processes.entries(away, "applied")
            return all(applied[group] >= committed for group, committed in goal.items())

        with watched(nodes) as largest:
            processes.until(lambda: has(goal), WITHIN_S, "the node has what it missed")
            took_s = time.monotonic() - began
            written = away.written_bytes()
            beside = processes.ended(generator)
        later = missed(rest)
        processes.until(lambda: has(later), 60, "the node keeps up")
        logs = "".join(node.log.read_text() for node in rest)
        sent = [int(number) for number in re.findall(r"sent a snapshot.*?bytes=(\d+)", logs)]
        grown = [high - low for high, low in zip(largest, before)]
        print(f"{took_s:.1f} s, {sum(sent) / MIB:.0f} MiB sent in {len(sent)} snapshots, {written / MIB:.0f} MiB written, "
              f"memory at most {', '.join(f'{size / MIB:.0f}' for size in largest)} MiB, "
              f"which is {grown[0] / MIB:.0f} and {grown[1] / MIB:.0f} more than for as long without it on those that sent "
              f"(which had {', '.join(f'{size / MIB:.0f}' for size in taking)} MiB at most when they took it as writes); "
              f"writers {said(beside)}, without it {said(alone)}", flush=True)
        return took_s, beside["p99_us"], alone["p99_us"]
    finally:
        for node in nodes:
            node.kill()


def said(summary):
    return f"p50 {summary['p50_us'] / 1000:.1f} p99 {summary['p99_us'] / 1000:.1f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--buckets", type=int, default=8)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=45, help="for so long writers are looked at, with it and without")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--directory", type=pathlib.Path, default=None)
    options = parser.parse_args()
    runs = []
    for _ in range(options.repeats):
        with processes.new_directory("catch-up", options.directory) as directory:
            runs.append(run(directory, options))
    took, beside, alone = (statistics.median(column) for column in zip(*runs))
    print(f"medians: {took:.1f} s, p99 {beside / 1000:.1f} ms beside it, {alone / 1000:.1f} ms without")


if __name__ == "__main__":
    main()
