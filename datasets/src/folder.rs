//! A folder of photos as a source: which are held out, which come next, and which turned out bad.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{DatasetError, shown};
use crate::index::Index;
use crate::order::shuffled;
use crate::photo::{Framing, PhotoReader, Unusable};
use crate::rng::{Purpose, Random, hash};
use crate::walk::{check_folder, key};

/// How many photos are drawn at random in place of a bad one before the rest is tried one by one. Trying one by one
/// favours the photo that follows a run of bad ones, so it must be rare: where 99 of 100 photos are bad, one position in
/// 30,000 gets that far. A draw of a photo that is known to be bad costs no reading.
const RANDOM_REPLACEMENTS: u64 = 1024;

/// After so many photos that the system does not give, and none that it does, no others are tried: the disk is gone, and
/// each try may take it seconds to say so. With half of the photos gone it never gets that far.
const ENOUGH_WITHHELD: usize = 64;

/// Warnings that are kept in full: links whose targets are not there come by the thousand (a tree of git-annex or DVC
/// without its content).
const MAX_WARNINGS: usize = 16;

/// Which photos are kept from training, to validate on. The choice hashes each photo's relative path, so
/// it depends neither on the seed nor, for a fraction, on which other photos there are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Holdout {
    /// None: every photo is trained on.
    #[default]
    None,
    /// About this share of the photos, in 0..1.
    Fraction(f64),
    /// This many photos: those with the smallest hashes, so that an added photo replaces one at most.
    Count(usize),
}

/// How [`PhotoFolder::open`] reads a folder.
#[derive(Clone, Debug, Default)]
pub struct FolderOptions {
    /// A file to keep the list of photos in, so that a large tree is walked once; best outside of the
    /// folder, whose modification time it would change. A missing or damaged one is written anew.
    pub cache: Option<PathBuf>,
    /// Files and folders that are not photos of this folder, whether they are there yet or not: what a training writes
    /// while it reads. The folder itself, or one above it, leaves nothing out.
    pub leave_out: Vec<PathBuf>,
    /// Which photos are not trained on. At least one photo always is.
    pub holdout: Holdout,
}

/// A photo that could not be used; another one was taken in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFile {
    /// The file, relative to the folder.
    pub path: PathBuf,
    /// What is wrong with it, in one line.
    pub reason: String,
}

impl fmt::Display for BadFile {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", shown(&self.path), self.reason)
    }
}

/// A folder of photos, searched with its sub-folders. Cloning is cheap; clones share one list of bad files.
#[derive(Clone, Debug)]
pub struct PhotoFolder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// Paths relative to the root.
    photos: Vec<PathBuf>,
    /// Indices into `photos`, ascending.
    training: Vec<usize>,
    /// Indices into `photos`, by ascending hash.
    held_out: Vec<usize>,
    fingerprint: u64,
    warnings: Vec<String>,
    from_cache: bool,
    bad: Mutex<Bad>,
}

#[derive(Debug, Default)]
struct Bad {
    /// In the order in which they were met.
    files: Vec<BadFile>,
    /// Those that are bad in themselves, and not read again.
    known: HashSet<usize>,
    /// Those that the system did not give: it may the next time.
    withheld: HashSet<usize>,
}

/// What came of reading a photo.
enum Outcome {
    Made,
    Bad,
    /// With the system's reason.
    Withheld(String),
}

