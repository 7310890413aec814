//! Which photos a folder holds: every file once, whatever links lead to it, in one order everywhere.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use walkdir::WalkDir;

use crate::error::{DatasetError, printable, shown};

/// The endings of file names that count as photos, in any case. What is inside is judged by content.
pub const EXTENSIONS: &[&str] = &["jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// What a walk found.
pub(crate) struct Listing {
    /// The photos relative to the root, sorted by [`key`].
    pub(crate) photos: Vec<PathBuf>,
    /// The folders read, relative to the root, with their modification times: adding, removing or
    /// renaming a file changes its folder's.
    pub(crate) folders: Vec<(PathBuf, i128)>,
    /// One line for each thing that could not be read.
    pub(crate) warnings: Vec<String>,
}

/// The relative path as text with `/` between its parts: the same on every platform, for sorting and
/// hashing.
pub(crate) fn key(relative: &Path) -> String {
    relative.iter().map(OsStr::to_string_lossy).collect::<Vec<_>>().join("/")
}

/// Modification time in nanoseconds since 1970; links are followed.
pub(crate) fn modified(path: &Path) -> Option<i128> {
    let time = fs::metadata(path).ok()?.modified().ok()?;
    Some(match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    })
}

/// Refuses paths that are no readable folders, with the reason.
pub(crate) fn check_folder(root: &Path) -> Result<(), DatasetError> {
    let unreadable = |source| DatasetError::Unreadable { path: root.to_owned(), source };
    if !fs::metadata(root).map_err(unreadable)?.is_dir() {
        return Err(DatasetError::NotAFolder { path: root.to_owned() });
    }
    fs::read_dir(root).map(drop).map_err(unreadable)
}

/// The real paths of files and folders that are not the folder's photos, also of those that are not there yet; sorted.
///
/// One that is the root or above it leaves nothing out, rather than everything.
pub(crate) fn real_paths(root: &Path, leave_out: &[PathBuf]) -> Vec<PathBuf> {
    let root = fs::canonicalize(root).ok();
    let mut real: Vec<_> = leave_out.iter().filter_map(|path| real_path(path)).collect();
    real.retain(|path| root.as_ref().is_none_or(|root| !root.starts_with(path)));
    real.sort();
    real.dedup();
    real
}

/// The real path of what may not be there: that of the last folder above it that is, and the names below.
fn real_path(path: &Path) -> Option<PathBuf> {
    let parent = || match path.parent()? {
        above if above.as_os_str().is_empty() => fs::canonicalize(".").ok(),
        above => real_path(above),
    };
    fs::canonicalize(path).ok().or_else(|| Some(parent()?.join(path.file_name()?)))
}

/// Walks `root`, following links; what lies at or below `leave_out` ([`real_paths`]) does not count.
///
/// A file or folder counts once, under its real path where that lies inside `root`; so links that lead
/// back up, in circles or to each other change nothing. Hidden entries are left out: they are thumbnails
/// and resource forks (`._photo.jpg`), not photos.
pub(crate) fn walk(root: &Path, leave_out: &[PathBuf]) -> Result<Listing, DatasetError> {
    check_folder(root)?;
    let real_root = fs::canonicalize(root)
        .map_err(|source| DatasetError::Unreadable { path: root.to_owned(), source })?;
    let mut listing = Listing { photos: Vec::new(), folders: Vec::new(), warnings: Vec::new() };
    let mut seen = HashSet::new();
    // The real paths of the folders above the entry at hand, by depth: one `canonicalize` a link, not
    // one a file.
    let mut above: Vec<PathBuf> = Vec::new();
    let mut walker = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
    while let Some(entry) = walker.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                // A link to a folder above it is met often and harmless: its photos are counted there.
                if error.loop_ancestor().is_none() {
                    listing.warnings.push(printable(&error.to_string()));
                }
                continue;
            }
        };
        let (depth, is_folder) = (entry.depth(), entry.file_type().is_dir());
        above.truncate(depth);
        let hidden = depth > 0 && entry.file_name().as_encoded_bytes().starts_with(b".");
        if hidden || !(is_folder || entry.file_type().is_file() && is_photo_name(entry.path())) {
            if is_folder {
                walker.skip_current_dir();
            }
            continue;
        }
        let real = match above.last() {
            Some(parent) if !entry.path_is_symlink() => Ok(parent.join(entry.file_name())),
            _ => fs::canonicalize(entry.path()),
        };
        let real = match real {
            Ok(real) => real,
            Err(error) => {
                listing.warnings.push(format!("{}: {error}", shown(entry.path())));
                if is_folder {
                    walker.skip_current_dir();
                }
                continue;
            }
        };
        if leave_out.iter().any(|left_out| real.starts_with(left_out)) {
            if is_folder {
                walker.skip_current_dir();
            }
            continue;
        }
        let reached = entry.path().strip_prefix(root).unwrap_or(entry.path());
        if is_folder {
            // A link to a folder above the root would bring in the rest of the disk.
            let leads_out = depth > 0 && real_root.starts_with(&real);
            if leads_out || !seen.insert(real.clone()) {
                walker.skip_current_dir();
                continue;
            }
            listing.folders.push((reached.to_owned(), modified(entry.path()).unwrap_or(i128::MAX)));
            above.push(real);
        } else if seen.insert(real.clone()) {
            listing.photos.push(real.strip_prefix(&real_root).unwrap_or(reached).to_owned());
        }
    }
    listing.photos.sort_by_cached_key(|path| key(path));
    Ok(listing)
}

