#!/usr/bin/env python3
"""Whether a cluster can go on for ever: memory and disk of three nodes under full write load, and what they take when idle.

usage: bench/scripts/endurance.py [--minutes 10] [--clients 256] [--no-elections] [--directory DIR]
(after cargo build --release)

Prints one line a minute, then what counts: resident memory at the end against minute 3, the log directory at its largest,
elections during the load, CPU and memory of an idle minute. Takes both cores; let nothing else run.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time

import processes
from processes import MIB

# Longer than the 20 s in which a new cluster spreads its leaders over its nodes: that takes elections, too, and is no fault.
IDLE_S = 60


def mib(numbers):
    return " ".join(f"{number / MIB:7.1f}" for number in numbers)


def resident(nodes):
    return [node.resident_bytes() for node in nodes]


def parts(nodes, part):
    return [node.disk_bytes(part) for node in nodes]


def elections(nodes):
    """The sum of all groups' terms: each election makes it grow by one at least."""
    return sum(group["term"] for group in processes.drey(nodes[0], "cluster")["groups"])


def idle_cpu(nodes):
    """For a minute, in parts of a core."""
    before = [node.cpu_seconds() for node in nodes]
    time.sleep(IDLE_S)
    used = [(node.cpu_seconds() - then) / IDLE_S for node, then in zip(nodes, before)]
    return " ".join(f"{cpu * 100:.2f}" for cpu in used)


def load(nodes, minutes, clients):
    """Puts as fast as they are answered. Gives the resident memory by minute, and the largest log of each node."""
    generator = processes.begin_load(nodes, "--clients", str(clients), "--duration", f"{minutes * 60}s")
    started = time.monotonic()
    by_minute, largest = [], [0, 0, 0]
    print("minute  resident MiB              log MiB                   store MiB", flush=True)
    while generator.poll() is None:
        time.sleep(0.5)
        logs = parts(nodes, "log")
        largest = [max(pair) for pair in zip(largest, logs)]
        if time.monotonic() - started >= 60 * (len(by_minute) + 1):
            by_minute.append(resident(nodes))
            row = (mib(by_minute[-1]), mib(logs), mib(parts(nodes, "store")))
            print(f"{len(by_minute):6}  " + "   ".join(row), flush=True)
    summary = processes.ended(generator)
    print(f"{summary['operations']} puts, {summary['ops_per_second']:.0f} a second, p50 {summary['p50_us'] / 1000:.1f} ms, "
          f"p99 {summary['p99_us'] / 1000:.1f} ms, p99.9 {summary['p999_us'] / 1000:.1f} ms, errors {summary['errors']}")
    return by_minute, largest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--no-elections", action="store_true", help="fail if a leader is elected during the load")
    parser.add_argument("--directory", type=pathlib.Path, default=None)
    options = parser.parse_args()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="drey-endurance-", dir=options.directory))
    nodes = processes.drey_nodes(directory)
    try:
        for node in nodes:
            node.start()
        time.sleep(5)
        print(f"idle and empty: CPU % of a core {idle_cpu(nodes)}; resident MiB {mib(resident(nodes))}", flush=True)
        before = elections(nodes)
        by_minute, largest = load(nodes, options.minutes, options.clients)
        elected = elections(nodes) - before
        print(f"elections during the load: {elected}", flush=True)
        if len(by_minute) >= 4:
            growth = [last / third for last, third in zip(by_minute[-1], by_minute[2])]
            print("resident memory at the end, in parts of minute 3: " + " ".join(f"{part:.3f}" for part in growth))
        print(f"the log at its largest, MiB: {mib(largest)}")
        time.sleep(10)
        print(f"idle after the load: CPU % of a core {idle_cpu(nodes)}; resident MiB {mib(resident(nodes))}")
        for node in nodes:
            node.stop()
    finally:
        for node in nodes:
            node.kill()
        shutil.rmtree(directory)
    if options.no_elections and elected > 0:
        return f"{elected} elections during the load, though no node was stopped"
    return 0


if __name__ == "__main__":
    sys.exit(main())
