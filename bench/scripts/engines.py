#!/usr/bin/env python3
"""What the engines that keep a node's data on disk cost: one node of each, one after the other, under the same load.

usage: bench/scripts/engines.py [--engines lsm,btree] [--keys 1000000] [--puts 500000] [--gets 300000] [--directory DIR]
(after cargo build --release)

All keys are put once, in order; then `--puts` puts to random ones are measured, gets, a scan of 100,000 entries, memory, disk, what
was written; then the node is killed with SIGKILL, checked and started again. Takes both cores; let nothing else run.
"""

import argparse
import pathlib
import subprocess
import time

import processes
from processes import BINARIES, MIB

VALUE_BYTES = 256
KEY_BYTES = len("key-000000000000")


def timed(*command):
    began = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began


def said(summary):
    return f"{summary['ops_per_second']:.0f} a second, p50 {summary['p50_us'] / 1000:.1f}, p99 {summary['p99_us'] / 1000:.1f} ms"


def run(engine, directory, options):
    (node,) = processes.drey_nodes(directory, 1, ["--engine", engine, "--shards", "1"])
    node.start()
    try:
        processes.until(lambda: processes.drey_reads(node), 60, "it serves")
        time.sleep(3)
        load = ["--key-count", str(options.keys), "--value-size", str(VALUE_BYTES), "--clients", "64"]
        began, before = time.monotonic(), node.written_bytes()
        processes.load([node], *load, "--preload", "--operations", "1")
        took_s = time.monotonic() - began
        time.sleep(10)
        written = node.written_bytes() - before
        print(f"{engine}: {options.keys} keys in order: {options.keys / took_s:.0f} a second, {written / options.keys:.0f} bytes "
              f"written for each, resident {node.resident_bytes() / MIB:.0f} MiB", flush=True)
        before = node.written_bytes()
        puts = processes.load([node], *load, "--operations", str(options.puts))
        time.sleep(10)
        written = node.written_bytes() - before
        print(f"{engine}: puts: {said(puts)}, {written / puts['operations']:.0f} bytes written for each", flush=True)
        live = options.keys * (KEY_BYTES + VALUE_BYTES)
        print(f"{engine}: the store takes {node.disk_bytes('store') / live:.2f} bytes for each of keys and values; "
              f"resident {node.resident_bytes() / MIB:.0f} MiB", flush=True)
        gets = processes.load([node], *load, "--puts", "0", "--operations", str(options.gets))
        print(f"{engine}: gets: {said(gets)}", flush=True)
        scan_s = timed(BINARIES / "drey", "--server", node.address, "scan", "default", "--limit", "100000")
        print(f"{engine}: 100,000 entries scanned in {scan_s:.2f} s", flush=True)
        node.kill()
        check_s = timed(BINARIES / "drey", "check", "--data-dir", node.directory)
        began = time.monotonic()
        node.start()
        processes.until(lambda: processes.drey_reads(node), 60, "it answers")
        print(f"{engine}: killed: checked in {check_s:.2f} s, answers {time.monotonic() - began:.2f} s after its start", flush=True)
    finally:
        node.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="lsm,btree")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--puts", type=int, default=500_000)
    parser.add_argument("--gets", type=int, default=300_000)
    parser.add_argument("--directory", type=pathlib.Path, default=None)
    options = parser.parse_args()
    for engine in options.engines.split(","):
        with processes.new_directory(engine, options.directory) as directory:
            run(engine, directory, options)


if __name__ == "__main__":
    main()
