//! Checkpoints that are whole or not there: burn-train's own checkpointers write the parts, synced, into a folder
//! of their step, and a manifest, renamed into place last, is what completes it.
//!
//! ```text
//! my.checkpoints/step-0000000500/model.mpk       weights with their parameter ids
//!                               /optim.mpk       the optimizer's moments and step counts
//!                               /scheduler.mpk   the schedule's position
//!                               /manifest.json   step, settings, balance of the losses, sizes and SHA-256
//! ```
//!
//! Random state and data position are functions of (seed, step) in this trainer, so the step is all of them.

use std::fs::{self, File};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Record, Recorder};
use burn::tensor::backend::Backend;
use burn::train::checkpoint::{Checkpointer, CheckpointerError};
use impasto_checkpoints::{LossBalance, write_atomically};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::TrainConfig;
use crate::error::{TrainError, panic_text};

/// Version of the manifest; another one is not read.
const MANIFEST_VERSION: u64 = 3;
const MANIFEST: &str = "manifest.json";

/// The parts of a checkpoint, as burn-train divides a learner.
pub const PARTS: [&str; 3] = ["model", "optim", "scheduler"];

/// What a checkpoint says of itself; its presence makes the checkpoint complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the manifest, 3.
    pub version: u64,
    /// Version of the trainer.
    pub tool: String,
    /// Steps taken: the next step's number, and with the seed the position in the data and in every random
    /// sequence.
    pub step: u64,
    /// The resolved settings, as TOML.
    pub config: String,
    /// SHA-256 of the style picture.
    pub style_sha256: String,
    /// Fingerprint of the list of training photos.
    pub dataset: String,
    /// SHA-256 of the loss network's weights, as values.
    pub loss_weights: String,
    /// What the losses are multiplied by, if they are balanced.
    pub balance: Option<LossBalance>,
    /// The parts.
    pub files: Vec<Part>,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// File name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What of a manifest stays the same during a run.
#[derive(Debug, Clone)]
pub struct RunIdentity {
    /// The resolved settings.
    pub config: TrainConfig,
    /// SHA-256 of the style picture.
    pub style_sha256: String,
    /// Fingerprint of the list of training photos.
    pub dataset: String,
    /// SHA-256 of the loss network's weights, as values.
    pub loss_weights: String,
}

/// SHA-256 in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The checkpoints of one run.
#[derive(Debug)]
pub struct CheckpointFolder {
    root: PathBuf,
    keep_last: usize,
    arrivals: Mutex<Vec<Result<Part, TrainError>>>,
    arrived: Condvar,
}

impl CheckpointFolder {
    /// The checkpoints under `root`, of which the last `keep_last` are kept.
    pub fn new(root: PathBuf, keep_last: usize) -> Self {
        CheckpointFolder {
            root,
            keep_last: keep_last.max(1),
            arrivals: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a step.
    pub fn step_folder(&self, step: u64) -> PathBuf {
        self.root.join(format!("step-{step:010}"))
    }

    /// The steps of the complete checkpoints, oldest first.
    pub fn complete(&self) -> Vec<u64> {
        let mut steps: Vec<u64> = self
            .folders()
            .into_iter()
            .filter(|(_, path)| path.join(MANIFEST).is_file())
            .map(|(step, _)| step)
            .collect();
        steps.sort_unstable();
        steps
    }

    fn folders(&self) -> Vec<(u64, PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
                Some((step, entry.path()))
            })
            .collect()
    }

    /// Reads and checks the manifest of a step, and every file it names.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] says which file is not what it should be.
    pub fn read(&self, step: u64) -> Result<Manifest, TrainError> {
        let folder = self.step_folder(step);
        let path = folder.join(MANIFEST);
        let broken =
            |path: &Path, reason: String| TrainError::Checkpoint { path: path.to_path_buf(), reason };
        let text = fs::read_to_string(&path).map_err(|source| TrainError::io("read", &path, source))?;
        let manifest: Manifest = serde_json::from_str(&text)
            .map_err(|error| broken(&path, format!("not a manifest of this version: {error}")))?;
        if manifest.version != MANIFEST_VERSION {
            let reason = format!("manifest version {}, expected {MANIFEST_VERSION}", manifest.version);
            return Err(broken(&path, reason));
        }
        for part in &manifest.files {
            let path = folder.join(&part.name);
            let bytes = fs::read(&path).map_err(|source| TrainError::io("read", &path, source))?;
            if bytes.len() as u64 != part.bytes || sha256_hex(&bytes) != part.sha256 {
                let reason =
                    format!("{} bytes that are not those of the manifest ({})", bytes.len(), part.bytes);
                return Err(broken(&path, reason));
            }
        }
        Ok(manifest)
    }

