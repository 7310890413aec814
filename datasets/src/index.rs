//! The list of photos, kept in a cache file so that a large tree is walked once.
//!
//! The cache is trusted while every folder of the tree still has the modification time it had: one
//! `stat` a folder instead of one a file. It holds names only, so a photo whose content changes in place
//! needs no new walk. Whatever is wrong with a cache, the answer is a new walk, never an error.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{DatasetError, shown};
use crate::rng::{hash, mix};
use crate::walk::{Listing, check_folder, key, modified, real_paths, walk};

/// Rises with the layout of [`CacheFile`] and with the rules of the walk (endings, links, hidden files).
const VERSION: u32 = 2;

/// A folder changed this shortly before it was walked may have changed again within the same tick of
/// its file system's clock (2 s on FAT), unseen: such a cache is not trusted.
const SETTLED_NS: i128 = 3_000_000_000;

/// The photos of a folder.
pub(crate) struct Index {
    /// Paths relative to the root, sorted by [`key`].
    pub(crate) photos: Vec<PathBuf>,
    /// A hash of all of them, in order.
    pub(crate) fingerprint: u64,
    /// One line for each thing that could not be read or written.
    pub(crate) warnings: Vec<String>,
    /// Whether the walk was spared.
    pub(crate) from_cache: bool,
}

/// The cache as a file: JSON.
#[derive(Serialize, Deserialize)]
struct CacheFile {
    version: u32,
    root: String,
    /// The real paths that do not count.
    left_out: Vec<String>,
    /// When the walk began, nanoseconds since 1970.
    walked: i64,
    /// Folders relative to the root, and when they were modified.
    folders: Vec<(String, i64)>,
    photos: Vec<String>,
    /// [`fingerprint`] of `photos`: an edited or damaged list is not trusted.
    fingerprint: u64,
}

impl Index {
    /// The photos under `root`, less those at or below `leave_out`, from `cache` where that is still true, else from a
    /// walk.
    pub(crate) fn open(
        root: &Path,
        cache: Option<&Path>,
        leave_out: &[PathBuf],
    ) -> Result<Self, DatasetError> {
        check_folder(root)?;
        let leave_out = real_paths(root, leave_out);
        if let Some(index) = cache.and_then(|cache| read(root, cache, &leave_out)) {
            return Ok(index);
        }
        let walked = now();
        let mut listing = walk(root, &leave_out)?;
        let fingerprint = fingerprint(listing.photos.iter().map(|path| key(path)));
        // A tree with unreadable parts is walked again next time: mended permissions do not show in a
        // folder's modification time.
        if let Some(cache) = cache.filter(|_| listing.warnings.is_empty())
            && let Some(file) = cache_file(root, &leave_out, walked, &listing, fingerprint)
            && let Err(error) = write(cache, &file)
        {
            listing.warnings.push(format!("{}: cannot keep the list of photos: {error}", shown(cache)));
        }
        Ok(Self { photos: listing.photos, fingerprint, warnings: listing.warnings, from_cache: false })
    }
}

/// A hash of the sorted keys of the photos.
fn fingerprint(keys: impl Iterator<Item = impl AsRef<str>>) -> u64 {
    keys.fold(0, |all, key| mix(all ^ hash(key.as_ref())))
}

fn now() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i128)
}

/// `None` where a name is not Unicode or a time is out of range: such a tree is walked every time.
fn cache_file(
    root: &Path,
    leave_out: &[PathBuf],
    walked: i128,
    listing: &Listing,
    fingerprint: u64,
) -> Option<CacheFile> {
    let folders = listing
        .folders
        .iter()
        .map(|(path, time)| Some((text(path)?, i64::try_from(*time).ok()?)))
        .collect::<Option<_>>()?;
    Some(CacheFile {
        version: VERSION,
        root: root_name(root)?,
        left_out: texts(leave_out)?,
        walked: i64::try_from(walked).ok()?,
        folders,
        photos: texts(&listing.photos)?,
        fingerprint,
    })
}

fn text(path: &Path) -> Option<String> {
    path.to_str().map(str::to_owned)
}

fn texts(paths: &[PathBuf]) -> Option<Vec<String>> {
    paths.iter().map(|path| text(path)).collect()
}

/// The real path, so that one cache file serves however the folder is spelt.
fn root_name(root: &Path) -> Option<String> {
    fs::canonicalize(root).ok()?.into_os_string().into_string().ok()
}

