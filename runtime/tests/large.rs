//! Large pictures: activations in a scratch file paint the same bits as in memory, failures are one line, and a
//! painting can be watched and stopped.

use std::cell::RefCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use impasto::checkpoints::random::uniform;
use impasto::checkpoints::{Architecture, Padding, StyleModel, Upsampling};
use impasto::engine::{Engine, Isa, PaintedMut};
use impasto::{Frame, Precision, Progress, RuntimeError, Stylizer, StylizerOptions, Tile};
use impasto_test_support::skipped;

const NO_FAST_PATH: &str = "no fast path here";

fn model(layers: &str, change: impl FnOnce(&mut Architecture)) -> StyleModel {
    let mut architecture = Architecture::johnson(8).expect("an architecture");
    architecture.layers = layers.parse().expect("layers");
    (architecture.output.scale, architecture.output.offset) = (150.0, 127.5);
    change(&mut architecture);
    StyleModel::random(architecture, 5).expect("a model")
}

/// Every kind of layer, in several orders.
fn models() -> Vec<StyleModel> {
    vec![
        model("c9s1-8,d16,d32,R32,R32,u16,u8,c9s1-3", |_| {}),
        model("c9s1-8,d16,R16,u8,c9s1-3", |architecture| {
            architecture.padding = Padding::ZeroSame;
            architecture.upsampling = Upsampling::Transposed;
            architecture.output_norm = true;
        }),
        model("c5s1-40,d48,R48,u24,c3s1-20,c7s1-3", |architecture| architecture.output_norm = true),
        model("d16,R16,R16,u8,c1s1-3", |_| {}),
    ]
}

/// A picture with edges, smooth parts and grain.
fn picture(width: usize, height: usize) -> Frame {
    let grain: Vec<f32> = uniform(9, "frame", width * height * 3).collect();
    let rgb = grain.iter().enumerate().map(|(i, grain)| {
        let (x, y) = ((i / 3 % width) as f32, (i / 3 / width) as f32);
        let stripe = if (x + 2.0 * y) % 90.0 < 30.0 { 60.0 } else { 0.0 };
        (90.0 + stripe + 60.0 * (x * 0.02).sin() + 20.0 * grain) as u8
    });
    Frame::new(width, height, rgb.collect()).expect("a frame")
}

fn paint(
    model: &StyleModel,
    frame: &Frame,
    precision: Precision,
    isa: Isa,
    threads: usize,
    tile: Tile,
) -> Vec<f32> {
    let engine = Engine::with_isa(model, precision, threads, isa).expect("an engine").with_tile(tile);
    let mut painted = vec![f32::NAN; frame.rgb().len()];
    let painted_mut = PaintedMut::Values(&mut painted);
    engine.run(frame.rgb(), frame.width(), frame.height(), painted_mut).expect("painted");
    painted
}

/// The instruction sets that have a scratch file.
fn fast() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| *isa != Isa::Portable && isa.is_available())
}

/// Bands of 4 rows are what pictures of fewer than 1280 rows have anyway.
#[test]
fn from_a_scratch_file_comes_the_same_picture_to_the_last_bit() {
    for model in models() {
        // Several strips a layer, one strip, and below the smallest size.
        for (width, height) in [(900, 41), (300, 200), (3, 2)] {
            let frame = picture(width, height);
            for isa in fast() {
                for precision in [Precision::F32, Precision::Bf16] {
                    let expected = paint(&model, &frame, precision, isa, 2, Tile::Auto);
                    for threads in [1, 3] {
                        let painted = paint(&model, &frame, precision, isa, threads, Tile::Rows(4));
                        let same = painted.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(same, "{} {width}×{height} {isa} {precision}", model.architecture());
                    }
                }
            }
        }
    }
}