    /// The newest checkpoint that is complete and undamaged, with a warning for each newer one that is not.
    ///
    /// # Errors
    /// The newest one's error when none is undamaged. `Ok(None)` when there is none at all.
    pub fn latest(&self) -> Result<Option<(Manifest, Vec<TrainError>)>, TrainError> {
        let mut damaged = Vec::new();
        for step in self.complete().into_iter().rev() {
            match self.read(step) {
                Ok(manifest) => return Ok(Some((manifest, damaged))),
                Err(error) => damaged.push(error),
            }
        }
        match damaged.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Readies the folder of a step for its parts: nothing of an earlier attempt is left in it.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn begin(&self, step: u64) -> Result<(), TrainError> {
        self.lock().clear();
        let folder = self.step_folder(step);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|source| TrainError::io("replace", &folder, source))?;
        }
        fs::create_dir_all(&folder).map_err(|source| TrainError::io("create", &folder, source))
    }

    /// Waits for the parts, completes the checkpoint and lets go of the oldest ones.
    ///
    /// # Errors
    /// What writing a part or the manifest reports; the unfinished folder is removed then, and every older
    /// checkpoint is still there.
    pub fn finish(
        &self,
        step: u64,
        run: &RunIdentity,
        balance: Option<&LossBalance>,
    ) -> Result<(), TrainError> {
        let written = self.wait_for_parts().and_then(|files| self.complete_with(step, run, balance, files));
        if written.is_err() {
            // Best effort: without its manifest the folder does not count, and it goes on the next attempt.
            let _ = fs::remove_dir_all(self.step_folder(step));
            return written;
        }
        self.retire();
        Ok(())
    }

    fn wait_for_parts(&self) -> Result<Vec<Part>, TrainError> {
        let mut arrivals = self.lock();
        while arrivals.len() < PARTS.len() {
            arrivals = self.arrived.wait(arrivals).unwrap_or_else(PoisonError::into_inner);
        }
        let mut files = arrivals.drain(..).collect::<Result<Vec<_>, _>>()?;
        files.sort();
        Ok(files)
    }

    fn complete_with(
        &self,
        step: u64,
        run: &RunIdentity,
        balance: Option<&LossBalance>,
        files: Vec<Part>,
    ) -> Result<(), TrainError> {
        let folder = self.step_folder(step);
        sync_folder(&folder)?;
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            tool: crate::TOOL.to_owned(),
            step,
            config: run.config.to_toml()?,
            style_sha256: run.style_sha256.clone(),
            dataset: run.dataset.clone(),
            loss_weights: run.loss_weights.clone(),
            balance: balance.cloned(),
            files,
        };
        let path = folder.join(MANIFEST);
        let text = serde_json::to_string_pretty(&manifest)
            .map_err(|error| TrainError::Checkpoint { path: path.clone(), reason: error.to_string() })?;
        write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .map_err(|source| TrainError::io("write", &path, source))?;
        sync_folder(&folder)?;
        sync_folder(&self.root)
    }

    /// Puts the settings that a resume changed into a complete checkpoint, so that the next resume has them too.
    ///
    /// # Errors
    /// As [`CheckpointFolder::read`], and what writing the manifest reports; the one that was there is there then.
    pub fn amend(&self, step: u64, run: &RunIdentity) -> Result<(), TrainError> {
        let manifest = self.read(step)?;
        if manifest.config == run.config.to_toml()? {
            return Ok(());
        }
        self.complete_with(step, run, manifest.balance.as_ref(), manifest.files)
    }

    /// Removes all but the last complete checkpoints, each manifest first, and what was never completed.
    fn retire(&self) {
        let complete = self.complete();
        let keep = complete.len().saturating_sub(self.keep_last);
        for step in &complete[..keep] {
            let folder = self.step_folder(*step);
            // A checkpoint that cannot be removed costs disk space, not the run.
            let _ = fs::remove_file(folder.join(MANIFEST)).and_then(|()| fs::remove_dir_all(&folder));
        }
        for (_, folder) in self.folders() {
            if !folder.join(MANIFEST).is_file() {
                let _ = fs::remove_dir_all(&folder);
            }
        }
    }

    /// Removes every checkpoint: for a run that starts anew.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn clear(&self) -> Result<(), TrainError> {
        for (_, folder) in self.folders() {
            fs::remove_dir_all(&folder).map_err(|source| TrainError::io("remove", &folder, source))?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Result<Part, TrainError>>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a folder's entries survive a power cut.
fn sync_folder(path: &Path) -> Result<(), TrainError> {
    #[cfg(unix)]
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| TrainError::io("sync", path, source))?;
    #[cfg(not(unix))]
    let _ = path; // elsewhere a folder cannot be opened as a file; the rename is ordered by the file system
    Ok(())
}

