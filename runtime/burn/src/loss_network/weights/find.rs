//! Finding the weights of a loss network: a file given, the cache folder, the download, in this order.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use impasto_checkpoints::write_atomically;
use sha2::{Digest, Sha256};

use super::{LossWeights, download, hex};
use crate::cache;
use crate::error::BurnError;
use crate::loss_network::kind::LossNetworkKind;

/// Where a network's weights are downloaded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Address of the folder, without a slash at the end.
    pub base_url: String,
    /// File in it. The eight hexadecimal digits at the end of its stem are the first of its SHA-256.
    pub file_name: String,
    /// Longest silence of the server before the connection counts as broken.
    pub patience: Duration,
}

impl Remote {
    /// Torchvision's official address.
    ///
    /// # Source
    /// `torchvision/models/vgg.py` and `squeezenet.py`, `IMAGENET1K_V1`.
    pub fn official(kind: LossNetworkKind) -> Self {
        let file_name = match kind {
            LossNetworkKind::Vgg16 => "vgg16-397923af.pth",
            LossNetworkKind::Vgg19 => "vgg19-dcbb9e9d.pth",
            LossNetworkKind::SqueezeNet => "squeezenet1_0-b66bff10.pth",
        };
        Remote {
            base_url: "https://download.pytorch.org/models".to_string(),
            file_name: file_name.to_string(),
            patience: Duration::from_secs(30),
        }
    }

    /// The whole address.
    pub fn url(&self) -> String {
        format!("{}/{}", self.base_url, self.file_name)
    }

    fn stem(&self) -> &str {
        self.file_name.rsplit_once('.').map_or(&self.file_name, |(stem, _)| stem)
    }

    /// The first digits of the file's SHA-256, from its name.
    fn digits(&self) -> &str {
        self.stem().rsplit_once('-').map_or("", |(_, digits)| digits)
    }
}

/// Told how many bytes of how many are there.
pub type Progress<'a> = &'a mut dyn FnMut(u64, Option<u64>);

/// How [`find`] may look.
#[derive(Default)]
pub struct FindOptions<'a> {
    /// A file to use instead of anything else (`--loss-weights FILE`).
    pub file: Option<PathBuf>,
    /// The cache folder; [`default_cache_dir`] unless given.
    pub cache_dir: Option<PathBuf>,
    /// Forbids the download (`--offline`).
    pub offline: bool,
    /// Another address than [`Remote::official`].
    pub remote: Option<Remote>,
    /// Called while downloading.
    pub progress: Option<Progress<'a>>,
}

/// The cache folder for loss networks: `…/impasto/loss-networks` in the user's cache folder
/// (`$XDG_CACHE_HOME`, else `~/.cache`, on Unix).
///
/// # Errors
/// [`BurnError::NoCacheFolder`] when the user has no home folder.
pub fn default_cache_dir() -> Result<PathBuf, BurnError> {
    let folder = cache::folder().map_err(|error| BurnError::NoCacheFolder { reason: error.to_string() })?;
    Ok(folder.join("loss-networks"))
}

/// Finds the weights of `kind`:
///
/// 1. the file given;
/// 2. the cache folder: what an earlier download left, else the first file (in the order of names) that begins
///    with the network's name and ends in `.safetensors`, `.pth` or `.pt`;
/// 3. torchvision's official address, unless `offline`. The download is resumed where it broke off, checked
///    against the digits in its name (and, from the second time on, against the whole SHA-256 recorded beside
///    it), trimmed to the convolutions and cached.
///
/// # Errors
/// [`BurnError::LossWeights`] for a file that is not what it should be; [`BurnError::NoLossWeights`], which says
/// the ways out, when nothing is found and nothing can be downloaded.
pub fn find(kind: LossNetworkKind, mut options: FindOptions<'_>) -> Result<LossWeights, BurnError> {
    if let Some(file) = &options.file {
        return load_kind(file, kind);
    }
    let folder = match options.cache_dir.take() {
        Some(folder) => folder,
        None => default_cache_dir()?,
    };
    let remote = options.remote.take().unwrap_or_else(|| Remote::official(kind));
    let cache = Cache { folder: &folder, remote: &remote };

    let damaged = match cache.load(kind) {
        Some(Ok(weights)) => return Ok(weights),
        Some(Err(error)) if options.offline => return Err(error),
        // Damaged since it was cached: fetched anew.
        Some(Err(_)) => true,
        None => false,
    };
    if !damaged && let Some(file) = dropped_file(&folder, kind) {
        return load_kind(&file, kind);
    }
    let none = |reason: String| BurnError::NoLossWeights {
        network: kind.name(),
        reason,
        folder: folder.display().to_string(),
    };
    if options.offline {
        return Err(none("none in the cache folder, and --offline forbids the download".to_string()));
    }
    let mut quiet = |_: u64, _: Option<u64>| {};
    let progress = options.progress.take().unwrap_or(&mut quiet);
    cache.fill(kind, progress).map_err(none)
}