/// Two planes of 64 channels are 512 bytes a pixel: of 865 MB the last 60 MB are in the file, the rest in memory.
#[test]
fn a_picture_a_little_too_large_for_memory_is_the_same_too() {
    let Some(isa) = fast().last() else { return skipped("a scratch file", NO_FAST_PATH) };
    let model = model("c3s1-64,c1s1-64,c3s1-3", |_| {});
    let frame = picture(1600, 1056);
    let [expected, painted] =
        [Tile::Off, Tile::Auto].map(|tile| paint(&model, &frame, Precision::F32, isa, 2, tile));
    assert!(painted.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn other_bands_merge_statistics_in_another_order_and_that_is_not_seen() {
    let model = model("c9s1-8,d16,d32,R32,R32,u16,u8,c9s1-3", |_| {});
    let frame = picture(300, 200);
    for isa in fast() {
        let expected = paint(&model, &frame, Precision::F32, isa, 2, Tile::Off);
        for rows in [1, 7, 64, 1_000_000] {
            let painted = paint(&model, &frame, Precision::F32, isa, 2, Tile::Rows(rows));
            let difference = painted.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference <= 1.0, "{isa}, {rows} rows: {difference}");
            // One row is rounded up to four.
            assert!(rows != 1 || difference == 0.0, "{isa}: {difference}");
        }
    }
}

/// None where only the portable path is to be had, which has a test of its own.
fn stylizer(tile: Tile, threads: usize) -> Option<Stylizer> {
    let options = StylizerOptions { threads: Some(threads), tile, ..Default::default() };
    Some(Stylizer::new(&models()[0], options).expect("a stylizer")).filter(|s| s.isa() != "portable")
}

#[test]
fn a_painting_tells_how_far_it_is() {
    let frame = picture(300, 200);
    for (tile, threads) in [(Tile::Auto, 1), (Tile::Rows(4), 1), (Tile::Auto, 3), (Tile::Rows(4), 3)] {
        let Some(stylizer) = stylizer(tile, threads) else {
            return skipped("a painting that tells", NO_FAST_PATH);
        };
        let seen = Mutex::new(Vec::new());
        let thread = std::thread::current().id();
        let report = |done: f64| {
            assert_eq!(std::thread::current().id(), thread, "on the painting's own thread");
            seen.lock().unwrap().push(done);
        };
        let mut painted = Frame::black(1, 1);
        stylizer.stylize_with(&frame, &mut painted, &Progress::new().report(&report)).unwrap();
        assert_eq!(painted, stylizer.stylize(&frame).unwrap());
        let seen = seen.into_inner().unwrap();
        assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
        // How much of the work is the calling thread's is chance if there are others.
        assert!(threads > 1 || seen.len() > 100 && seen.len() <= 1000 && seen[0] < 0.02, "{seen:?}");
        assert_eq!(seen.last(), Some(&1.0));
    }
}

#[test]
fn a_painting_can_be_stopped_and_the_stylizer_goes_on() {
    let frame = picture(300, 200);
    for (tile, threads) in [(Tile::Auto, 1), (Tile::Rows(4), 1), (Tile::Auto, 3), (Tile::Rows(4), 3)] {
        let Some(stylizer) = stylizer(tile, threads) else {
            return skipped("a painting that is stopped", NO_FAST_PATH);
        };
        let expected = stylizer.stylize(&frame).unwrap();
        let mut painted = Frame::black(1, 1);
        for at in [0.0, 0.3, 0.9] {
            let (stop, last) = (AtomicBool::new(at == 0.0), Mutex::new(0.0));
            let report = |done: f64| {
                *last.lock().unwrap() = done;
                stop.store(done >= at, Ordering::Relaxed);
            };
            let progress = Progress::new().report(&report).stop_when(&stop);
            let result = stylizer.stylize_with(&frame, &mut painted, &progress);
            let last = last.into_inner().unwrap();
            // With other threads the calling one may get to see the end only.
            if threads == 1 || at == 0.0 {
                assert!(matches!(result, Err(RuntimeError::Stopped)), "{tile} at {at}: {result:?}");
                assert!(last >= at && last < at + 0.02, "{tile}: stopped at {last}, not {at}");
            } else if last < 1.0 {
                assert!(matches!(result, Err(RuntimeError::Stopped)), "{tile} at {at}: {result:?}");
            }
            assert_eq!(stylizer.stylize(&frame).unwrap(), expected);
        }
    }
}

#[test]
fn the_portable_path_tells_and_stops_too_and_refuses_what_would_take_too_much() {
    let model = &models()[0];
    let engine = Engine::with_isa(model, Precision::F32, 2, Isa::Portable).unwrap();
    let frame = picture(40, 30);
    let seen = Mutex::new(Vec::new());
    let (report, stop) = (|done: f64| seen.lock().unwrap().push(done), AtomicBool::new(false));
    let progress = Progress::new().report(&report).stop_when(&stop);
    let mut painted = vec![0; 40 * 30 * 3];
    let mut run = || engine.run_with(frame.rgb(), 40, 30, PaintedMut::Bytes(&mut painted), &progress);
    run().unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(matches!(run(), Err(RuntimeError::Stopped)));
    let seen = seen.lock().unwrap();
    // Once a convolution; the second time after the first one.
    assert_eq!(seen.len(), 10 + 1, "{seen:?}");
    assert_eq!((seen[9], seen[10]), (1.0, seen[0]));

    // Pages that nobody touches take no memory: the refusal comes first.
    let (width, height) = (12_000, 9_000);
    let (rgb, mut painted) = (vec![0; width * height * 3], vec![0; width * height * 3]);
    let error = engine.run(&rgb, width, height, PaintedMut::Bytes(&mut painted)).unwrap_err();
    assert!(matches!(error, RuntimeError::Memory { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("12000×9000") && text.contains("hint") && text.lines().count() == 1, "{text}");
}

/// A panic in a report is the caller's; what it left behind does not disturb the next frame.
#[test]
fn a_report_that_panics_leaves_a_stylizer_that_works() {
    let Some(stylizer) = stylizer(Tile::Rows(4), 2) else {
        return skipped("a report that panics", NO_FAST_PATH);
    };
    let frame = picture(64, 48);
    let expected = stylizer.stylize(&frame).unwrap();
    let report = |done: f64| assert!(done < 0.3, "as planned");
    let painted = RefCell::new(Frame::black(1, 1));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        stylizer.stylize_with(&frame, &mut painted.borrow_mut(), &Progress::new().report(&report))
    }));
    assert!(result.is_err());
    assert_eq!(stylizer.stylize(&frame).unwrap(), expected);
}

