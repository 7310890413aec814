//! A disk that is soon full.

use std::path::PathBuf;
use std::process::Command;

use super::skipped;

/// A small file system of its own; unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of a size (`64k`, `1m`) on a folder, which is made if it is not there. `None`, said in one line,
    /// where that is not allowed.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn mount(test: &str, folder: impl Into<PathBuf>, size: &str) -> Option<Self> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&folder);
        if !mount.output().is_ok_and(|output| output.status.success()) {
            skipped(test, "mounting a tmpfs needs root");
            return None;
        }
        Some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}
