"""Syncing is real: what was acknowledged is there after the power went on all nodes at once.

Three nodes, each on a disk that forgets at a power cut what was not synced, or, with a seed, keeps a random part of it.
`power_cut.py --engine btree --cuts 100` for another engine, or for longer.
"""

import argparse
import ast
import os
import pathlib
import shutil
import subprocess
import sys
import time

from cluster import Cluster
from mounts import is_mounted, unmount
from service import Service, generate_stubs, until_answered
from verdict import Failed, check, note, play, skip
from writers import Writers

HERE = pathlib.Path(__file__).resolve().parent
LOSSYFS = pathlib.Path("../shared/tools/lossyfs.py")
BUCKETS = [f"bucket-{number}" for number in range(8)]
WRITERS = 32
CUTS = 6
# What a cut, with the load before it and the restart behind it, may take.
CUT_S_MAX = 60
LOAD_S = 5
# With the power off, writers go on for so long: what is acknowledged then is not on any disk.
DARK_S = 1
# After a restart: reading the logs, electing leaders, connecting again.
SERVED_WITHIN_S = 30


class Disk:
    """A directory behind lossyfs, of which each mount is a machine that is switched on."""

    def __init__(self, directory, name):
        self.backing = directory / f"{name}.backing"
        self.mount_point = directory / name
        self.log = directory / f"{name}.disk.log"
        self.process = None
        self.backing.mkdir()
        self.mount_point.mkdir()

    def mount(self, seed):
        """Why it does not work, or nothing."""
        command = [sys.executable, "-B", HERE / "lossy_disk.py", self.backing, self.mount_point]
        # Its own session: a signal at the terminal is for the script alone.
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command + ([] if seed is None else [str(seed)]), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 10
        while not is_mounted(self.mount_point):
            if self.process.poll() is not None or time.monotonic() > deadline:
                return (self.log.read_text(errors="replace").strip().splitlines() or ["it does not mount"])[-1]
            time.sleep(0.05)
        return None

    def cut(self):
        pathlib.Path(f"{self.backing}.cut").touch()

    def lost_blocks(self):
        """How many blocks the cut dropped, once it is done."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines(keepends=True):
                # Half of it may be there.
                if line.startswith("power cut: ") and line.endswith("\n"):
                    return ast.literal_eval(line.removeprefix("power cut: "))["lost_blocks"]
            time.sleep(0.02)
        raise Failed(f"{self.mount_point.name}: lossyfs does not cut the power")

    def unmount(self):
        unmount(self.mount_point, ["fusermount", "-u"])
        if self.process is not None:
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def cut_of(number):
    """For each cut a seed, and whether the values are large.

    Without a seed nothing is kept that was not synced; with one, writes are torn, and later ones kept without earlier
    ones. With small values the stores have much to lose; with large ones the logs are truncated.
    """
    return None if number % 3 == 0 else number, number % 6 >= 3


def script(cleanup, directory, cuts):
    if not LOSSYFS.exists():
        skip(f"there is no {LOSSYFS} here")
    if not pathlib.Path("/dev/fuse").exists() or not shutil.which("fusermount"):
        skip("there is no FUSE here")
    disks = [Disk(directory, name) for name in ("n1", "n2", "n3")]
    for disk in disks:
        cleanup.callback(disk.unmount)
    mount(disks, cut_of(0)[0], otherwise=skip)
    stubs = directory / "stubs"
    stubs.mkdir()
    generate_stubs(stubs)

    cluster = Cluster(directory, [disk.mount_point / "data" for disk in disks])
    cleanup.callback(cluster.kill)
    services = {node.name: Service(node.address) for node in cluster.nodes}
    writers = Writers(services, BUCKETS, WRITERS)
    cleanup.callback(writers.stop)
    cluster.start()
    for bucket in BUCKETS + ["probe"]:
        until_answered(lambda: services["n1"].create(bucket), SERVED_WITHIN_S, "a bucket is created", cluster.must_run)

    lost_blocks = 0
    for number in range(cuts):
        seed, large = cut_of(number)
        kept = "nothing unsynced is kept" if seed is None else f"seed {seed}"
        name = f"cut {number + 1} ({kept}, {'large' if large else 'small'} values)"
        lost_blocks += write_until_the_cut(name, cluster, disks, writers, large)
        mount(disks, cut_of(number + 1)[0], otherwise=fail)
        restart(name, cluster, services, writers)
    check(lost_blocks > 0, f"the disks did lose something: {lost_blocks} blocks in all")
    note(f"errors that writers saw: {dict(writers.errors())}")


def mount(disks, seed, otherwise):
    for number, disk in enumerate(disks):
        # Each disk draws its own, or all would keep the same blocks.
        why = disk.mount(None if seed is None else 10 * seed + number)
        if why:
            otherwise(f"lossyfs does not work here: {why}")


def fail(why):
    raise Failed(why)


def write_until_the_cut(name, cluster, disks, writers, large):
    """Returns how many blocks were lost. After it the nodes are ended and their disks unmounted."""
    acked, begun_at = len(writers.acks()), time.monotonic()
    writers.start(large)
    seconds = writers.wait_until_served(begun_at, SERVED_WITHIN_S)
    check(seconds is not None, f"{name}: before it, writing goes on by itself, through every node and in every bucket")
    time.sleep(LOAD_S)
    cluster.must_run()
    for disk in disks:
        disk.cut()
    lost = [disk.lost_blocks() for disk in disks]
    dark_at = time.monotonic()
    time.sleep(DARK_S)
    ended = sum(node.process.poll() is not None for node in cluster.nodes)
    cluster.kill()
    writers.stop()
    for disk in disks:
        disk.unmount()
    late = writers.acks(begun_after=dark_at)
    check(not late, f"{name}: of the writes that began after it, {len(late)} are acknowledged")
    note(f"{len(writers.acks()) - acked} acknowledged before it, {writers.unknown()} outcomes unknown so far,"
         f" lost blocks {lost}; {ended} of 3 nodes ended by themselves")
    return sum(lost)


def restart(name, cluster, services, writers):
    """Starts the nodes, and reads before writers go on: a later write would hide that an earlier one is lost."""
    begun_at = time.monotonic()
    cluster.start()
    until_answered(lambda: services["n1"].put("probe", b"key", b"value", timeout=2), SERVED_WITHIN_S,
                   f"{name}: a write after it", cluster.must_run)
    cluster.must_run()
    note(f"the first write after the restart is acknowledged after {time.monotonic() - begun_at:.2f} s")
    wrong = writers.wrong()
    for sentence in wrong[:20]:
        note(sentence)
    check(not wrong, f"{name}: all {len(writers.acks())} writes that were ever acknowledged are there, on every node")
    if wrong:
        raise Failed("acknowledged writes are lost")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["lsm", "btree"], default="lsm")
    parser.add_argument("--cuts", type=int, default=CUTS)
    arguments = parser.parse_args()
    # The nodes have it from here.
    os.environ["DREY_ENGINE"] = arguments.engine
    print(f"engine {arguments.engine}, {arguments.cuts} cuts", flush=True)
    play(lambda cleanup, directory: script(cleanup, directory, arguments.cuts), seconds_max=CUT_S_MAX * arguments.cuts)
