#!/usr/bin/env python3
"""What drey and etcd take for the same: bytes written for a put, memory with many keys, and how fast a killed node is back.

usage: bench/scripts/footprint.py [--systems drey,etcd] [--puts 500000] [--keys 1000000] [--directory DIR]
(after cargo build --release; etcd from Debian's etcd-server)

Three nodes of each, one system at a time, on one machine; values of 256 B, 64 clients. All keys are put once; then `--puts` puts to
any of them are measured, with all that is written until the nodes are stopped in order. They start again, and under the same load one node is
killed with SIGKILL and started once more: how long until it answers a read of its own copy, and until it has applied what was
committed when it came back. Takes both cores; let nothing else run.
"""

import argparse
import json
import os
import pathlib
import subprocess
import time

import processes
from processes import MIB


class Drey:
    name = "drey"
    nodes = staticmethod(processes.drey_nodes)
    reads = staticmethod(processes.drey_reads)

    @staticmethod
    def is_up(nodes):
        return all(len(processes.entries(node, "applied")) == 17 for node in nodes)

    @staticmethod
    def standing(node, which):
        return processes.entries(node, which)


class Etcd:
    name = "etcd"
    nodes = staticmethod(processes.etcd_nodes)

    @staticmethod
    def ctl(node, *words):
        command = ["etcdctl", "--endpoints", node.address, "--command-timeout", "1s", *words]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "ETCDCTL_API": "3"})
        return done.stdout if done.returncode == 0 else None

    @classmethod
    def is_up(cls, nodes):
        return all(cls.reads(node) for node in nodes)

    @classmethod
    def reads(cls, node):
        return cls.ctl(node, "get", "--consistency=s", "no such key") is not None

    @classmethod
    def standing(cls, node, which):
        said = cls.ctl(node, "endpoint", "status", "--write-out=json")
        status = json.loads(said)[0]["Status"]
        return {0: status["raftIndex" if which == "committed" else "raftAppliedIndex"]}


def measure(system, directory, options):
    nodes = system.nodes(directory)
    try:
        for node in nodes:
            node.start()
        processes.until(lambda: system.is_up(nodes), 60, f"three nodes of {system.name} serve")
        time.sleep(3)
        load = ["--key-count", str(options.keys), "--value-size", "256", "--clients", "64"]
        began = time.monotonic()
        processes.load(nodes, *load, "--preload", "--operations", "1", target=system.name)
        print(f"{system.name}: {options.keys} keys put in {time.monotonic() - began:.0f} s", flush=True)
        time.sleep(5)
        memory = [node.resident_bytes() for node in nodes]
        before = [node.written_bytes() for node in nodes]
        puts = processes.load(nodes, *load, "--operations", str(options.puts), target=system.name)
        # What they merge behind a load belongs to it.
        time.sleep(15)
        after = [node.resident_bytes() for node in nodes]
        disk = [node.disk_bytes() for node in nodes]
        written = sum(node.stop() - bytes for node, bytes in zip(nodes, before))
        print(f"{system.name}: {written / puts['operations']:.0f} bytes written for a put on three nodes, "
              f"{puts['ops_per_second']:.0f} puts a second, p99 {puts['p99_us'] / 1000:.1f} ms", flush=True)
        print(f"{system.name}: resident with {options.keys} keys {', '.join(f'{size / MIB:.0f}' for size in memory)} MiB, after "
              f"the puts {', '.join(f'{size / MIB:.0f}' for size in after)} MiB; on disk "
              f"{', '.join(f'{size / MIB:.0f}' for size in disk)} MiB", flush=True)
        for node in nodes:
            node.start()
        processes.until(lambda: system.is_up(nodes), 60, f"three nodes of {system.name} serve again")
        restarts(system, nodes, load, options)
    finally:
        for node in nodes:
            node.kill()


def restarts(system, nodes, load, options):
    victim, rest = nodes[2], nodes[:2]
    generator = processes.begin_load(rest, *load, "--rate", "2000", "--duration", f"{20 + 15 * options.restarts}s",
                                     target=system.name)
    time.sleep(5)
    for _ in range(options.restarts):
        victim.kill()
        began = time.monotonic()
        victim.start()
        processes.until(lambda: system.reads(victim), 60, "it answers")
        answered_s = time.monotonic() - began
        standings = [system.standing(node, "committed") for node in rest]
        goal = {group: max(standing[group] for standing in standings) for group in standings[0]}

        def has_all():
            applied = system.standing(victim, "applied")
            return all(applied[group] >= committed for group, committed in goal.items())

        processes.until(has_all, 60, "it has what it missed")
        member_s = time.monotonic() - began
        print(f"{system.name}: killed and started again: a read of its own after {answered_s:.2f} s, all that was committed after "
              f"{member_s:.2f} s", flush=True)
        time.sleep(max(0, 12 - member_s))
    generator.terminate()
    generator.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default="drey,etcd")
    parser.add_argument("--puts", type=int, default=500_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--directory", type=pathlib.Path, default=None)
    options = parser.parse_args()
    for name in options.systems.split(","):
        system = {"drey": Drey, "etcd": Etcd}[name]
        with processes.new_directory(f"{name}-footprint", options.directory) as directory:
            measure(system, directory, options)


if __name__ == "__main__":
    main()