/// What needs the command: an environment of its own, limits, signals.
#[cfg(all(feature = "cli", any(target_arch = "x86_64", target_arch = "aarch64"), unix))]
mod command {
    use std::path::Path;
    use std::process::{Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use impasto::picture::{EncodeOptions, Picture};
    use tempfile::TempDir;

    #[cfg(target_os = "linux")]
    use impasto_test_support::SmallDisk;

    use super::{NO_FAST_PATH, fast, model, models, picture, skipped};

    /// A folder with a model, a picture, and an empty folder `scratch`.
    fn studio(width: usize, height: usize) -> TempDir {
        let studio = tempfile::tempdir().expect("a folder");
        models()[0].save(studio.path().join("style.safetensors")).expect("saved");
        let picture = Picture::from(picture(width, height));
        picture.save(studio.path().join("photo.png"), &EncodeOptions::default()).expect("saved");
        std::fs::create_dir(studio.path().join("scratch")).expect("a folder");
        studio
    }

    const ARGS: [&str; 9] =
        ["stylize", "photo.png", "--model", "style.safetensors", "-o", "out.png", "--threads", "2", "--tile"];

    fn impasto(studio: &TempDir, tile: &str, scratch: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_impasto"));
        command.args(ARGS).arg(tile).env("IMPASTO_SCRATCH", scratch).current_dir(studio.path());
        command.env_remove("IMPASTO_ISA");
        command
    }

    /// One line that names the folder, the room needed and a remedy; and no file more than before.
    fn refused(studio: &TempDir, scratch: &Path, output: &Output, reason: &str) {
        let text = String::from_utf8(output.stderr.clone()).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(text.matches(reason).count(), 1, "said once: {text}");
        for part in [
            &scratch.display().to_string(),
            "GB of the network's activations",
            "hint: IMPASTO_SCRATCH",
            reason,
        ] {
            assert!(text.contains(part), "no `{part}` in {text}");
        }
        assert_eq!(names(studio.path()), ["photo.png", "scratch", "style.safetensors"]);
        assert_eq!(names(&studio.path().join("scratch")), [""; 0]);
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_scratch_folder_that_cannot_be_written_is_refused() {
        if fast().next().is_none() {
            return skipped("a scratch file", NO_FAST_PATH);
        }
        let studio = studio(60, 40);
        for (folder, reason) in [("missing", "No such file"), ("photo.png", "Not a directory")] {
            let scratch = studio.path().join(folder);
            let output = impasto(&studio, "4", &scratch).output().unwrap();
            refused(&studio, &scratch, &output, reason);
            // Nothing that fits into memory needs the folder.
            let output = impasto(&studio, "auto", &scratch).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            std::fs::remove_file(studio.path().join("out.png")).unwrap();
        }
    }

    /// What is written while the picture is painted does not fit: here by the limit to a file's size.
    #[test]
    fn a_scratch_file_that_fails_midway_leaves_nothing() {
        if fast().next().is_none() {
            return skipped("a scratch file", NO_FAST_PATH);
        }
        let studio = studio(300, 200);
        let scratch = studio.path().join("scratch");
        let inner = impasto(&studio, "4", &scratch);
        let mut command = Command::new("sh");
        // 512 or 1024 bytes a unit; the file takes 3 MB.
        command.args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" \"$@\""]).arg(inner.get_program());
        command.args(inner.get_args()).env("IMPASTO_SCRATCH", &scratch).current_dir(studio.path());
        command.env_remove("IMPASTO_ISA");
        refused(&studio, &scratch, &command.output().unwrap(), "File too large");
    }

