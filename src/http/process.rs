//! What the kernel says about this process.

use nix::sys::resource::{Resource, getrlimit};

/// Open file descriptors, where `/proc` is there to count them.
pub(super) fn open_fds() -> Option<usize> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    // One of them is the directory being read.
    Some(entries.count().saturating_sub(1))
}

/// Bytes of memory in use, where `/proc` is there to tell.
pub(super) fn resident_bytes() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    resident.checked_mul(u64::try_from(page).ok()?)
}

/// File descriptors that may be open at once.
pub(super) fn max_fds() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .ok()
        .map(|(soft, _)| soft)
}
