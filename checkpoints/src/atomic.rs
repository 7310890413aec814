//! Files that are either whole or not there: temporary name, sync, rename.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

/// Writes `path` through a temporary file beside it, syncs it and renames it into place, so that neither an
/// interrupted process nor a full disk leaves a half file or costs the one that was there.
///
/// The new file gets the permissions of an ordinary new file (read and write, less the process's umask).
///
/// # Errors
/// Whatever creating, `fill`, syncing or renaming reports; the temporary file is gone by then.
pub fn write_atomically(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary_beside(path, ".part")?;
    let mut writer = BufWriter::new(temporary.as_file());
    fill(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.as_file().sync_all()?;
    put(temporary, path)
}

/// Renames a temporary file into place. Windows refuses that (errors 5 and 32) while another program reads what is
/// there, as a viewer or a virus scanner does for a moment: it is tried again for a second.
fn put(mut temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    let mut tries = if cfg!(windows) { 20 } else { 0 };
    loop {
        match temporary.persist(path) {
            Ok(_) => return Ok(()),
            Err(refused) if tries > 0 && matches!(refused.error.raw_os_error(), Some(5 | 32)) => {
                temporary = refused.file;
            }
            Err(failed) => return Err(failed.error),
        }
        tries -= 1;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A temporary file in the folder of `path`, from where it can be renamed into place; gone when it is dropped.
///
/// # Errors
/// Whatever creating it reports; [`io::ErrorKind::InvalidInput`] when `path` is a device or a pipe: renaming would not
/// write to it, but put a file in its place (root would lose `/dev/null`).
pub fn temporary_beside(path: &Path, suffix: &str) -> io::Result<NamedTempFile> {
    if is_special(path) {
        let reason = "it is a device or a pipe, expected the name of a file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".impasto-").suffix(suffix);
    // Opened as any new file is: tempfile's own way would make every result private (0600), and put the temporary name
    // into errors.
    builder.make_in(folder, |path| File::options().read(true).write(true).create_new(true).open(path))
}

/// Is there something that is neither a file nor a folder, or a link to an open file of a process (`/dev/stdout`)?
fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
        || path.read_link().is_ok_and(|to| to.starts_with("/proc"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, |file| file.write_all(b"old")).unwrap();
        let failed = write_atomically(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_error_is_the_system_s_own_without_a_temporary_name() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_atomically(&folder.path().join("missing/a"), |_| Ok(())).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
    }

    #[cfg(windows)]
    #[test]
    fn a_file_that_somebody_reads_is_waited_for() {
        use std::os::windows::fs::OpenOptionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"old").unwrap();
        // As viewers open it, for themselves alone.
        let held = File::options().read(true).share_mode(0).open(&path).unwrap();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(held);
        });
        write_atomically(&path, |file| file.write_all(b"new")).unwrap();
        reader.join().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn devices_pipes_and_links_to_open_files_are_not_replaced() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let pipe = path("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        symlink("/dev/null", path("null")).unwrap();
        symlink("/proc/self/fd/1", path("stdout")).unwrap();
        for name in ["pipe", "null", "stdout"] {
            let before = path(name).symlink_metadata().unwrap().file_type();
            let error = write_atomically(&path(name), |file| file.write_all(b"new")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
            assert_eq!(path(name).symlink_metadata().unwrap().file_type(), before, "{name}");
        }
        assert!(pipe.metadata().unwrap().file_type().is_fifo());
        // An ordinary file behind a link is no matter: the link gives way to the result.
        std::fs::write(path("file"), b"old").unwrap();
        symlink("file", path("link")).unwrap();
        write_atomically(&path("link"), |file| file.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(path("link")).unwrap(), b"new");
        assert_eq!(std::fs::read(path("file")).unwrap(), b"old");
    }
}
