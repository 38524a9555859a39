#!/usr/bin/env python3
"""Whether a cluster can go on for ever: memory and disk of three nodes under full write load, and what they take when idle.

usage: bench/scripts/endurance.py [--minutes 10] [--clients 256] [--no-elections] [--directory DIR]
(after cargo build --release)

Prints one line a minute, then what counts: resident memory at the end against minute 3, the log directory at its largest,
elections during the load, CPU and memory of an idle minute. Takes both cores; let nothing else run.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release"
NAMES = ("n1", "n2", "n3")
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
# Longer than the 20 s in which a new cluster spreads its leaders over its nodes: that takes elections, too, and is no fault.
IDLE_S = 60
MIB = 1 << 20


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def resident_bytes(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def disk_bytes(directory):
    total = 0
    for file in directory.rglob("*"):
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            pass  # It was released just now.
    return total


def mib(numbers):
    return " ".join(f"{number / MIB:7.1f}" for number in numbers)


class Cluster:
    def __init__(self, directory):
        addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        members = ",".join(f"{name}={address}" for name, address in zip(NAMES, addresses))
        self.server = ",".join(addresses)
        self.directories = [directory / name for name in NAMES]
        self.processes = []
        for name, address, data in zip(NAMES, addresses, self.directories):
            log = open(directory / f"{name}.log", "wb")
            arguments = ["--name", name, "--listen", address, "--data-dir", data, "--initial-members", members]
            command = [BINARIES / "drey", "start", *arguments]
            self.processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log))
        self.pids = [process.pid for process in self.processes]

    def resident(self):
        return [resident_bytes(pid) for pid in self.pids]

    def cpu(self):
        return [cpu_seconds(pid) for pid in self.pids]

    def logs(self):
        return [disk_bytes(data / "log") for data in self.directories]

    def stores(self):
        return [disk_bytes(data / "store") for data in self.directories]

    def terms(self):
        """The sum of all groups' terms: each election makes it grow by one at least."""
        command = [BINARIES / "drey", "--server", self.server, "--output", "json", "cluster"]
        status = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        return sum(group["term"] for group in status["groups"])

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(30)


def load(cluster, minutes, clients):
    """Puts as fast as they are answered. Gives the resident memory by minute, and the largest log of each node."""
    command = [BINARIES / "drey-bench", "load", "--server", cluster.server, "--clients", str(clients)]
    generator = subprocess.Popen([*command, "--duration", f"{minutes * 60}s"], stdout=subprocess.PIPE, text=True)
    started = time.monotonic()
    by_minute, largest = [], [0, 0, 0]
    print("minute  resident MiB              log MiB                   store MiB", flush=True)
    while generator.poll() is None:
        time.sleep(0.5)
        largest = [max(pair) for pair in zip(largest, cluster.logs())]
        if time.monotonic() - started >= 60 * (len(by_minute) + 1):
            by_minute.append(cluster.resident())
            row = (mib(by_minute[-1]), mib(cluster.logs()), mib(cluster.stores()))
            print(f"{len(by_minute):6}  " + "   ".join(row), flush=True)
    summary = json.loads(generator.stdout.read())
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
    cluster = Cluster(directory)
    try:
        time.sleep(5)
        before = cluster.cpu()
        time.sleep(IDLE_S)
        idle_cpu = [(now - then) / IDLE_S * 100 for now, then in zip(cluster.cpu(), before)]
        print(f"idle and empty: CPU % of a core {' '.join(f'{cpu:.2f}' for cpu in idle_cpu)}; "
              f"resident MiB {mib(cluster.resident())}", flush=True)
        terms = cluster.terms()
        by_minute, largest = load(cluster, options.minutes, options.clients)
        elections = cluster.terms() - terms
        print(f"elections during the load: {elections}", flush=True)
        if len(by_minute) >= 4:
            growth = [last / third for last, third in zip(by_minute[-1], by_minute[2])]
            print("resident memory at the end, in parts of minute 3: " + " ".join(f"{part:.3f}" for part in growth))
        print(f"the log at its largest, MiB: {mib(largest)}")
        time.sleep(10)
        before = cluster.cpu()
        time.sleep(IDLE_S)
        idle_cpu = [(now - then) / IDLE_S * 100 for now, then in zip(cluster.cpu(), before)]
        print(f"idle after the load: CPU % of a core {' '.join(f'{cpu:.2f}' for cpu in idle_cpu)}; "
              f"resident MiB {mib(cluster.resident())}")
    finally:
        cluster.stop()
        shutil.rmtree(directory)
    if options.no_elections and elections > 0:
        return f"{elections} elections during the load, though no node was stopped"
    return 0


if __name__ == "__main__":
    sys.exit(main())