/// burn-train's checkpointer of one part: it writes the record's bytes, synced, and reports to the folder.
///
/// The stock one never flushes and writes in place; an error of its thread becomes a panic.
#[derive(Debug, Clone)]
pub struct PartCheckpointer {
    folder: Arc<CheckpointFolder>,
    part: &'static str,
}

impl PartCheckpointer {
    /// The checkpointer of one of the [`PARTS`].
    pub fn new(folder: Arc<CheckpointFolder>, part: &'static str) -> Self {
        PartCheckpointer { folder, part }
    }

    fn file_name(&self) -> String {
        format!("{}.mpk", self.part)
    }

    fn write(&self, step: usize, bytes: &[u8]) -> Result<Part, TrainError> {
        let name = self.file_name();
        let path = self.folder.step_folder(step as u64).join(&name);
        let io = |source| TrainError::io("write", &path, source);
        let mut file = File::create(&path).map_err(io)?;
        file.write_all(bytes).map_err(io)?;
        file.sync_all().map_err(io)?;
        Ok(Part { name, bytes: bytes.len() as u64, sha256: sha256_hex(bytes) })
    }
}

type MpkRecorder = NamedMpkBytesRecorder<FullPrecisionSettings>;

impl<R: Record<B>, B: Backend> Checkpointer<R, B> for PartCheckpointer {
    fn save(&self, step: usize, record: R) -> Result<(), CheckpointerError> {
        // Fetching the record from a device that has failed panics; a part that never arrives is waited for for ever.
        let written = catch_unwind(AssertUnwindSafe(|| {
            match Recorder::<B>::record(&MpkRecorder::default(), record, ()) {
                Ok(bytes) => self.write(step, &bytes),
                Err(error) => Err(TrainError::Checkpoint {
                    path: self.folder.step_folder(step as u64).join(self.file_name()),
                    reason: format!("cannot be serialized: {error}"),
                }),
            }
        }));
        let written =
            written.unwrap_or_else(|panic| Err(TrainError::Panicked { message: panic_text(panic.as_ref()) }));
        self.folder.lock().push(written);
        self.folder.arrived.notify_all();
        // The error travels through the folder; returned here it would only panic in burn-train's thread.
        Ok(())
    }

    fn delete(&self, _step: usize) -> Result<(), CheckpointerError> {
        Ok(()) // `CheckpointFolder::finish` does, once the successor is complete
    }

