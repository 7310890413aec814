//! The loop: burn-train's custom learning strategy of this trainer.
//!
//! Steps are counted over the whole run, an epoch is `steps_per_checkpoint` of them, and a run can begin and end
//! in the middle of one.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use burn::data::dataloader::Progress;
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::train::checkpoint::{AsyncCheckpointer, CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;
use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent, LearningCheckpointer,
    LearningComponentsMarker, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader,
    TrainingComponents, TrainingItem, ValidLoader,
};
use impasto_checkpoints::{LossBalance, write_atomically};
use impasto_datasets::{DatasetError, Source};

use crate::config::TrainConfig;
use crate::error::{TrainError, one_line};
use crate::learn::checkpoint::{CheckpointFolder, PARTS, PartCheckpointer, RunIdentity};
use crate::learn::feed::Feed;
use crate::learn::optimizer::NetworkOptimizer;
use crate::learn::sample::{Sampler, latest_sample};
use crate::learn::schedule::Schedule;
use crate::learn::trainee::Trainee;
use crate::log::row::{IMAGES_PER_SECOND, LEARNING_RATE, LazyRow};
use crate::resume::resume_command;

/// The optimizer, as burn-train steps it.
pub type TraineeOptimizer<B> = NetworkOptimizer<Trainee<B>, B>;

/// burn-train's learning components, as this trainer fills them in.
pub type Components<B> = LearningComponentsMarker<B, Schedule, Trainee<B>, TraineeOptimizer<B>>;

/// On a GPU the losses, and whether its work was done at all, are looked at every so many steps: it stops its queue.
const GPU_CHECK_EVERY: u64 = 16;

/// A first sample is painted after this time at the latest.
const FIRST_SAMPLE: Duration = Duration::from_secs(20);

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps were taken.
    Finished,
    /// All of them had been taken before: the checkpoint's model was written, or is there as it would be written.
    NothingLeft {
        /// Whether the file was missing or another one.
        written: bool,
    },
    /// Somebody asked it to stop; a checkpoint was saved at this step.
    Interrupted(u64),
}

/// The loop with what it needs beside burn-train's components.
pub struct Loop<B: AutodiffBackend> {
    /// The settings.
    pub config: TrainConfig,
    /// What every checkpoint of the run repeats.
    pub identity: RunIdentity,
    /// What the losses are multiplied by, for the checkpoint.
    pub balance: Option<LossBalance>,
    /// Steps taken before.
    pub done: u64,
    /// Where checkpoints go.
    pub folder: Arc<CheckpointFolder>,
    /// The training batches; the same feed as burn-train's loader, for its failure.
    pub feed: Feed<B>,
    /// Paints samples and writes the style model.
    pub sampler: Sampler<B::InnerBackend>,
    /// The photos, for the bad ones among them.
    pub source: Source,
    /// Where it is learned.
    pub device: B::Device,
    /// Whether the losses are on the host anyway.
    pub on_cpu: bool,
    /// How the loop ended, for whoever launched it.
    pub ending: Arc<Mutex<Option<Result<Ending, TrainError>>>>,
}

/// Saves whenever asked: when that is, the loop decides.
struct Always;

impl CheckpointingStrategy for Always {
    fn checkpointing(&mut self, _step: usize, _store: &EventStoreClient) -> Vec<CheckpointingAction> {
        vec![CheckpointingAction::Save]
    }
}

/// burn-train's checkpointer over our parts.
fn checkpointer<B: AutodiffBackend>(folder: &Arc<CheckpointFolder>) -> LearningCheckpointer<Components<B>> {
    let part = |name| PartCheckpointer::new(Arc::clone(folder), name);
    let [model, optim, scheduler] = PARTS.map(part);
    LearningCheckpointer::new(
        AsyncCheckpointer::new(model),
        AsyncCheckpointer::new(optim),
        AsyncCheckpointer::new(scheduler),
        Box::new(Always),
    )
}

/// What the loop carries from step to step.
struct State<'a, B: AutodiffBackend> {
    learner: Learner<Components<B>>,
    processor: SupervisedTrainingEventProcessor<Components<B>>,
    checkpointer: LearningCheckpointer<Components<B>>,
    store: &'a EventStoreClient,
    step: u64,
    saved: Option<u64>,
    sampled: bool,
    bad_files: usize,
    started: Instant,
    last: Option<LazyRow<B::InnerBackend>>,
    /// The step at which the held-out photos were measured last.
    measured: Option<u64>,
}

impl<B: AutodiffBackend> Loop<B> {
    fn run(
        &self,
        state: &mut State<'_, B>,
        train: &TrainLoader<Components<B>>,
        valid: &ValidLoader<Components<B>>,
        interrupter: &Interrupter,
    ) -> Result<Ending, TrainError> {
        if state.step >= self.config.steps {
            return self.nothing_left(state);
        }
        while state.step < self.config.steps {
            let starved = self.epoch(state, train, interrupter)?;
            let unsaved = state.step > state.saved.unwrap_or(0);
            let saved = if unsaved { self.end_epoch(state, valid) } else { Ok(()) };
            if let Some(failure) = starved {
                return Err(self.starved(failure, saved, state.saved));
            }
            saved?;
            if interrupter.should_stop() && state.step < self.config.steps {
                return Ok(Ending::Interrupted(state.step));
            }
        }
        Ok(Ending::Finished)
    }

