//! The command `impasto-train`: arguments to a job, the job's ending to an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (a checkpoint is saved).

mod args;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::train::Interrupter;
use clap::Parser;
use impasto_trainer::backends;
use impasto_trainer::config::TrainConfig;
use impasto_trainer::learn::sample::latest_sample;
use impasto_trainer::learn::strategy::Ending;
use impasto_trainer::report::{Reporter, duration_text};
use impasto_trainer::{Job, Outcome, StyleDistance, TrainError, resume_command};

use args::Args;

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("impasto-train: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, TrainError> {
    let request = args.request()?;
    let (device, preset) = backends::defaults(&request);
    if args.print_config {
        let mut config = TrainConfig::resolve(preset, &request.file, &request.flags);
        if request.flags.device.is_none() && request.file.device.is_none() {
            config.device = device;
        }
        print!("{}", config.to_toml()?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut request = request;
    if request.dashboard && !std::io::stdout().is_terminal() {
        eprintln!("warning: the dashboard needs a terminal; the progress line is shown instead");
        request.dashboard = false;
    }
    let interrupter = Interrupter::new();
    stop_on_ctrl_c(&interrupter);
    let reporter = Reporter::new(args.quiet);
    let job = Job::prepare(&request, preset, &device, reporter.clone(), interrupter)?;
    if args.smoke && job.config.validation_photos == 0 {
        let reason =
            "validation_photos is 0, expected at least 1 with --smoke, which measures them".to_owned();
        return Err(TrainError::Config { reason });
    }
    let outcome = impasto_trainer::train(&job)?;
    report(&job, &outcome, &reporter);
    if let Ending::Interrupted(_) = outcome.ending {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if args.smoke {
        check_smoke(outcome.style_distance)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The first Ctrl-C ends the run after its step, with a checkpoint; the second ends the process.
fn stop_on_ctrl_c(interrupter: &Interrupter) {
    let presses = AtomicUsize::new(0);
    let interrupter = interrupter.clone();
    let handler = move || {
        if presses.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!(
            "\nstopping after this step; press Ctrl-C again to stop at once and lose what follows the last checkpoint"
        );
        interrupter.stop(Some("Ctrl-C"));
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: Ctrl-C will not save a checkpoint: {error}");
    }
}

fn report(job: &Job, outcome: &Outcome, reporter: &Reporter) {
    let config = &job.config;
    let output = config.output.display();
    match outcome.ending {
        Ending::Interrupted(step) => reporter.note(&format!(
            "interrupted at step {step} of {}; go on with: {}",
            config.steps,
            resume_command(config)
        )),
        Ending::Finished => {
            let time = duration_text(outcome.seconds);
            reporter.note(&format!("{output}: learned in {} steps, {time}", config.steps));
        }
        Ending::NothingLeft { written: true } => {
            reporter.note(&format!("{output}: written from the checkpoint of step {}", config.steps));
        }
        Ending::NothingLeft { written: false } => {
            reporter.note(&format!("{output}: as it was, the model of step {}", config.steps));
        }
    }
    if !matches!(outcome.ending, Ending::Interrupted(_)) {
        if config.validation_photos > 0 {
            reporter.note(&format!("sample: {}", latest_sample(config).display()));
        }
        reporter.note(&format!("settings: {}", config.settings_file().display()));
    }
    if let Some(StyleDistance { unpainted, painted }) = outcome.style_distance {
        reporter.note(&format!(
            "distance of the validation photos to the style: unpainted {unpainted:.4}, painted {painted:.4} ({:.0} %)",
            100.0 * painted / unpainted
        ));
    }
}

/// The smoke test's question: are the painted photos at most half as far from the style as the unpainted ones?
fn check_smoke(distance: Option<StyleDistance>) -> Result<(), TrainError> {
    let reason = match distance {
        Some(StyleDistance { unpainted, painted }) if painted <= 0.5 * unpainted => return Ok(()),
        Some(StyleDistance { unpainted, painted }) => format!(
            "painted photos are at {painted:.4} from the style, unpainted at {unpainted:.4}; expected at most half"
        ),
        None => "no photo was measured, expected at least one".to_owned(),
    };
    Err(TrainError::Smoke { reason })
}
