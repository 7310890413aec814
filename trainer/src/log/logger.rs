//! burn-train's metric logger of this trainer: each step to TensorBoard and the CSV; a failing writer is one warning.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use impasto::Frame;

use crate::log::csv::Csv;
use crate::log::row::STEP;
use crate::log::tensorboard::EventFile;
use crate::report::Reporter;

/// TensorBoard and CSV of a run. Clones write to the same files.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Mutex<Inner>>,
    logged: Arc<Condvar>,
}

/// Longest wait for the event threads: they are at most a few steps behind.
const PATIENCE: Duration = Duration::from_secs(10);

struct Inner {
    folder: PathBuf,
    reporter: Reporter,
    events: Option<EventFile>,
    train: Option<Csv>,
    valid: Option<Csv>,
    /// The newest steps that were logged, of training and of the held-out photos.
    last: Option<u64>,
    last_valid: Option<u64>,
}

impl Journal {
    /// Opens the files in `folder` for the steps from `next_step` on.
    pub fn open(folder: &Path, columns: &[String], next_step: u64, reporter: Reporter) -> Self {
        let mut inner = Inner {
            folder: folder.to_path_buf(),
            reporter,
            events: None,
            train: None,
            valid: None,
            last: None,
            last_valid: None,
        };
        let mut header = vec![STEP.to_owned()];
        header.extend_from_slice(columns);
        inner.events = inner.keep(EventFile::create(folder), "TensorBoard");
        let csv = |name: &str, next: u64| Csv::open(&folder.join(name), &header, next);
        inner.train = inner.keep(csv("train.csv", next_step), "train.csv");
        // The photos were measured after the checkpoint's last step, under the number of the next one.
        inner.valid = inner.keep(csv("valid.csv", next_step + 1), "valid.csv");
        Journal { inner: Arc::new(Mutex::new(inner)), logged: Arc::default() }
    }

    /// Waits until a step of training, and one at which held-out photos were measured, are logged: burn-train's event
    /// threads lag behind the loop, and a checkpoint must not be ahead of the log that a resume goes on with.
    pub fn wait_for(&self, step: Option<u64>, valid: Option<u64>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Running out of patience costs some lines of a log, and a poisoned lock costs nothing.
        drop(
            self.logged
                .wait_timeout_while(inner, PATIENCE, |inner| inner.last < step || inner.last_valid < valid),
        );
    }

    /// Adds a painted sample.
    pub fn picture(&self, step: u64, tag: &str, frame: &Frame) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let written = inner.events.as_mut().map(|events| events.picture(step, tag, frame));
        inner.check(written, |inner| inner.events = None, "TensorBoard");
    }

    fn values(&self, split: &Split, values: &[(String, f64)]) {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        let find = |name: &str| values.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        let Some(step) = find(STEP) else { return };
        let prefix = if *split == Split::Valid { "valid/" } else { "" };
        let tagged: Vec<_> = values
            .iter()
            .filter(|(name, value)| name != STEP && value.is_finite())
            .map(|(name, value)| (format!("{prefix}{name}"), *value))
            .collect();
        let entries = tagged.iter().map(|(tag, value)| (tag.as_str(), *value));
        let written = inner.events.as_mut().map(|events| events.scalars(step as u64, entries));
        inner.check(written, |inner| inner.events = None, "TensorBoard");
        if *split == Split::Valid {
            let written = inner.valid.as_mut().map(|csv| csv.write(find));
            inner.check(written, |inner| inner.valid = None, "valid.csv");
            inner.last_valid = Some(step as u64);
        } else {
            let written = inner.train.as_mut().map(|csv| csv.write(find));
            inner.check(written, |inner| inner.train = None, "train.csv");
            inner.last = Some(step as u64);
        }
        self.logged.notify_all();
    }
}

impl Inner {
    fn keep<T, E: Display>(&self, opened: Result<T, E>, what: &str) -> Option<T> {
        opened.map_err(|error| self.warn(what, &error)).ok()
    }

    /// A writer that failed is let go, so that there is one warning and not one a step.
    fn check(&mut self, written: Option<io::Result<()>>, let_go: impl FnOnce(&mut Inner), what: &str) {
        if let Some(Err(error)) = written {
            self.warn(what, &error);
            let_go(self);
        }
    }

    fn warn(&self, what: &str, error: &dyn Display) {
        let folder = self.folder.display();
        self.reporter.warn(&format!("{folder}: cannot write {what}: {error}; training goes on without it"));
    }
}

/// The [`Journal`] as burn-train's logger.
pub struct JournalLogger {
    journal: Journal,
    names: HashMap<MetricId, String>,
}

impl JournalLogger {
    /// The logger of a journal.
    pub fn new(journal: Journal) -> Self {
        JournalLogger { journal, names: HashMap::new() }
    }
}

impl MetricLogger for JournalLogger {
    fn log(&mut self, update: MetricsUpdate, _epoch: usize, split: &Split) {
        let values: Vec<_> = update
            .entries_numeric
            .iter()
            .filter_map(|update| {
                let name = self.names.get(&update.entry.metric_id)?;
                Some((name.clone(), update.numeric_entry.current()))
            })
            .collect();
        self.journal.values(split, &values);
    }

    fn read_numeric(
        &mut self,
        _name: &str,
        _epoch: usize,
        _split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new()) // nothing here stops or saves by a metric; burn-train takes an error for a bug
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.names.insert(definition.metric_id, definition.name);
    }

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