    fn restore(&self, step: usize, device: &B::Device) -> Result<R, CheckpointerError> {
        let path = self.folder.step_folder(step as u64).join(self.file_name());
        let bytes = fs::read(path).map_err(CheckpointerError::IOError)?;
        Recorder::<B>::load(&MpkRecorder::default(), bytes, device).map_err(CheckpointerError::RecorderError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets::Preset;

    fn run() -> RunIdentity {
        RunIdentity {
            config: Preset::Cpu.config(),
            style_sha256: "00".into(),
            dataset: "none".into(),
            loss_weights: "11".into(),
        }
    }

    type Cpu = burn::backend::Flex;

    fn save(folder: &Arc<CheckpointFolder>, step: u64) -> Result<(), TrainError> {
        folder.begin(step)?;
        for (number, part) in PARTS.into_iter().enumerate() {
            let checkpointer = PartCheckpointer::new(Arc::clone(folder), part);
            Checkpointer::<u64, Cpu>::save(&checkpointer, step as usize, step * 10 + number as u64).unwrap();
        }
        folder.finish(step, &run(), None)
    }

    #[test]
    fn the_last_ones_are_kept_and_read_back() {
        let root = tempfile::tempdir().unwrap();
        let folder = Arc::new(CheckpointFolder::new(root.path().join("c"), 2));
        assert!(folder.latest().unwrap().is_none());
        for step in [5, 9, 100] {
            save(&folder, step).unwrap();
        }
        assert_eq!(folder.complete(), [9, 100]);
        let (manifest, damaged) = folder.latest().unwrap().unwrap();
        assert_eq!((manifest.step, damaged.len()), (100, 0));
        assert_eq!(TrainConfig::from_toml(&manifest.config).unwrap(), run().config);
        let optim = PartCheckpointer::new(Arc::clone(&folder), "optim");
        assert_eq!(Checkpointer::<u64, Cpu>::restore(&optim, 100, &Default::default()).unwrap(), 1001);
    }

    #[test]
    fn without_its_manifest_a_checkpoint_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let folder = Arc::new(CheckpointFolder::new(root.path().into(), 2));
        save(&folder, 1).unwrap();
        folder.begin(2).unwrap();
        fs::write(folder.step_folder(2).join("model.mpk"), b"half").unwrap();
        assert_eq!(folder.latest().unwrap().unwrap().0.step, 1);
        save(&folder, 3).unwrap();
        assert!(!folder.step_folder(2).exists(), "what was never completed goes with the next success");
        assert_eq!(folder.complete(), [1, 3]);
    }

    #[test]
    fn a_damaged_checkpoint_is_named_and_the_one_before_it_taken() {
        let root = tempfile::tempdir().unwrap();
        let folder = Arc::new(CheckpointFolder::new(root.path().into(), 3));
        save(&folder, 1).unwrap();
        save(&folder, 2).unwrap();
        fs::write(folder.step_folder(2).join("optim.mpk"), b"x").unwrap();
        let (manifest, damaged) = folder.latest().unwrap().unwrap();
        assert_eq!(manifest.step, 1);
        assert!(damaged[0].to_string().contains("optim.mpk"), "{}", damaged[0]);
        fs::write(folder.step_folder(1).join(MANIFEST), b"{}").unwrap();
        assert!(folder.latest().is_err(), "none is undamaged");
    }

    #[test]
    fn a_part_that_cannot_be_written_costs_no_older_checkpoint() {
        let root = tempfile::tempdir().unwrap();
        let folder = Arc::new(CheckpointFolder::new(root.path().into(), 1));
        save(&folder, 1).unwrap();
        folder.begin(2).unwrap();
        // A folder where the file should be: fails for root as well.
        fs::create_dir(folder.step_folder(2).join("optim.mpk")).unwrap();
        for part in PARTS {
            let checkpointer = PartCheckpointer::new(Arc::clone(&folder), part);
            Checkpointer::<u64, Cpu>::save(&checkpointer, 2, 0).unwrap();
        }
        let error = folder.finish(2, &run(), None).unwrap_err().to_string();
        assert!(error.contains("optim.mpk: cannot write"), "{error}");
        assert_eq!(folder.complete(), [1]);
        assert!(!folder.step_folder(2).exists());
    }

    /// What a device that has failed does to whoever fetches from it.
    struct Unreadable;

    impl<B: Backend> Record<B> for Unreadable {
        type Item<S: burn::record::PrecisionSettings> = u64;

        fn into_item<S: burn::record::PrecisionSettings>(self) -> u64 {
            panic!("the device\nis lost")
        }

        fn from_item<S: burn::record::PrecisionSettings>(_: u64, _: &B::Device) -> Self {
            Unreadable
        }
    }

    #[test]
    fn a_part_that_panics_is_an_error_and_not_waited_for() {
        let _one = crate::panics::ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let root = tempfile::tempdir().unwrap();
        let folder = Arc::new(CheckpointFolder::new(root.path().into(), 1));
        save(&folder, 1).unwrap();
        folder.begin(2).unwrap();
        for part in PARTS {
            let checkpointer = PartCheckpointer::new(Arc::clone(&folder), part);
            // As burn-train does: on a thread of its own, whose end nobody hears of.
            std::thread::spawn(move || Checkpointer::<Unreadable, Cpu>::save(&checkpointer, 2, Unreadable));
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        let finishing = Arc::clone(&folder);
        std::thread::spawn(move || sender.send(finishing.finish(2, &run(), None)));
        let finished = receiver.recv_timeout(std::time::Duration::from_secs(60)).expect("it ends");
        assert!(
            matches!(&finished, Err(TrainError::Panicked { message }) if message == "the device is lost"),
            "{finished:?}"
        );
        assert_eq!(folder.complete(), [1]);
    }
}
