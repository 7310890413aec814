//! One run from its job to its ending: what is asked, a learner (fresh or from a checkpoint), and burn-train
//! launched with our loop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::DType;
use burn::tensor::backend::AutodiffBackend;
use burn::train::checkpoint::Checkpointer;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::{Learner, SupervisedTraining, TrainStep, TrainingStrategy};
use impasto_burn::TransformNet;
use impasto_checkpoints::StyleModel;
use impasto_datasets::ValidationPicture;

use crate::config::TrainPrecision;
use crate::error::TrainError;
use crate::job::{Job, Outcome, StyleDistance};
use crate::learn::checkpoint::{CheckpointFolder, PartCheckpointer};
use crate::learn::criterion::Criterion;
use crate::learn::feed::{Feed, HeldOut, to_tensor};
use crate::learn::gain::trained_architecture;
use crate::learn::optimizer::NetworkOptimizer;
use crate::learn::sample::Sampler;
use crate::learn::schedule::Schedule;
use crate::learn::strategy::{Components, Loop};
use crate::learn::trainee::Trainee;
use crate::log::logger::{Journal, JournalLogger};
use crate::log::progress::ProgressLine;
use crate::log::row::{Column, IMAGES_PER_SECOND, LEARNING_RATE, STEP};
use crate::panics::Noted;
use crate::report::duration_text;

/// How many photos, at least, the losses are balanced on: a single one may be a clear sky.
const BALANCE_PHOTOS: usize = 16;

/// Side of the held-out photos, at most: they are painted as a whole.
const SAMPLE_SIDE: usize = 256;

/// Learns on the backend `B`; `noted` is what its threads panic about.
///
/// # Errors
/// Any [`TrainError`].
pub fn learn<B: AutodiffBackend>(
    job: &Job,
    device: &B::Device,
    on_cpu: bool,
    noted: &Noted,
) -> Result<Outcome, TrainError> {
    let config = &job.config;
    if config.precision == TrainPrecision::Bf16 && !B::supports_dtype(device, DType::BF16) {
        let reason = format!(
            "precision bf16 on {}, which does not compute in it, expected f32 there; hint: --precision f32",
            config.device
        );
        return Err(TrainError::Config { reason });
    }
    let reporter = &job.reporter;
    let (done, balance) = match &job.resume {
        Some(manifest) => (manifest.step, manifest.balance.clone()),
        None => (0, None),
    };
    // Batches of known balance serve to check their size alone.
    let batches = if balance.is_some() { 1 } else { BALANCE_PHOTOS.div_ceil(config.batch_size) };
    let photos = (0..batches as u64)
        .map(|step| {
            let batch = job.source.batch(config.seed, step, config.batch_size, config.image_size as u32)?;
            Ok(to_tensor(&batch.images, [config.batch_size, config.image_size, config.image_size], device))
        })
        .collect::<Result<Vec<_>, TrainError>>()?;
    let criterion = Arc::new(Criterion::<B::InnerBackend>::new(
        config,
        &job.weights,
        &job.style.frame,
        &photos,
        balance,
        device,
    )?);
    reporter.note(&criterion.summary());

    let held_out = HeldOut::new(&validation_pictures(job)?, Arc::clone(&criterion), device);
    let feed = Feed::<B>::new(&job.source, config, done, Arc::clone(&criterion), device.clone())?;
    let folder = Arc::new(CheckpointFolder::new(config.checkpoint_folder(), config.keep_last));
    let learner = learner::<B>(job, &folder, device)?;
    reporter.note(&estimate(job, &learner.model(), &feed, done)?);
    if job.resume.is_none() {
        // Not before: whatever could be wrong with the new run was found by now, also by a step whose result is thrown away.
        folder.clear()?;
    }

    let mut columns: Vec<String> = criterion.names().to_vec();
    columns.extend([LEARNING_RATE, IMAGES_PER_SECOND].map(str::to_owned));
    let journal = Journal::open(&config.log_folder(), &columns, done, reporter.clone());
    let sampler = Sampler {
        config: config.clone(),
        style_sha256: job.style.sha256.clone(),
        credits: job.credits(),
        photos: held_out.photos().to_vec(),
        compute: criterion.compute_type(),
        balance: criterion.balance().cloned(),
        journal: journal.clone(),
        reporter: reporter.clone(),
    };
    let ending = Arc::new(Mutex::new(None));
    let strategy = Loop {
        config: config.clone(),
        identity: job.identity(),
        balance: criterion.balance().cloned(),
        done,
        folder,
        feed: feed.clone(),
        sampler,
        source: job.source.clone(),
        device: device.clone(),
        on_cpu,
        ending: Arc::clone(&ending),
    };

    let mut training = SupervisedTraining::<Components<B>>::new(
        config.log_folder(),
        Arc::new(feed),
        Arc::new(held_out.clone()),
    )
    .with_application_logger(None)
    .with_interrupter(job.interrupter.clone())
    .with_metric_logger(JournalLogger::new(journal))
    .num_epochs(config.steps.div_ceil(config.steps_per_checkpoint) as usize)
    .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)));
    for name in columns.iter().map(String::as_str).chain([STEP]) {
        training = training.metric_train_numeric(Column::new(name));
    }
    for name in criterion.names().iter().map(String::as_str).chain([STEP]) {
        training = training.metric_valid_numeric(Column::new(name));
    }
    // The kernels are tuned by now, most of them; what failed at that was not taken.
    noted.forget();
    let started = Instant::now();
    let terminal = reporter.until_the_end();
    let result = if job.dashboard {
        reporter.hold();
        training.renderer(TuiMetricsRendererWrapper::new(job.interrupter.clone(), None)).launch(learner)
    } else {
        let line = ProgressLine::new(reporter.clone(), done, config.steps, config.steps_per_checkpoint);
        training.renderer(line).launch(learner)
    };
    drop(result.renderer);
    drop(terminal);
    let seconds = started.elapsed().as_secs_f64();
    let ending = ending.lock().unwrap_or_else(PoisonError::into_inner).take();
    let ending = ending.unwrap_or(Err(TrainError::Panicked { message: "the loop never began".into() }))?;
    let style_distance = style_distance(&criterion, &held_out, &result.model)?;
    Ok(Outcome { ending, seconds, style_distance })
}

