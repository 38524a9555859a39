"""What is mounted, and its end."""

import pathlib
import subprocess
import time


def is_mounted(mount_point):
    """Asks the kernel, since a disk without power answers no question about itself."""
    mounts = pathlib.Path("/proc/self/mounts").read_text()
    return any(line.split(" ")[1] == str(mount_point) for line in mounts.splitlines())


def unmount(mount_point, command):
    """Unmounts with this command, and by force of its option for that if files stay open for too long."""
    deadline = time.monotonic() + 10
    while is_mounted(mount_point):
        # A process that was killed keeps its files for a moment.
        lazily = ["-z" if "fusermount" in command else "-l"] if time.monotonic() > deadline else []
        subprocess.run([*command, *lazily, mount_point], capture_output=True)
        time.sleep(0.05)