fn is_photo_name(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
    }

    fn photos(root: &Path) -> Vec<String> {
        walk(root, &[]).unwrap().photos.iter().map(|path| key(path)).collect()
    }

    #[test]
    fn nested_photos_are_sorted_and_other_files_left_out() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), &["b/c.PNG", "b.jpg", "a/x/1.webp", "notes.txt", ".hid/1.jpg", "._b.jpg", "bare"]);
        assert_eq!(photos(root.path()), ["a/x/1.webp", "b.jpg", "b/c.PNG"]);
    }

    #[test]
    fn what_is_left_out_does_not_count_there_or_not_yet() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let leave_out = [at("a.log"), at("sub/../a.sample.png"), root.path().into(), at("new/deep/b.png")];
        make(root.path(), &["a.jpg", "a.logs/1.jpg", "sub/2.jpg"]);
        let photos = || {
            let found = walk(root.path(), &real_paths(root.path(), &leave_out)).unwrap().photos;
            found.iter().map(|path| key(path)).collect::<Vec<_>>()
        };
        let before = photos();
        assert_eq!(before, ["a.jpg", "a.logs/1.jpg", "sub/2.jpg"], "the root itself is never left out");
        make(root.path(), &["a.log/samples/1.png", "a.sample.png", "new/deep/b.png"]);
        assert_eq!(photos(), before);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_left_out_is_known_behind_links() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        make(root.path(), &["b/log/1.jpg", "b/2.jpg"]);
        std::os::unix::fs::symlink(at("b/log"), at("a")).unwrap();
        std::os::unix::fs::symlink(at("b"), at("c")).unwrap();
        let leave_out = real_paths(root.path(), &[at("c/log")]);
        let found = walk(root.path(), &leave_out).unwrap().photos;
        assert_eq!(found, [Path::new("b/2.jpg")]);
    }

    #[cfg(unix)]
    #[test]
    fn links_add_nothing_twice_and_loops_end() {
        use std::os::unix::fs::symlink;
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| root.path().join(name);
        make(root.path(), &["b/1.jpg", "c/2.jpg"]);
        make(outside.path(), &["3.jpg"]);
        symlink(at("b"), at("a")).unwrap(); // an earlier name for a folder
        symlink(at("b/1.jpg"), at("0.jpg")).unwrap(); // and for a file
        symlink(root.path(), at("b/up")).unwrap(); // a loop
        symlink(at("c"), at("b/c")).unwrap(); // two folders in each other
        symlink(at("b"), at("c/b")).unwrap();
        symlink(root.path().parent().unwrap(), at("c/out")).unwrap(); // the rest of the disk
        symlink(outside.path(), at("far")).unwrap();
        symlink(at("gone.jpg"), at("dangling.jpg")).unwrap();
        let listing = walk(root.path(), &[]).unwrap();
        let found: Vec<_> = listing.photos.iter().map(|path| key(path)).collect();
        assert_eq!(found, ["b/1.jpg", "c/2.jpg", "far/3.jpg"]);
        assert_eq!(listing.warnings.len(), 1, "{:?}", listing.warnings);
        assert!(listing.warnings[0].contains("dangling.jpg"));
    }

    #[test]
    fn what_is_no_folder_is_refused_with_a_hint() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), &["a.jpg"]);
        let message = walk(&root.path().join("a.jpg"), &[]).err().unwrap().to_string();
        assert!(message.contains("a.jpg: not a folder") && message.contains("hint: "), "{message}");
        let message = walk(&root.path().join("none"), &[]).err().unwrap().to_string();
        assert!(message.contains("cannot read") && message.contains("hint: check the spelling"), "{message}");
    }
}
