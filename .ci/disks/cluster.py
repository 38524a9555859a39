"""Three nodes on loopback, each a process started as a user would."""

import os
import socket
import subprocess

from verdict import Failed

PROGRAM = os.environ.get("DREY", "target/release/drey")
# Two, so that writes cross from one shard to another; fixed, so that many cores do not mean large logs on small disks.
SHARDS = 2


class Node:
    """One node: where it is, where its data are, and its process while it runs."""

    def __init__(self, name, address, data_dir, log, options=()):
        self.name = name
        self.address = address
        self.data_dir = data_dir
        self.log = log
        self.options = list(options)
        self.process = None

    def start(self, members):
        command = [PROGRAM, "start", "--name", self.name, "--listen", self.address, "--data-dir", str(self.data_dir),
                   "--initial-members", members, "--shards", str(SHARDS), *self.options]
        with self.log.open("ab") as log:
            # A signal at the terminal is for the script alone, which then ends the node.
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)

    def kill(self):
        """As `kill -9` does. The process may stay until the disk that it waits for answers."""
        if self.process is not None:
            self.process.kill()

    def wait(self):
        if self.process is not None:
            self.process.wait(timeout=20)


class Cluster:
    """The nodes n1, n2 and n3, with their data in the directories given."""

    def __init__(self, directory, data_dirs, options=()):
        names = [f"n{number}" for number in range(1, len(data_dirs) + 1)]
        addresses = [f"127.0.0.1:{port}" for port in free_ports(len(data_dirs))]
        self.members = ",".join(f"{name}={address}" for name, address in zip(names, addresses))
        self.nodes = [Node(name, address, data_dir, directory / f"{name}.log", options)
                      for name, address, data_dir in zip(names, addresses, data_dirs)]

    def start(self):
        for node in self.nodes:
            node.start(self.members)

    def kill(self):
        """Ends all of them without a warning."""
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.wait()

    def must_run(self):
        """Fails where a node ended by itself."""
        ended = [f"{node.name} ended with {node.process.returncode}" for node in self.nodes
                 if node.process.poll() is not None]
        if ended:
            raise Failed(", ".join(ended))


def free_ports(count):
    """Ports that nobody listens on. All are held until all are chosen, so that no two are the same."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
