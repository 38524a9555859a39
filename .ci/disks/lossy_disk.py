"""lossyfs, but a sync that the power cut overtakes fails. Usage as there.

There such a sync succeeds, although what it was to keep is gone: it found the power on, and then waited for its turn
until the cut was over. A disk that lies like that loses acknowledged writes under any database.
"""

import pathlib
import sys

# What is shared between the projects lies beside them.
sys.path.insert(0, str(pathlib.Path("../shared/tools").resolve()))
import fuse
import lossyfs


class LossyDisk(lossyfs.Lossy):
    def fsync(self, path, datasync, fh):
        super().fsync(path, datasync, fh)
        self.p(path)  # fails once the power is off


if __name__ == "__main__":
    backing, mount_point, *seed = sys.argv[1:]
    disk = LossyDisk(backing, *map(int, seed))
    fuse.FUSE(disk, mount_point, foreground=True, nothreads=False, direct_io=False, big_writes=True)