    /// A disk with too little room is seen before anything is painted. Needs root, to mount one.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_with_too_little_room_is_refused() {
        if fast().next().is_none() {
            return skipped("a scratch file", NO_FAST_PATH);
        }
        let studio = studio(300, 200);
        let scratch = studio.path().join("scratch");
        let Some(_disk) = SmallDisk::mount("a scratch file on a full disk", &scratch, "1m") else { return };
        let output = impasto(&studio, "4", &scratch).output().unwrap();
        refused(&studio, &scratch, &output, "are free");
    }

    /// Ctrl-C while the scratch file is open: exit code 130, and neither it nor a picture is left. Many layers on
    /// few pixels, so that the file is open for long and needs little room.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_interrupted_painting_leaves_nothing() {
        if fast().next().is_none() {
            return skipped("a scratch file", NO_FAST_PATH);
        }
        let studio = studio(900, 600);
        let layers = format!("c9s1-8,d16,d64,{}u16,u8,c9s1-3", "R64,".repeat(50));
        model(&layers, |_| {}).save(studio.path().join("style.safetensors")).expect("saved");
        let scratch = studio.path().join("scratch");
        let mut child = impasto(&studio, "4", &scratch).stderr(Stdio::piped()).spawn().unwrap();
        let open = |pid: u32| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.flat_map(|file| std::fs::read_link(file.path())).any(|target| target.starts_with(&scratch))
        };
        let started = Instant::now();
        while !open(child.id()) {
            assert!(started.elapsed() < Duration::from_secs(60), "no scratch file was opened");
            if child.try_wait().unwrap().is_some() {
                panic!("it ended without one: {:?}", child.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert_eq!(names(studio.path()), ["photo.png", "scratch", "style.safetensors"]);
        assert_eq!(names(&scratch), [""; 0]);
    }
}