/// The held-out photos; a folder too small to hold any out, and the few photos of `--overfit`, are validated on what is
/// trained on.
fn validation_pictures(job: &Job) -> Result<Vec<ValidationPicture>, TrainError> {
    let config = &job.config;
    let side = config.image_size.clamp(64, SAMPLE_SIDE) as u32;
    let wanted = config.validation_photos;
    let mut pictures: Vec<ValidationPicture> =
        if config.overfit > 0 { Vec::new() } else { job.source.validation(side)?.take(wanted).collect() };
    if pictures.is_empty() && wanted > 0 {
        let trained_on = if config.overfit > 0 { config.overfit } else { config.batch_size };
        let batch = job.source.batch(config.seed, 0, trained_on.min(wanted), side)?;
        let bytes = (side * side * 3) as usize;
        pictures = batch
            .images
            .chunks_exact(bytes)
            .enumerate()
            .map(|(i, rgb)| ValidationPicture {
                name: format!("training/{i}"),
                size: side,
                rgb: rgb.to_vec(),
            })
            .collect();
    }
    Ok(pictures)
}

/// The learner at the start of the run: as initialized from the seed, or as the checkpoint has it.
fn learner<B: AutodiffBackend>(
    job: &Job,
    folder: &Arc<CheckpointFolder>,
    device: &B::Device,
) -> Result<Learner<Components<B>>, TrainError> {
    let config = &job.config;
    let initial = StyleModel::initial(trained_architecture(config.width, config.output_gain)?, config.seed)?;
    let trainee = Trainee::<B> { net: TransformNet::from_model(&initial, device)? };
    let optimizer = NetworkOptimizer::init(config.optimizer);
    let mut learner = Learner::new(trainee, optimizer, Schedule::new(config, 0));
    if let Some(manifest) = &job.resume {
        let step = manifest.step as usize;
        let broken = |part: &str, error: String| TrainError::Checkpoint {
            path: folder.step_folder(manifest.step).join(format!("{part}.mpk")),
            reason: format!("cannot be restored: {error}"),
        };
        let part = |name| PartCheckpointer::new(Arc::clone(folder), name);
        let model = Checkpointer::<_, B>::restore(&part("model"), step, device);
        learner.load_model(model.map_err(|error| broken("model", error.to_string()))?);
        let optim = Checkpointer::<_, B>::restore(&part("optim"), step, device);
        learner.load_optim(optim.map_err(|error| broken("optim", error.to_string()))?);
        let scheduler = Checkpointer::<_, B>::restore(&part("scheduler"), step, device);
        learner.load_scheduler(scheduler.map_err(|error| broken("scheduler", error.to_string()))?);
    }
    Ok(learner)
}

/// How long it will take, from a few steps whose result is thrown away.
fn estimate<B: AutodiffBackend>(
    job: &Job,
    trainee: &Trainee<B>,
    feed: &Feed<B>,
    done: u64,
) -> Result<String, TrainError> {
    let config = &job.config;
    if done >= config.steps {
        return Ok(format!(
            "all {done} steps are taken; hint: for more, start anew with more --steps and --overwrite"
        ));
    }
    let batch = job.source.batch(config.seed, done, config.batch_size, config.image_size as u32)?;
    let run = |times: u32| {
        let started = Instant::now();
        for _ in 0..times {
            // Fetching the losses waits for the device.
            trainee.step(feed.to_device_batch(&batch)).item.fetch();
        }
        started.elapsed().as_secs_f64() / f64::from(times)
    };
    // The first step compiles kernels on a GPU and warms caches everywhere.
    run(1);
    let mut seconds = run(1);
    if seconds < 0.2 {
        seconds = run(5);
    }
    let left = config.steps.saturating_sub(done);
    let total = duration_text(seconds * left as f64);
    let speed = config.batch_size as f64 / seconds;
    Ok(if done == 0 {
        format!("{left} steps of {:.2} s ({speed:.1} images/s): about {total}", seconds)
    } else {
        format!(
            "{left} steps left after step {done}, {:.2} s each ({speed:.1} images/s): about {total}",
            seconds
        )
    })
}

/// The held-out photos' distance to the style, unpainted and painted: the weighted style losses' mean.
fn style_distance<B: burn::tensor::backend::Backend>(
    criterion: &Criterion<B>,
    held_out: &HeldOut<B>,
    model: &Trainee<B>,
) -> Result<Option<StyleDistance>, TrainError> {
    let photos = held_out.photos();
    let mut sum = StyleDistance { unpainted: 0.0, painted: 0.0 };
    for (_, photo) in photos {
        sum.unpainted += criterion.style_distance(photo.clone())?;
        let painted = model.net.forward_in(photo.clone(), criterion.compute_type());
        sum.painted += criterion.style_distance(painted)?;
    }
    let count = photos.len() as f64;
    let mean = StyleDistance { unpainted: sum.unpainted / count, painted: sum.painted / count };
    Ok((!photos.is_empty()).then_some(mean))
}