fn load_kind(file: &Path, kind: LossNetworkKind) -> Result<LossWeights, BurnError> {
    let origin = file.display().to_string();
    let bytes = super::read_limited(file).map_err(|reason| BurnError::loss_weights(&origin, reason))?;
    let weights = LossWeights::parse(&bytes, origin, Some(kind))?;
    if weights.kind != kind {
        return Err(BurnError::loss_weights(
            &weights.origin,
            format!("weights of {}, expected {kind}; hint: --loss-net {}", weights.kind, weights.kind),
        ));
    }
    Ok(weights)
}

/// A file that a person has put into the cache folder.
fn dropped_file(folder: &Path, kind: LossNetworkKind) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let known =
                path.extension().is_some_and(|end| end == "safetensors" || end == "pth" || end == "pt");
            name.starts_with(kind.name()) && known && path.is_file()
        })
        .collect();
    files.sort();
    files.into_iter().next()
}

/// What a download leaves in the cache folder, for `vgg19-dcbb9e9d.pth`:
/// `vgg19-dcbb9e9d.safetensors`, the trimmed weights, and `vgg19-dcbb9e9d.sha256`, the digests of both, one a
/// line as `sha256sum` writes them.
struct Cache<'a> {
    folder: &'a Path,
    remote: &'a Remote,
}

impl Cache<'_> {
    fn trimmed_name(&self) -> String {
        format!("{}.safetensors", self.remote.stem())
    }

    fn digests_path(&self) -> PathBuf {
        self.folder.join(format!("{}.sha256", self.remote.stem()))
    }

    /// The recorded digest of one of the two files.
    fn recorded(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.digests_path()).ok()?;
        text.lines().find_map(|line| {
            let (digest, file) = line.split_once("  ")?;
            (file == name).then(|| digest.to_string())
        })
    }

    /// The trimmed weights, if they are there; an error if they are not as they were written.
    fn load(&self, kind: LossNetworkKind) -> Option<Result<LossWeights, BurnError>> {
        let path = self.folder.join(self.trimmed_name());
        if !path.is_file() {
            return None;
        }
        Some(load_kind(&path, kind).and_then(|weights| {
            match (self.recorded(&self.trimmed_name()), &weights.sha256) {
                (Some(recorded), Some(found)) if recorded != *found => Err(BurnError::loss_weights(
                    path.display().to_string(),
                    format!("SHA-256 is {found}, expected {recorded} as recorded when it was cached; hint: delete it and it is downloaded again"),
                )),
                _ => Ok(weights),
            }
        }))
    }

    /// Downloads, checks, trims, caches.
    fn fill(&self, kind: LossNetworkKind, progress: Progress<'_>) -> Result<LossWeights, String> {
        fs::create_dir_all(self.folder)
            .map_err(|error| format!("cannot create {}: {error}", self.folder.display()))?;
        let part = self.folder.join(format!("{}.part", self.remote.file_name));
        let expected = download::Expected {
            digits: self.remote.digits(),
            recorded: self.recorded(&self.remote.file_name),
        };
        let bytes = download::fetch(&self.remote.url(), &part, &expected, self.remote.patience, progress)?;
        let digest = hex(&Sha256::digest(&bytes));
        let mut weights =
            LossWeights::parse(&bytes, self.remote.url(), Some(kind)).map_err(|e| e.to_string())?;
        drop(bytes);
        if weights.kind != kind {
            return Err(format!("{} holds {}, expected {kind}", self.remote.url(), weights.kind));
        }

        let trimmed = weights.to_safetensors().map_err(|error| error.to_string())?;
        let trimmed_digest = hex(&Sha256::digest(&trimmed));
        let path = self.folder.join(self.trimmed_name());
        let write = |path: &Path, bytes: &[u8]| {
            write_atomically(path, |out| out.write_all(bytes))
                .map_err(|error| format!("cannot write {}: {error}", path.display()))
        };
        // The record first: weights without a record would not be checked, a record without weights does no harm.
        let record =
            format!("{digest}  {}\n{trimmed_digest}  {}\n", self.remote.file_name, self.trimmed_name());
        write(&self.digests_path(), record.as_bytes())?;
        write(&path, &trimmed)?;
        // Everything that was worth keeping is cached; a part that stays behind only costs room.
        let _ = fs::remove_file(&part);
        weights.origin = path.display().to_string();
        weights.sha256 = Some(trimmed_digest);
        Ok(weights)
    }
}