    /// The last checkpoint is whole, but its model may not have been written (a kill, a full disk, another output), or
    /// may now be called and licensed otherwise.
    fn nothing_left(&self, state: &State<'_, B>) -> Result<Ending, TrainError> {
        let net = state.learner.model().valid().net;
        let model = self.sampler.style_model(state.step, &net)?;
        self.folder.amend(state.step, &self.identity)?;
        let written = self.sampler.write_model_if_other(&model)?;
        if !latest_sample(&self.config).exists() {
            self.sampler.paint(state.step, &net);
        }
        Ok(Ending::NothingLeft { written })
    }

    /// The epoch of a step, from 1, as burn-train counts.
    fn epoch_number(&self, step: u64) -> usize {
        (step / self.config.steps_per_checkpoint) as usize + 1
    }

    fn global_progress(&self, step: u64) -> Progress {
        let epochs = self.config.steps.div_ceil(self.config.steps_per_checkpoint) as usize;
        Progress::new(self.epoch_number(step), epochs)
    }

    /// The steps up to the end of the epoch or of the run, or for as long as there are photos: why there are no more is
    /// what is returned then.
    fn epoch(
        &self,
        state: &mut State<'_, B>,
        train: &TrainLoader<Components<B>>,
        interrupter: &Interrupter,
    ) -> Result<Option<DatasetError>, TrainError> {
        let per_epoch = self.config.steps_per_checkpoint;
        let mut batches = train.iter();
        let mut before = Instant::now();
        loop {
            let Some(batch) = batches.next() else {
                // A whole epoch ends below, so the data did; the loader knows why.
                return Ok(self.feed.failure());
            };
            let step = batch.step;
            state.learner.lr_step();
            let output = state.learner.train_step(batch);
            let mut row = output.item;
            if self.on_cpu || step.is_multiple_of(GPU_CHECK_EVERY) {
                self.check_device()?;
                self.check_finite(&row, state.saved)?;
            }
            state.learner.optimizer_step(output.grads);
            state.step = step + 1;

            let now = Instant::now();
            let seconds = (now - before).as_secs_f64().max(1e-9);
            before = now;
            let rate = state.learner.lr_current();
            row.host =
                vec![(LEARNING_RATE, rate), (IMAGES_PER_SECOND, self.config.batch_size as f64 / seconds)];
            state.last = Some(row.clone());
            let progress = Progress::new((step % per_epoch) as usize + 1, per_epoch as usize);
            let global = self.global_progress(step);
            let item = TrainingItem::new(row, progress, global, Some(state.step as usize), Some(rate));
            state.processor.process_train(LearnerEvent::ProcessedItem(item));

            let early = !state.sampled && state.started.elapsed() > FIRST_SAMPLE;
            if early || state.step.is_multiple_of(self.config.sample_every) || state.step == self.config.steps
            {
                state.sampled = true;
                self.sampler.paint(state.step, &state.learner.model().valid().net);
                before = Instant::now(); // the sample is not part of the speed
            }
            if state.step.is_multiple_of(per_epoch)
                || state.step == self.config.steps
                || interrupter.should_stop()
            {
                return Ok(None);
            }
        }
    }

    /// What is seen and kept of the steps that were taken.
    fn end_epoch(
        &self,
        state: &mut State<'_, B>,
        valid: &ValidLoader<Components<B>>,
    ) -> Result<(), TrainError> {
        let epoch = self.epoch_number(state.step.saturating_sub(1));
        state.processor.process_train(LearnerEvent::EndEpoch(epoch));
        self.validate(state, valid, epoch);
        self.name_bad_files(state);
        self.save(state)
    }

    /// Measures the held-out photos: one row, their mean.
    fn validate(&self, state: &mut State<'_, B>, valid: &ValidLoader<Components<B>>, epoch: usize) {
        let model = state.learner.model().valid();
        let rows: Vec<_> = valid.iter().map(|batch| model.step(batch)).collect();
        if let Some(row) = mean_row(rows, state.step) {
            let global = self.global_progress(state.step.saturating_sub(1));
            let item = TrainingItem::new(row, Progress::new(1, 1), global, Some(state.step as usize), None);
            state.processor.process_valid(LearnerEvent::ProcessedItem(item));
            state.measured = Some(state.step);
        }
        state.processor.process_valid(LearnerEvent::EndEpoch(epoch));
    }

