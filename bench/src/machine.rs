//! What the operating system knows of a run: CPU time of this thread and of the servers, their memory, and where files are.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of the calling thread so far, in user and in kernel mode, to the nanosecond.
///
/// This is the scheduler's own sum, of which `getrusage` shows a rounded share. The load generator runs on one thread,
/// so that this is all it costs, whatever else its process does.
pub(crate) fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// CPU time of all of these processes' threads so far, in user and in kernel mode.
pub(crate) fn processes_cpu(pids: &[u32]) -> io::Result<Duration> {
    let mut ticks = 0;
    for pid in pids {
        ticks += cpu_ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?).ok_or_else(|| malformed("stat"))?;
    }
    Ok(ticks_to_duration(ticks))
}

/// Resident memory of all of these processes, in bytes.
pub(crate) fn processes_rss_bytes(pids: &[u32]) -> io::Result<u64> {
    let mut bytes = 0;
    for pid in pids {
        bytes += rss_bytes(&fs::read_to_string(format!("/proc/{pid}/status"))?).ok_or_else(|| malformed("status"))?;
    }
    Ok(bytes)
}

/// CPU time that the whole machine has been busy, summed over its cores: servers, clients, kernel, and whatever else ran.
pub(crate) fn machine_cpu() -> io::Result<Duration> {
    let ticks = busy_ticks(&fs::read_to_string("/proc/stat")?).ok_or_else(|| malformed("stat"))?;
    Ok(ticks_to_duration(ticks))
}

/// The cores and the kernel, in words.
pub(crate) fn described() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, Linux {}", kernel.trim())
}

/// The name of the file system that holds `path`, and whether it is in memory alone.
pub(crate) fn file_system(path: &Path) -> io::Result<(String, bool)> {
    let magic = rustix::fs::statfs(path)?.f_type as u32;
    let (name, in_memory) = match magic {
        0xEF53 => ("ext2/3/4", false),
        0x5846_5342 => ("xfs", false),
        0x9123_683E => ("btrfs", false),
        0x2FC1_2FC1 => ("zfs", false),
        0xF2F5_2010 => ("f2fs", false),
        0x794C_7630 => ("overlayfs", false),
        0x0102_1994 => ("tmpfs", true),
        0x8584_58F6 => ("ramfs", true),
        other => return Ok((format!("a file system of type {other:#x}"), false)),
    };
    Ok((name.to_owned(), in_memory))
}

fn malformed(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc has a `{file}` that is not understood"))
}

fn ticks_to_duration(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// `utime` and `stime` of `/proc/PID/stat`. The second field may hold anything, so fields are counted from its last `)`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// `VmRSS` of `/proc/PID/status`.
fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The first line of `/proc/stat` without its idle, waiting and guest columns (guest time is within user time already).
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _waiting, interrupts, soft_interrupts, ..] = *ticks else { return None };
    Some(user + nice + system + interrupts + soft_interrupts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_hostile_process_name() {
        let stat = "42 (a ) 1 (b) S 1 42 42 0 -1 4194304 100 0 0 0 70 30 5 6 20 0 1 0 100 200 300";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("42 (short) S 1"), None);
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2_097_152));
        assert_eq!(rss_bytes("Name:\tx\n"), None);
        assert_eq!(busy_ticks("cpu  10 1 5 1000 50 2 3 9 0 0\ncpu0 1\n"), Some(21));
    }

    #[test]
    fn this_process_has_memory_and_uses_cpu() {
        let pid = std::process::id();
        assert!(processes_rss_bytes(&[pid]).unwrap() > 100_000);
        let before = (thread_cpu(), processes_cpu(&[pid]).unwrap(), machine_cpu().unwrap());
        let mut sum = 0u64;
        // Two ticks and a bit, so that the coarser counters cannot but move.
        while thread_cpu() - before.0 < Duration::from_millis(25) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(processes_cpu(&[pid]).unwrap() > before.1);
        assert!(machine_cpu().unwrap() > before.2);
    }

    #[test]
    fn proc_is_not_a_disk_we_know_and_a_missing_process_is_an_error() {
        assert!(file_system(Path::new("/proc")).unwrap().0.contains("0x9fa0"));
        assert!(processes_cpu(&[u32::MAX]).is_err());
    }
}