fn read(root: &Path, cache: &Path, leave_out: &[PathBuf]) -> Option<Index> {
    let file: CacheFile = serde_json::from_slice(&fs::read(cache).ok()?).ok()?;
    let photos: Vec<_> = file.photos.iter().map(PathBuf::from).collect();
    let valid = file.version == VERSION
        && Some(file.root) == root_name(root)
        && Some(file.left_out) == texts(leave_out)
        && fingerprint(photos.iter().map(|path| key(path))) == file.fingerprint
        && file.folders.iter().all(|(folder, time)| {
            let time = i128::from(*time);
            time + SETTLED_NS < i128::from(file.walked) && modified(&root.join(folder)) == Some(time)
        });
    valid.then_some(Index { photos, fingerprint: file.fingerprint, warnings: Vec::new(), from_cache: true })
}

/// Temporary name, sync, rename: another run never reads half a list. (As `write_atomically` of the checkpoints,
/// which this crate does not otherwise need.)
fn write(cache: &Path, file: &CacheFile) -> io::Result<()> {
    let folder = cache.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = tempfile::NamedTempFile::new_in(folder)?;
    let mut writer = BufWriter::new(temporary.as_file());
    serde_json::to_writer(&mut writer, file)?;
    writer.flush()?;
    drop(writer);
    temporary.as_file().sync_all()?;
    temporary.persist(cache).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A tree whose folders were last changed an hour ago, and a place for its cache.
    fn tree() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let (root, cache) = (home.path().join("photos"), home.path().join("cache/index.json"));
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("a.jpg"), b"x").unwrap();
        fs::write(root.join("sub/b.jpg"), b"x").unwrap();
        settle(&root);
        (home, root, cache)
    }

    fn settle(root: &Path) {
        let hour_ago = SystemTime::now() - Duration::from_secs(3_600);
        for folder in [root.join("sub"), root.to_owned()] {
            fs::File::open(folder).unwrap().set_modified(hour_ago).unwrap();
        }
    }

    #[test]
    fn a_second_opening_is_spared_the_walk() {
        let (_home, root, cache) = tree();
        let first = Index::open(&root, Some(&cache), &[]).unwrap();
        let second = Index::open(&root, Some(&cache), &[]).unwrap();
        assert!(!first.from_cache && second.from_cache);
        assert_eq!(first.photos, second.photos);
        assert_eq!(first.fingerprint, second.fingerprint);
        assert_eq!(fs::read_dir(cache.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn an_added_or_removed_photo_is_noticed() {
        let (_home, root, cache) = tree();
        let first = Index::open(&root, Some(&cache), &[]).unwrap();
        fs::write(root.join("sub/c.jpg"), b"x").unwrap();
        let second = Index::open(&root, Some(&cache), &[]).unwrap();
        assert!(!second.from_cache);
        assert_eq!(second.photos.len(), 3);
        assert_ne!(first.fingerprint, second.fingerprint);
        // The folder changed just now, so not even the fresh cache is trusted yet.
        assert!(!Index::open(&root, Some(&cache), &[]).unwrap().from_cache);
        fs::remove_file(root.join("a.jpg")).unwrap();
        assert_eq!(Index::open(&root, Some(&cache), &[]).unwrap().photos.len(), 2);
    }

    #[test]
    fn a_list_that_left_out_something_else_is_walked_again() {
        let (_home, root, cache) = tree();
        let open = |leave_out: &[PathBuf]| {
            let index = Index::open(&root, Some(&cache), leave_out).unwrap();
            (index.photos.len(), index.from_cache)
        };
        let log = [root.join("sub")];
        assert_eq!(open(&[]), (2, false));
        assert_eq!(open(&log), (1, false));
        assert_eq!(open(&log), (1, true));
        assert_eq!(open(&[]), (2, false));
    }

    #[test]
    fn a_damaged_foreign_or_newer_cache_is_rebuilt() {
        let (_home, root, cache) = tree();
        Index::open(&root, Some(&cache), &[]).unwrap();
        let good = fs::read_to_string(&cache).unwrap();
        let damaged = [
            String::new(),
            "not JSON".to_owned(),
            good[..good.len() / 2].to_owned(),
            good.replace("a.jpg", "z.jpg"),
            good.replace("\"version\":2", "\"version\":3"),
            good.replace("/photos\"", "/others\""),
        ];
        for bad in damaged {
            assert_ne!(bad, good);
            fs::write(&cache, &bad).unwrap();
            let index = Index::open(&root, Some(&cache), &[]).unwrap();
            assert!(!index.from_cache, "trusted {bad}");
            assert_eq!(index.photos, [Path::new("a.jpg"), Path::new("sub/b.jpg")]);
            assert_eq!(fs::read_to_string(&cache).unwrap().len(), good.len(), "not rewritten");
        }
        assert!(Index::open(&root, Some(&cache), &[]).unwrap().from_cache);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_a_warning() {
        let (_home, root, cache) = tree();
        fs::create_dir_all(&cache).unwrap();
        let index = Index::open(&root, Some(&cache), &[]).unwrap();
        assert_eq!(index.photos.len(), 2);
        assert!(index.warnings[0].contains("cannot keep the list"), "{:?}", index.warnings);
    }
}
