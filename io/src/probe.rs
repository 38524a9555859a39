//! Is io_uring to be had? Asked before the first executor, because the runtime panics or exits where it is not, and
//! neither says which of the four usual causes it was. Each is an error here that names the cause and what to do.
#![allow(unsafe_code)]

use std::{fs, io, mem};

/// The oldest kernel that has every operation which is used.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// Locked memory without which the runtime refuses to start.
const MEMLOCK_MIN_BYTES: u64 = 512 << 10;

/// `IORING_REGISTER_PROBE`: asks which operations a ring knows.
const REGISTER_PROBE: libc::c_long = 8;

/// `IO_URING_OP_SUPPORTED`.
const OP_SUPPORTED: u16 = 1;

/// The operations used: no-op, readv to poll remove, sendmsg to fallocate, open, close, statx, read, write, send,
/// recv, by their numbers in `io_uring.h`.
const OPERATIONS: [u8; 24] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 26, 27];

/// Room for the operations that a kernel knows, of which there are at most 256.
const PROBE_OPERATIONS: usize = 256;

/// Why io_uring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel has no io_uring, or one that lacks operations.
    #[error(
        "this kernel ({release}) lacks io_uring or parts of it: use Linux 5.8 or later, built with CONFIG_IO_URING"
    )]
    OldKernel {
        /// The kernel's release.
        release: String,
    },
    /// The administrator switched it off.
    #[error(
        "io_uring is switched off for this process (kernel.io_uring_disabled = {value}): run `sysctl \
         kernel.io_uring_disabled=0`{}",
        if *.value == 1 { ", or put the user into the group named by kernel.io_uring_group" } else { "" }
    )]
    Disabled {
        /// 1: only for privileged processes and one group; 2: for nobody.
        value: u32,
    },
    /// A system call filter, as containers set one.
    #[error(
        "a system call filter (a container's seccomp profile) forbids io_uring: allow io_uring_setup, io_uring_enter \
         and io_uring_register, for instance with `docker run --security-opt seccomp=unconfined`"
    )]
    Filtered,
    /// Too little memory may be locked.
    #[error(
        "this process may lock {limit_bytes} bytes of memory, which is too little for io_uring: raise the limit with \
         `ulimit -l 65536`, or LimitMEMLOCK=64M in its systemd unit"
    )]
    MemoryLock {
        /// The soft limit.
        limit_bytes: u64,
    },
    /// Too many open files.
    #[error(
        "no file descriptor is left for io_uring: raise the limit with `ulimit -n 65536`, or LimitNOFILE in its systemd \
         unit"
    )]
    Descriptors,
    /// Something else.
    #[error("io_uring_setup failed: {0}; see `man io_uring_setup` for what this kernel means")]
    Other(#[source] io::Error),
}

/// Makes a ring of the depth that will be used, asks it what it can do, and closes it.
pub fn io_uring(depth: usize) -> Result<(), ProbeError> {
    let entries = u32::try_from(depth).unwrap_or(u32::MAX);
    // `struct io_uring_params` is 120 bytes of input and output, all zero to ask for nothing special.
    let mut parameters = [0_u64; 15];
    // SAFETY: the pointer is to a zeroed structure of the size that the call reads and writes.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, parameters.as_mut_ptr()) };
    if ring < 0 {
        return Err(explain(io::Error::last_os_error(), &Facts::gather()));
    }
    let ring = libc::c_int::try_from(ring).unwrap_or(-1);
    let supported = supported(ring);
    // SAFETY: the descriptor was just made, and nobody else has it.
    unsafe { libc::close(ring) };
    if !supported.map_err(|error| explain(error, &Facts::gather()))? {
        return Err(ProbeError::OldKernel { release: Facts::gather().release });
    }
    // The runtime asks for this much whether or not the kernel charges rings to the limit.
    let limit_bytes = memory_lock_limit_bytes();
    if limit_bytes < MEMLOCK_MIN_BYTES {
        return Err(ProbeError::MemoryLock { limit_bytes });
    }
    Ok(())
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProbeOperation {
    operation: u8,
    reserved: u8,
    flags: u16,
    reserved_2: u32,
}

/// `struct io_uring_probe`.
#[repr(C)]
struct Probe {
    last_operation: u8,
    length: u8,
    reserved: u16,
    reserved_2: [u32; 3],
    operations: [ProbeOperation; PROBE_OPERATIONS],
}

fn supported(ring: libc::c_int) -> io::Result<bool> {
    let mut probe = Probe {
        last_operation: 0,
        length: 0,
        reserved: 0,
        reserved_2: [0; 3],
        operations: [ProbeOperation::default(); PROBE_OPERATIONS],
    };
    // SAFETY: the pointer is to a zeroed structure with room for as many operations as the last argument says.
    let result =
        unsafe { libc::syscall(libc::SYS_io_uring_register, ring, REGISTER_PROBE, &raw mut probe, PROBE_OPERATIONS) };
    if result < 0 {
        let error = io::Error::last_os_error();
        // A kernel before 5.6 does not know the question.
        return if error.raw_os_error() == Some(libc::EINVAL) { Ok(false) } else { Err(error) };
    }
    Ok(OPERATIONS.iter().all(|&operation| probe.operations[usize::from(operation)].flags & OP_SUPPORTED != 0))
}

/// What tells the causes of one error number apart.
#[derive(Debug)]
struct Facts {
    release: String,
    /// `kernel.io_uring_disabled`; none before Linux 6.6.
    disabled: Option<u32>,
    /// Whether a system call filter is installed.
    filtered: bool,
    memory_lock_limit_bytes: u64,
}

impl Facts {
    fn gather() -> Facts {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Facts {
            release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            filtered: read("/proc/thread-self/status")
                .lines()
                .any(|line| line.replace(char::is_whitespace, "") == "Seccomp:2"),
            memory_lock_limit_bytes: memory_lock_limit_bytes(),
        }
    }

    fn kernel_is_old(&self) -> bool {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < KERNEL_MIN
    }
}

fn explain(error: io::Error, facts: &Facts) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => match facts.disabled {
            // With 1 a privileged process would have got its ring, so it is the sysctl whether or not a filter is
            // there too.
            Some(value @ 1..) => ProbeError::Disabled { value },
            _ => ProbeError::Filtered,
        },
        // Some filters pretend that the call does not exist.
        Some(libc::ENOSYS) if facts.filtered && !facts.kernel_is_old() => ProbeError::Filtered,
        Some(libc::ENOSYS) => ProbeError::OldKernel { release: facts.release.clone() },
        Some(libc::ENOMEM) => ProbeError::MemoryLock { limit_bytes: facts.memory_lock_limit_bytes },
        Some(libc::EMFILE | libc::ENFILE) => ProbeError::Descriptors,
        _ => ProbeError::Other(error),
    }
}