impl PhotoFolder {
    /// Lists the photos of `root`: files with one of the [`EXTENSIONS`](crate::EXTENSIONS), in all
    /// sub-folders, links followed, each file once. Nothing is decoded yet.
    ///
    /// # Errors
    /// [`DatasetError::NotAFolder`], [`DatasetError::Unreadable`], [`DatasetError::Empty`], and
    /// [`DatasetError::Config`] for a fraction outside 0..1.
    pub fn open(root: impl AsRef<Path>, options: &FolderOptions) -> Result<Self, DatasetError> {
        let root = root.as_ref();
        if let Holdout::Fraction(share) = options.holdout
            && !(0.0..1.0).contains(&share)
        {
            let reason = format!("the held-out fraction is {share}, expected at least 0 and below 1");
            return Err(DatasetError::Config { reason });
        }
        let Index { photos, fingerprint, mut warnings, from_cache } =
            Index::open(root, options.cache.as_deref(), &options.leave_out)?;
        if photos.is_empty() {
            return Err(DatasetError::Empty { path: root.to_owned(), warnings });
        }
        if warnings.len() > MAX_WARNINGS {
            let rest = warnings.split_off(MAX_WARNINGS).len();
            warnings.push(format!("{}: {rest} more files or folders cannot be read", shown(root)));
        }
        let (training, held_out) = split(&photos, options.holdout);
        let bad = Mutex::default();
        let root = root.to_owned();
        let shared = Shared { root, photos, training, held_out, fingerprint, warnings, from_cache, bad };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The folder, as it was given.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// How many photos are trained on, bad ones among them.
    pub fn training_len(&self) -> usize {
        self.shared.training.len()
    }

    /// How many photos are held out, bad ones among them.
    pub fn validation_len(&self) -> usize {
        self.shared.held_out.len()
    }

    /// A hash of the relative paths of all photos. A run resumed on another value does not see the
    /// pictures that it would have seen.
    pub fn fingerprint(&self) -> u64 {
        self.shared.fingerprint
    }

    /// Whether the list of photos came from the cache.
    pub fn from_cache(&self) -> bool {
        self.shared.from_cache
    }

    /// What could not be read while listing the photos, or a cache that could not be written: a line each, and one for
    /// the rest where there are many.
    pub fn warnings(&self) -> &[String] {
        &self.shared.warnings
    }

    /// How many bad files were met so far.
    pub fn bad_count(&self) -> usize {
        self.bad().files.len()
    }

    /// The bad files met so far, in the order in which they were met: the list only grows. (What a batch
    /// holds never depends on that order.)
    pub fn bad_files(&self) -> Vec<BadFile> {
        self.bad().files.clone()
    }

    /// A poisoned lock is used on: both lists are whole between any two statements.
    fn bad(&self) -> MutexGuard<'_, Bad> {
        self.shared.bad.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The picture of this position of the endless shuffled sequence, into `out`. `Ok(false)`: `stopped`.
    ///
    /// A function of the folder, `seed` and `position` alone. That a bad file is remembered changes only
    /// the time a second meeting takes. A photo that the system does not give is replaced as well, and read again when
    /// it is its turn again; where it gives none, that is an error.
    pub(crate) fn training_picture(
        &self,
        reader: &mut PhotoReader,
        (seed, position): (u64, u64),
        size: u32,
        out: &mut [u8],
        stopped: &dyn Fn() -> bool,
    ) -> Result<bool, DatasetError> {
        let photos = &self.shared.training;
        let count = photos.len() as u64;
        let planned = shuffled(position % count, count, seed, position / count);
        let mut replacement = Random::new(Purpose::Replacement, seed, position, 0);
        let mut drawn = planned;
        let mut withheld: Vec<usize> = Vec::new();
        let mut last = None;
        for attempt in 0..=RANDOM_REPLACEMENTS + count {
            if stopped() {
                return Ok(false);
            }
            if (1..=RANDOM_REPLACEMENTS).contains(&attempt) {
                drawn = replacement.below(count);
            } else if attempt > RANDOM_REPLACEMENTS {
                // From the last draw once around: `count` steps, so every photo is tried.
                drawn = (drawn + 1) % count;
            }
            let mut random = Random::new(Purpose::Frame, seed, position, attempt);
            let framing = Framing::Random { along: random.unit(), flip: random.below(2) == 1 };
            let photo = photos[drawn as usize];
            if withheld.contains(&photo) {
                continue;
            }
            match self.read(reader, photo, size, framing, out) {
                Outcome::Made => return Ok(true),
                Outcome::Bad => {}
                Outcome::Withheld(reason) => {
                    // Where the folder itself is gone, no other photo need be tried.
                    check_folder(self.root())?;
                    withheld.push(photo);
                    last = Some((self.shared.photos[photo].clone(), reason));
                    if withheld.len() >= ENOUGH_WITHHELD {
                        break;
                    }
                }
            }
        }
        if let Some((example, reason)) = last {
            let (path, tried) = (self.root().to_owned(), withheld.len());
            return Err(DatasetError::Withheld { path, tried, example, reason });
        }
        let first = self.bad().files.first().cloned();
        let (example, reason) = first.map_or_else(Default::default, |bad| (bad.path, bad.reason));
        Err(DatasetError::NothingDecodes {
            path: self.root().to_owned(),
            tried: photos.len(),
            example,
            reason,
        })
    }

    /// The held-out photo of this rank, with its relative path; `None` in place of a bad one.
    pub(crate) fn validation_picture(
        &self,
        reader: &mut PhotoReader,
        rank: usize,
        size: u32,
    ) -> Option<(String, Vec<u8>)> {
        let photo = self.shared.held_out[rank];
        let mut rgb = vec![0; size as usize * size as usize * 3];
        let name = key(&self.shared.photos[photo]);
        let made = self.read(reader, photo, size, Framing::Centre, &mut rgb);
        matches!(made, Outcome::Made).then_some((name, rgb))
    }

    /// Reads a photo; one that cannot be used is written down, once.
    fn read(
        &self,
        reader: &mut PhotoReader,
        photo: usize,
        size: u32,
        framing: Framing,
        out: &mut [u8],
    ) -> Outcome {
        if self.bad().known.contains(&photo) {
            return Outcome::Bad;
        }
        let relative = &self.shared.photos[photo];
        let unusable = match reader.read(&self.shared.root.join(relative), size, framing, out) {
            Ok(()) => return Outcome::Made,
            Err(unusable) => unusable,
        };
        let mut bad = self.bad();
        // Two workers may meet the same file at once.
        let (outcome, reason, new) = match unusable {
            Unusable::Bad(reason) => (Outcome::Bad, reason, bad.known.insert(photo)),
            Unusable::Withheld(reason) => {
                (Outcome::Withheld(reason.clone()), reason, bad.withheld.insert(photo))
            }
        };
        if new {
            bad.files.push(BadFile { path: relative.clone(), reason });
        }
        outcome
    }
}

/// Training and held-out indices.
fn split(photos: &[PathBuf], holdout: Holdout) -> (Vec<usize>, Vec<usize>) {
    let mut hashes: Vec<_> = photos.iter().map(|path| hash(&key(path))).enumerate().collect();
    hashes.sort_unstable_by_key(|&(photo, hash)| (hash, photo));
    let wanted = match holdout {
        Holdout::None => 0,
        Holdout::Count(count) => count,
        // Compared as numbers of 53 bits, which `f64` holds exactly.
        Holdout::Fraction(share) => {
            hashes.partition_point(|&(_, hash)| ((hash >> 11) as f64) < share * (1_u64 << 53) as f64)
        }
    };
    let (held_out, training) = hashes.split_at(wanted.min(photos.len() - 1));
    let mut training: Vec<_> = training.iter().map(|&(photo, _)| photo).collect();
    training.sort_unstable();
    (training, held_out.iter().map(|&(photo, _)| photo).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_out(names: &[String], holdout: Holdout) -> Vec<String> {
        let photos: Vec<_> = names.iter().map(PathBuf::from).collect();
        let (training, held_out) = split(&photos, holdout);
        assert_eq!(training.len() + held_out.len(), names.len());
        assert!(held_out.iter().all(|photo| !training.contains(photo)));
        held_out.iter().map(|&photo| names[photo].clone()).collect()
    }

    fn names(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|i| format!("{i:012}.jpg")).collect()
    }

    #[test]
    fn a_fraction_does_not_depend_on_the_other_photos() {
        let few = held_out(&names(0..500), Holdout::Fraction(0.1));
        let many = held_out(&names(0..1_000), Holdout::Fraction(0.1));
        assert!((30..70).contains(&few.len()), "{}", few.len());
        let kept: Vec<_> = many.iter().filter(|name| few.contains(name)).collect();
        assert_eq!(kept.len(), few.len());
        let old: Vec<_> = many.iter().filter(|name| **name < format!("{:012}", 500)).collect();
        assert_eq!(old.len(), few.len(), "no old photo changed sides");
    }

    #[test]
    fn a_count_is_exact_and_an_added_photo_replaces_one_at_most() {
        let before = held_out(&names(0..100), Holdout::Count(10));
        let after = held_out(&names(0..101), Holdout::Count(10));
        assert_eq!((before.len(), after.len()), (10, 10));
        assert!(before.iter().filter(|name| after.contains(name)).count() >= 9);
    }

    #[test]
    fn at_least_one_photo_is_trained_on() {
        assert_eq!(held_out(&names(0..1), Holdout::Fraction(0.999)).len(), 0);
        assert_eq!(held_out(&names(0..3), Holdout::Count(9)).len(), 2);
        assert_eq!(held_out(&names(0..3), Holdout::None).len(), 0);
    }
}
