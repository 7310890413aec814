//! How many threads to paint with unless told.

/// One for each physical core that the process may use: two threads on one core share its arithmetic units, which
/// one keeps busy alone.
pub fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    physical_cores().map_or(allowed, |cores| cores.clamp(1, allowed))
}

/// Physical cores of the machine, where the system says (Linux).
pub fn physical_cores() -> Option<usize> {
    let mut cores = std::collections::BTreeSet::new();
    for cpu in std::fs::read_dir("/sys/devices/system/cpu").ok()?.flatten() {
        // A core is known by the list of its threads.
        if let Ok(threads) = std::fs::read_to_string(cpu.path().join("topology/thread_siblings_list")) {
            cores.insert(threads);
        }
    }
    Some(cores.len()).filter(|&cores| cores > 0)
}
