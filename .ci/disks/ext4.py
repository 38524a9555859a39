"""File systems of their own, each an ext4 in a file: they can be frozen, and filled up."""

import errno
import shutil
import subprocess

from mounts import unmount
from verdict import skip


def programs_are_there(*others):
    """Skips where one is missing."""
    for program in ("mkfs.ext4", "mount", *others):
        if not shutil.which(program):
            skip(f"there is no {program} here")


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, image, mount_point, size):
        self.image = image
        self.mount_point = mount_point
        self.size = size

    def mount(self):
        with self.image.open("wb") as image:
            image.truncate(self.size)
        self.mount_point.mkdir()
        # Without blocks that only root may use: the nodes run as root here.
        for command in (["mkfs.ext4", "-q", "-m", "0", self.image],
                        ["mount", "-o", "loop", self.image, self.mount_point]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                skip(f"{command[0]} does not work here: {done.stderr.strip()}")

    def freeze(self):
        subprocess.run(["fsfreeze", "-f", self.mount_point], check=True)

    def thaw(self):
        subprocess.run(["fsfreeze", "-u", self.mount_point], check=True)

    def release(self):
        """Thaws it if it is frozen, or else what waits for it would never end."""
        subprocess.run(["fsfreeze", "-u", self.mount_point], capture_output=True)

    def free(self):
        """In bytes."""
        return shutil.disk_usage(self.mount_point).free

    def fill(self, leave):
        """Somebody else writes until so many bytes are left. To the last one with 0."""
        with (self.mount_point / "ballast").open("ab") as ballast:
            block = bytes(1 << 16)
            while self.free() > leave:
                try:
                    ballast.write(block)
                    ballast.flush()
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def clear(self):
        """What somebody else wrote goes."""
        (self.mount_point / "ballast").unlink()

    def unmount(self):
        """The loop device goes with it."""
        unmount(self.mount_point, ["umount"])
