//! What the tests of all crates share: what they need from outside, and (`docs`) the commands on the pages.
//!
//! A test that lacks something says so in one line, `skipped: TEST: REASON`, and returns; `.ci/run` looks for these
//! lines. The duty ends where a crate begins: what makes pictures, models or servers lies beside the tests of the
//! crate that it needs, for this one depends on none of them, so that all of them can use it.

#[cfg(target_os = "linux")]
mod disk;
#[cfg(unix)]
pub mod docs;

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
pub use disk::SmallDisk;

/// Says in one line that a test is skipped, and why.
pub fn skipped(test: &str, why: impl Display) {
    // Straight to the descriptor: the harness keeps what `println!` writes of a test that passes.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// The folder of real weights and photos that `IMPASTO_TEST_DATA` names (`tests/golden/README.md` says what is in it);
/// when it is unset, says that `test` is skipped.
pub fn test_data(test: &str) -> Option<PathBuf> {
    from_environment(test, "IMPASTO_TEST_DATA")
}

/// The Python with `tests/requirements.txt` in it that `IMPASTO_TEST_PYTHON` names; when it is unset, says that `test`
/// is skipped.
pub fn test_python(test: &str) -> Option<PathBuf> {
    from_environment(test, "IMPASTO_TEST_PYTHON")
}

fn from_environment(test: &str, variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if path.is_none() {
        skipped(test, format_args!("{variable} is not set"));
    }
    path
}

/// Whether all these programs are on the PATH; when one is not, says that `test` is skipped.
pub fn are_installed(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| find_program(program).is_none());
    if let Some(program) = missing {
        skipped(test, format_args!("{program} is not installed"));
    }
    missing.is_none()
}

/// Where a program lies: the first file of its name in a folder of the PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    find_in(name, &std::env::var_os("PATH")?)
}

fn find_in(name: &str, path: &OsStr) -> Option<PathBuf> {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(path).map(|folder| folder.join(&file)).find(|file| file.is_file())
}

/// A file or folder of the repository, by its path below the root: the one that this was built from, or the folder in
/// the variable `IMPASTO_REPOSITORY`, for tests that run on another machine.
pub fn repository(relative: &str) -> PathBuf {
    let root = std::env::var_os("IMPASTO_REPOSITORY").map(PathBuf::from);
    root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).join(relative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_where_the_path_says() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let path = std::env::join_paths(folders.iter().map(|folder| folder.path())).unwrap();
        assert_eq!(find_in("brush", &path), None);
        let file = format!("brush{}", std::env::consts::EXE_SUFFIX);
        // A folder of that name is no program.
        std::fs::create_dir(folders[0].path().join(&file)).unwrap();
        std::fs::write(folders[1].path().join(&file), b"").unwrap();
        assert_eq!(find_in("brush", &path), Some(folders[1].path().join(&file)));
    }

    #[test]
    fn the_repository_is_where_it_is_looked_for() {
        assert!(repository("tests/support/Cargo.toml").is_file());
    }
}
