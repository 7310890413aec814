//! `impasto webcam`: a camera, a clip or a test pattern, painted as it comes, in a window.
//!
//! ```text
//! ffmpeg ──► newest frame ──► painter (its own thread) ──► newest painting ──► window (this thread)
//! ```
//!
//! Nothing is queued: whoever is late takes the newest there is, so what is seen is never older than a frame's
//! painting and the wait for the one before it.

mod look;
mod overlay;
mod painter;
mod stats;
mod takes;
mod window;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use impasto::Frame;
use impasto::checkpoints::shipped;
use impasto::picture::side_by_side_into;
use impasto::video::{Capture, LiveOptions, LiveSource, Tools};

use crate::args::WebcamArgs;
use crate::choice::{engine_options, first_shipped};
use crate::interrupt;
use crate::say::{Say, json_line, print};
use look::{Action, Look, StyleRef};
use painter::{Shared, Shown};
use stats::Stats;
use takes::Takes;
use window::Screen;

/// How long to wait for a painting before the keys are looked at again.
const PATIENCE: Duration = Duration::from_millis(8);

pub fn run(args: WebcamArgs, say: Say) -> Result<ExitCode> {
    let source = match args.source.to_str() {
        Some(text) => text.parse()?,
        None => LiveSource::Clip(args.source.clone()), // only a file has such a name
    };
    let tools = Tools::find()?;
    let styles = styles(&args);
    let look = Look {
        style: 0,
        strength: args.look.strength,
        keep_colors: args.look.keep_colors,
        side_by_side: args.look.side_by_side,
        smooth: args.smooth,
        // As in a mirror, which is what people expect of a camera that looks at them.
        mirror: args.mirror.unwrap_or(matches!(source, LiveSource::Camera(_))),
    };
    // The painting's own thread opens styles; the first one is checked here, before a window comes up.
    let first = styles[0].open(engine_options(&args.engine))?;
    let options = LiveOptions { width: args.size.0, height: args.size.1, fps: args.fps };
    let capture = Capture::start(&tools, &source, options)?;
    let shared = Shared::new(look);
    let mut takes = Takes::new(&tools, &args.folder);
    if args.record {
        takes.start_recording_soon();
    }
    let mut screen = match args.no_window {
        true => None,
        false => Some(Screen::open(&format!("impasto: {source}"), args.size)?),
    };
    interrupt::install_counted({
        let stop = shared.stop_flag();
        move |_| stop.store(true, std::sync::atomic::Ordering::Relaxed)
    });
    let (stats, result) = std::thread::scope(|scope| {
        let painting = scope
            .spawn(|| painter::paint_all(&capture, &shared, &styles, first, engine_options(&args.engine)));
        let shown = show_all(&args, &shared, &styles, &mut screen, &mut takes, say);
        shared.stop();
        let painted = painting.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the painting broke off")));
        match (shown, painted) {
            (Ok(stats), Ok(())) => (Some(stats), Ok(())),
            // What the painter says is the cause of what the window saw.
            (_, Err(error)) | (Err(error), Ok(())) => (None, Err(error)),
        }
    });
    takes.finish(say);
    result?;
    if let Some(stats) = stats {
        if args.json {
            print(json_line(&stats.json(styles[shared.look().style].name()))?)?;
        } else {
            say.note(&stats.words());
        }
    }
    Ok(if shared.is_interrupted() { interrupt::exit_code() } else { ExitCode::SUCCESS })
}

/// The style that was asked for, then the shipped ones.
fn styles(args: &WebcamArgs) -> Vec<StyleRef> {
    let chosen = match (&args.style.style, &args.style.model) {
        (Some(name), _) => StyleRef::Shipped(name.clone()),
        (None, Some(path)) => StyleRef::File(path.clone()),
        (None, None) => StyleRef::Shipped(first_shipped().to_owned()),
    };
    let others = shipped::names().map(|name| StyleRef::Shipped(name.to_owned()));
    let mut styles: Vec<StyleRef> = others.filter(|other| *other != chosen).collect();
    styles.insert(0, chosen);
    styles
}

/// Shows paintings and obeys keys until it is over.
fn show_all(
    args: &WebcamArgs,
    shared: &Shared,
    styles: &[StyleRef],
    screen: &mut Option<Screen>,
    takes: &mut Takes<'_>,
    say: Say,
) -> Result<Stats> {
    let mut stats = Stats::new();
    let (mut shown, mut both) = (Shown::nothing(), Frame::black(1, 1));
    let (mut overlay, mut help) = (true, false);
    while !shared.is_stopped() {
        let fresh = shared.take(&mut shown, PATIENCE);
        if fresh {
            if let Some(screen) = screen {
                let picture = if shared.look().side_by_side {
                    side_by_side_into(&shown.source, &shown.painted, &mut both);
                    &both
                } else {
                    &shown.painted
                };
                let lines = match overlay {
                    true => overlay::lines(&styles[shown.style], &shared.look(), &stats, takes, help),
                    false => Vec::new(),
                };
                screen.show(picture, &lines)?;
            }
            stats.add(&shown);
            takes.add(&shown.painted, say)?;
            if args.frames.is_some_and(|frames| stats.frames() >= u64::from(frames)) {
                break;
            }
        }
        let Some(screen) = screen else { continue };
        if !fresh {
            screen.refresh();
        }
        if !screen.is_open() {
            break;
        }
        for action in screen.actions() {
            match action {
                Action::Quit => return Ok(stats),
                Action::Overlay => overlay = !overlay,
                Action::Help => (help, overlay) = (!help, true),
                Action::Screenshot if shown.is_something() => takes.screenshot(&shown.painted, say),
                Action::Record => takes.toggle_recording(say),
                Action::Screenshot => {}
                Action::Change(change) => shared.change(|look| look.apply(change, styles.len())),
            }
        }
    }
    Ok(stats)
}
