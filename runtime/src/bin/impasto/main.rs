//! The `impasto` command: raw arguments become a job, a job's result becomes an exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted. Data goes to stdout, everything else to stderr.

mod args;
mod bench;
mod choice;
#[cfg(feature = "reference")]
mod compare;
mod completions;
mod devices;
#[cfg(feature = "reference")]
mod dream;
mod export;
mod files;
#[cfg(feature = "reference")]
mod gatys;
mod interrupt;
#[cfg(any(feature = "reference", feature = "webcam"))]
mod lettering;
mod man;
#[cfg(feature = "reference")]
mod plot;
#[cfg(feature = "reference")]
mod reference;
#[cfg(feature = "reference")]
mod reference_args;
mod say;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod serve_args;
mod styles;
mod stylize;
mod version;
mod video;
#[cfg(feature = "webcam")]
mod webcam;

use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    let cli = args::parse();
    let say = say::Say::new(cli.quiet, cli.verbose);
    let result = match cli.command {
        Command::Stylize(args) => stylize::Job::new(args, say).and_then(stylize::Job::run),
        Command::Video(args) => video::run(args, say),
        #[cfg(feature = "webcam")]
        Command::Webcam(args) => webcam::run(args, say),
        Command::Styles(args) => styles::run(args, say),
        Command::Bench(args) => bench::run(args, say),
        Command::Devices(args) => devices::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args, say),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args, say),
        #[cfg(feature = "reference")]
        Command::Gatys(args) => gatys::run(*args, say),
        #[cfg(feature = "reference")]
        Command::Dream(args) => dream::run(*args, say),
        #[cfg(feature = "reference")]
        Command::Compare(args) => compare::run(*args, say),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            if say::is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            say.error(&error);
            ExitCode::FAILURE
        }
    }
}
