"""Nodes as processes, and what they take of the machine."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release"
MIB = 1 << 20
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
# Of which the kernel counts what a process has written.
SECTOR_BYTES = 512


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Node:
    """One process, which can be ended and started again with what it has on disk."""

    def __init__(self, name, address, directory, command):
        self.name, self.address, self.directory, self.command = name, address, directory, command
        self.log = directory.parent / f"{name}.log"
        self.process = None

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """Ends it in order. Gives all that it wrote in its life, in bytes."""
        self.process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_oublock * SECTOR_BYTES

    def proc(self, file):
        return pathlib.Path(f"/proc/{self.process.pid}/{file}").read_text()

    def field(self, file, name):
        line = next(line for line in self.proc(file).splitlines() if line.startswith(name))
        return int(line.split()[1])

    def resident_bytes(self):
        return self.field("status", "VmRSS:") << 10

    def written_bytes(self):
        return self.field("io", "write_bytes:")

    def cpu_seconds(self):
        fields = self.proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def disk_bytes(self, part="."):
        total = 0
        for file in (self.directory / part).rglob("*"):
            try:
                total += file.stat().st_blocks * SECTOR_BYTES
            except FileNotFoundError:
                pass  # It was removed just now.
        return total


def drey_nodes(directory, count=3, options=()):
    """Nodes that found a cluster, not started; `name=address` lists work with one alone, too."""
    names = [f"n{number + 1}" for number in range(count)]
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    members = ",".join(f"{name}={address}" for name, address in zip(names, addresses))
    nodes = []
    for name, address in zip(names, addresses):
        data = directory / name
        command = [BINARIES / "drey", "start", "--name", name, "--listen", address, "--data-dir", data,
                   "--initial-members", members, *options]
        data.mkdir()
        nodes.append(Node(name, address, data, command))
    return nodes


def etcd_nodes(directory, count=3):
    names = [f"e{number + 1}" for number in range(count)]
    clients = [f"127.0.0.1:{port}" for port in free_ports(count)]
    peers = [f"127.0.0.1:{port}" for port in free_ports(count)]
    cluster = ",".join(f"{name}=http://{peer}" for name, peer in zip(names, peers))
    nodes = []
    for name, client, peer in zip(names, clients, peers):
        data = directory / name
        # Room for all that the comparison writes, all of whose versions etcd keeps until it is told to compact.
        command = ["etcd", "--name", name, "--data-dir", data, "--listen-client-urls", f"http://{client}",
                   "--advertise-client-urls", f"http://{client}", "--listen-peer-urls", f"http://{peer}",
                   "--initial-advertise-peer-urls", f"http://{peer}", "--initial-cluster", cluster,
                   "--quota-backend-bytes", str(8 << 30), "--log-level", "error"]
        data.mkdir()
        nodes.append(Node(name, client, data, command))
    return nodes


@contextlib.contextmanager
def new_directory(name, parent):
    """One below `parent`, or below where such are made, removed at the end."""
    with tempfile.TemporaryDirectory(prefix=f"drey-{name}-", dir=parent) as directory:
        yield pathlib.Path(directory)


def addresses(nodes):
    return ",".join(node.address for node in nodes)


def drey(node, *words):
    """What a command says, asked of one node."""
    command = [BINARIES / "drey", "--server", node.address, "--output", "json", *words]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
    return json.loads(said.stdout)


def drey_reads(node):
    """Whether it answers a read of its own copy."""
    command = [BINARIES / "drey", "--server", node.address, "--timeout", "1s", "get", "--local", "default", "no such key"]
    # 1: there is no such key, which is an answer.
    return subprocess.run(command, capture_output=True).returncode == 1


def entries(node, which):
    """By group: the last entry that a node knows to be `committed`, or has `applied`."""
    return {group["id"]: group[which] for group in drey(node, "cluster")["groups"]}


def load(nodes, *words, target="drey"):
    """Puts load on nodes and says what it took."""
    return ended(begin_load(nodes, *words, target=target))


def begin_load(nodes, *words, target="drey"):
    command = [BINARIES / "drey-bench", "load", "--target", target, "--server", addresses(nodes), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ended(generator):
    said, _ = generator.communicate()
    if generator.returncode != 0:
        raise SystemExit(f"the load failed: {said}")
    return json.loads(said)


def until(condition, within_s, what):
    """Seconds until it holds."""
    began = time.monotonic()
    while True:
        try:
            if condition():
                return time.monotonic() - began
        except (subprocess.CalledProcessError, KeyError, ValueError):
            pass  # It does not answer yet.
        if time.monotonic() - began > within_s:
            raise SystemExit(f"not within {within_s} s: {what}")
        time.sleep(0.02)