    /// Names the photos that could not be used in a log; others were taken in their places.
    fn name_bad_files(&self, state: &mut State<'_, B>) {
        let Source::Folder(photos) = &self.source else { return };
        let count = photos.bad_count();
        if count == state.bad_files {
            return;
        }
        state.bad_files = count;
        let path = self.config.log_folder().join("bad-files.log");
        let text: String = photos.bad_files().iter().map(|bad| format!("{bad}\n")).collect();
        let reporter = &self.sampler.reporter;
        match write_atomically(&path, |out| out.write_all(text.as_bytes())) {
            Ok(()) => reporter
                .warn(&format!("{count} photos could not be used; they are named in {}", path.display())),
            Err(error) => {
                reporter.warn(&format!("{count} photos could not be used ({}: {error})", path.display()))
            }
        }
    }

    /// A checkpoint and the style model as it is now.
    fn save(&self, state: &mut State<'_, B>) -> Result<(), TrainError> {
        if state.saved == Some(state.step) {
            return Ok(());
        }
        self.check_device()?;
        if let Some(row) = &state.last {
            self.check_finite(row, state.saved)?;
        }
        // Fails on a weight that is not finite, so that no checkpoint holds one.
        let model = self.sampler.style_model(state.step, &state.learner.model().valid().net)?;
        self.sampler.journal.wait_for(state.last.as_ref().map(|row| row.step), state.measured);
        self.folder.begin(state.step)?;
        state.checkpointer.checkpoint(&state.learner, state.step as usize, state.store);
        self.folder
            .finish(state.step, &self.identity, self.balance.as_ref())
            .map_err(|error| self.kept(error, state.saved))?;
        state.saved = Some(state.step);
        self.sampler.write_model(&model)
    }

    /// The photos are gone, perhaps for a while only: what was learned up to there is kept.
    fn starved(&self, failure: DatasetError, saved: Result<(), TrainError>, last: Option<u64>) -> TrainError {
        let kept = match (saved, last) {
            (Ok(()), Some(step)) => {
                format!("step {step} is saved, go on with: {}", resume_command(&self.config))
            }
            (Ok(()), None) => "no step was taken".to_owned(),
            (Err(error), _) => format!("what was learned could not be saved either: {error}"),
        };
        TrainError::Starved { failure, kept }
    }

    /// Says which checkpoint is still there when one could not be written.
    fn kept(&self, error: TrainError, saved: Option<u64>) -> TrainError {
        match (error, saved) {
            (TrainError::Io { action, path, source }, Some(step)) => TrainError::Checkpoint {
                path,
                reason: format!(
                    "cannot {action}: {source}; the checkpoint of step {step} is kept; hint: make room, then \
                     go on with --resume"
                ),
            },
            (error, _) => error,
        }
    }

    /// Waits for the device: one of its tasks that failed says so here, where it would otherwise leave a tensor as it was.
    fn check_device(&self) -> Result<(), TrainError> {
        B::sync(&self.device).map_err(|error| {
            let text = error.to_string();
            let message = one_line(text.split("Backtrace:").next().unwrap_or(&text));
            TrainError::Panicked { message }
        })
    }

    fn check_finite(&self, row: &LazyRow<B::InnerBackend>, saved: Option<u64>) -> Result<(), TrainError> {
        let values = row.fetch();
        if values.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        let broken = row.names.iter().zip(&values).filter(|(_, value)| !value.is_finite());
        let terms = broken.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
        let kept = match saved {
            Some(step) => format!("the checkpoint of step {step} is kept"),
            None => "there is no checkpoint yet".to_owned(),
        };
        let mut hint = format!("lower --learning-rate (now {})", self.config.learning_rate);
        if self.config.clip_norm == 0.0 {
            hint.push_str(" or set --clip-norm");
        }
        if self.config.precision != crate::config::TrainPrecision::F32 {
            hint.push_str(" or use --precision f32");
        }
        Err(TrainError::NotFinite { step: row.step, terms, kept, hint })
    }
}

/// The mean of rows with the same names.
fn mean_row<B: Backend>(rows: Vec<LazyRow<B>>, step: u64) -> Option<LazyRow<B>> {
    let names = Arc::clone(&rows.first()?.names);
    let values: Vec<Tensor<B, 1>> = rows.into_iter().map(|row| row.values).collect();
    let values = Tensor::stack::<2>(values, 0).mean_dim(0).squeeze_dim(0);
    Some(LazyRow { step, names, values, host: Vec::new() })
}

impl<B: AutodiffBackend> SupervisedLearningStrategy<Components<B>> for Loop<B> {
    fn fit(
        &self,
        components: TrainingComponents<Components<B>>,
        learner: Learner<Components<B>>,
        train: TrainLoader<Components<B>>,
        valid: ValidLoader<Components<B>>,
        _starting_epoch: usize,
    ) -> (Trainee<B>, SupervisedTrainingEventProcessor<Components<B>>) {
        let mut state = State {
            learner,
            processor: components.event_processor,
            checkpointer: checkpointer(&self.folder),
            store: &components.event_store,
            step: self.done,
            saved: (self.done > 0).then_some(self.done),
            sampled: false,
            bad_files: 0,
            started: Instant::now(),
            last: None,
            measured: None,
        };
        let ending = self.run(&mut state, &train, &valid, &components.interrupter);
        *self.ending.lock().unwrap_or_else(PoisonError::into_inner) = Some(ending);
        (state.learner.model(), state.processor)
    }
}
