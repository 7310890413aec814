//! Hostile files of a few kilobytes must not make the importer ask for much memory. A test binary of its own
//! and a single test, since the figure is the process's.
#![cfg(all(feature = "import", target_os = "linux"))]

use std::path::Path;

/// Largest size that the process's address space ever had, in KiB: it counts what was asked for, used or not.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("VmPeak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn hostile_files_ask_for_little_memory() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let before = peak();
    let mut tried = 0;
    for entry in std::fs::read_dir(fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("hostile_") {
            assert!(impasto_checkpoints::import::import(&path).is_err());
            let grown = (peak() - before) >> 10;
            assert!(grown < 32, "{}: {grown} MiB more", path.display());
            tried += 1;
        }
    }
    assert!(tried >= 10, "only {tried} hostile files");
}