fn memory_lock_limit_bytes() -> u64 {
    // SAFETY: `rlimit` is plain numbers.
    let mut limit: libc::rlimit = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a structure of the type that the call writes.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0 {
        return u64::MAX;
    }
    limit.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            release: "6.8.0-41-generic".to_owned(),
            disabled: Some(0),
            filtered: false,
            memory_lock_limit_bytes: 65_536,
        }
    }

    fn told(errno: i32, facts: &Facts) -> String {
        explain(io::Error::from_raw_os_error(errno), facts).to_string()
    }

    #[test]
    fn each_cause_is_told_apart_with_its_remedy() {
        let told_of = [
            (
                libc::ENOSYS,
                Facts { release: "4.19.0-27-amd64".to_owned(), ..facts() },
                "(4.19.0-27-amd64)",
                "use Linux 5.8",
            ),
            (libc::ENOSYS, facts(), "lacks io_uring", "CONFIG_IO_URING"),
            (libc::ENOSYS, Facts { filtered: true, ..facts() }, "seccomp", "docker run"),
            (libc::EPERM, facts(), "seccomp", "io_uring_setup"),
            (libc::EPERM, Facts { disabled: None, ..facts() }, "seccomp", "io_uring_setup"),
            (libc::EPERM, Facts { disabled: Some(1), ..facts() }, "io_uring_disabled = 1", "io_uring_group"),
            (libc::EPERM, Facts { disabled: Some(2), filtered: true, ..facts() }, "io_uring_disabled = 2", "sysctl"),
            (libc::ENOMEM, facts(), "65536 bytes", "ulimit -l"),
            (libc::EMFILE, facts(), "descriptor", "ulimit -n"),
            (libc::EFAULT, facts(), "io_uring_setup failed", "man io_uring_setup"),
        ];
        for (errno, facts, cause, remedy) in told_of {
            let told = told(errno, &facts);
            assert!(told.contains(cause) && told.contains(remedy), "{errno} with {facts:?}: {told}");
            assert!(!told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn this_machine_has_it() {
        io_uring(4_096).unwrap();
    }

    /// Has this thread's `io_uring_setup` fail with `errno`, as a container's profile does.
    fn filter_io_uring(errno: u32) {
        const LOAD_CALL_NUMBER: u16 = 0x20;
        const JUMP_IF_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        const ALLOW: u32 = 0x7fff_0000;
        const FAIL: u32 = 0x0005_0000;
        let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let call = u32::try_from(libc::SYS_io_uring_setup).unwrap();
        let mut program = [
            instruction(LOAD_CALL_NUMBER, 0, 0, 0),
            instruction(JUMP_IF_EQUAL, 0, 1, call),
            instruction(RETURN, 0, 0, FAIL | errno),
            instruction(RETURN, 0, 0, ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
        // SAFETY: both calls concern this thread alone, and the program outlives the second.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
        }
    }

    #[test]
    fn a_filter_is_recognised_whichever_error_it_answers() {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let probed = std::thread::spawn(move || {
                filter_io_uring(u32::try_from(errno).unwrap());
                io_uring(4_096)
            });
            assert!(matches!(probed.join().unwrap(), Err(ProbeError::Filtered)), "errno {errno}");
        }
    }
}
