//! Painting on a GPU through the library and the command: against the CPU engine, frames that overlap, and what is
//! said where there is no GPU. A software Vulkan device counts; without any, tests say that they were skipped.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::{Command, Output};

use impasto::paint::{FramePainter, PaintOptions, paint_frame};
use impasto::quality::test_chart;
use impasto::{Device, Frame, Precision, Progress, RuntimeError, Stylizer, StylizerOptions};
use impasto_checkpoints::{StyleModel, shipped};
use impasto_test_support::{are_installed, skipped};

/// A shipped style on the GPU, `None` where there is none.
fn on_gpu(test: &str) -> Option<Stylizer> {
    match Stylizer::new(&wave(), options(Device::Wgpu(0))) {
        Ok(stylizer) => Some(stylizer),
        Err(RuntimeError::Device(line)) if line.contains("no driver for Vulkan") => {
            skipped(test, "no GPU is here, and no software Vulkan device");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn wave() -> StyleModel {
    shipped::load("wave").unwrap()
}

fn options(device: Device) -> StylizerOptions {
    StylizerOptions { device, precision: Precision::F32, ..StylizerOptions::default() }
}

/// The chart, moved by some rows.
fn frame(at: usize) -> Frame {
    let mut frame = test_chart(96, 64);
    frame.rgb_mut().rotate_left(96 * 3 * 5 * at);
    frame
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

#[test]
fn a_shipped_style_is_painted_as_by_the_cpu_engine() {
    let Some(gpu) = on_gpu("a_shipped_style") else { return };
    let engine = Stylizer::new(&wave(), options(Device::Cpu)).unwrap();
    assert_eq!((gpu.isa(), gpu.precision(), gpu.threads()), ("wgpu", Precision::F32, 1));
    for (width, height) in [(96, 64), (61, 47), (9, 3)] {
        let photo = test_chart(width, height);
        let (there, here) = (gpu.stylize_to_f32(&photo).unwrap(), engine.stylize_to_f32(&photo).unwrap());
        let mean = mean_difference(&there, &here);
        assert!(mean <= 0.5, "{width}×{height}: {mean} of 255 in the mean");
        let bytes = |frame: Frame| frame.into_rgb().into_iter().map(f32::from).collect::<Vec<_>>();
        let mean =
            mean_difference(&bytes(gpu.stylize(&photo).unwrap()), &bytes(engine.stylize(&photo).unwrap()));
        assert!(mean <= 0.5, "{width}×{height} in bytes: {mean} of 255 in the mean");
    }
}

#[test]
fn frames_begun_ahead_come_out_in_their_order_and_size() {
    let Some(gpu) = on_gpu("frames_begun_ahead") else { return };
    let looks = [
        PaintOptions::default(),
        PaintOptions { stroke_scale: 0.5, keep_colors: true, ..PaintOptions::default() },
        PaintOptions { side_by_side: true, strength: 0.5, ..PaintOptions::default() },
        PaintOptions { keep_colors: true, strength: 0.8, ..PaintOptions::default() },
    ];
    // Smoothing has the post-steps done on the CPU.
    for (look, smoothing) in looks.into_iter().map(|look| (look, 0.0)).chain([(looks[3], 0.5)]) {
        let mut ahead = FramePainter::new(&gpu, look);
        let mut plain = FramePainter::new(&gpu, look);
        ahead.set_smoothing(smoothing);
        plain.set_smoothing(smoothing);
        let (mut painted, mut expected) = (Frame::black(1, 1), Frame::black(1, 1));
        assert!(ahead.begin(&frame(0)).unwrap());
        for at in 0..4 {
            if at < 3 {
                assert!(ahead.begin(&frame(at + 1)).unwrap());
            }
            ahead.paint_into(&frame(at), &mut painted, &Progress::new()).unwrap();
            plain.paint_into(&frame(at), &mut expected, &Progress::new()).unwrap();
            assert_eq!((painted.width(), painted.height()), (expected.width(), expected.height()));
            let far = painted.rgb().iter().zip(expected.rgb()).filter(|(a, b)| a.abs_diff(**b) > 2).count();
            assert_eq!(far, 0, "{look:?}: frame {at}");
        }
        // Nothing is left over: the next frame is its own.
        ahead.paint_into(&frame(9), &mut painted, &Progress::new()).unwrap();
        plain.paint_into(&frame(9), &mut expected, &Progress::new()).unwrap();
        assert!(painted.rgb().iter().zip(expected.rgb()).all(|(a, b)| a.abs_diff(*b) <= 2), "{look:?}");
    }
    let engine = Stylizer::new(&wave(), options(Device::Cpu)).unwrap();
    assert!(engine.ahead().unwrap().is_none(), "a CPU has nothing to overlap");
    assert!(!FramePainter::new(&engine, PaintOptions::default()).begin(&frame(0)).unwrap());
}

#[test]
fn strength_and_kept_colors_are_the_cpus() {
    let Some(gpu) = on_gpu("strength_and_kept_colors") else { return };
    let engine = Stylizer::new(&wave(), options(Device::Cpu)).unwrap();
    let plain = PaintOptions::default();
    for look in [
        PaintOptions { strength: 0.5, ..plain },
        PaintOptions { strength: 0.001, ..plain },
        PaintOptions { keep_colors: true, ..plain },
        PaintOptions { keep_colors: true, strength: 0.7, ..plain },
    ] {
        // 61 · 47 · 3 bytes are no whole number of words.
        let photo = test_chart(61, 47);
        let [there, here] = [&gpu, &engine].map(|stylizer| paint_frame(stylizer, &photo, &look).unwrap());
        let differences = there.rgb().iter().zip(here.rgb()).map(|(a, b)| u32::from(a.abs_diff(*b)));
        let mean = differences.clone().sum::<u32>() as f32 / here.rgb().len() as f32;
        let most = differences.max();
        assert!(most <= Some(1) && mean <= 0.1, "{look:?}: {most:?} of 255 at most, {mean} in the mean");
    }
}

fn impasto(arguments: &[&str], folder: &Path, variables: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_impasto"));
    command.args(arguments).current_dir(folder).envs(variables.iter().copied());
    command.output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn save_photo(folder: &Path) -> std::path::PathBuf {
    let photo = folder.join("photo.png");
    impasto::picture::Picture::from(test_chart(96, 64)).save(&photo, &Default::default()).unwrap();
    photo
}

#[test]
fn without_a_driver_there_is_one_line_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (photo, out) = (save_photo(folder.path()), folder.path().join("out.png"));
    for device in ["wgpu", "wgpu:3"] {
        let arguments = ["stylize", text(&photo), "--style", "wave", "-o", text(&out), "--device", device];
        // The Vulkan loader's two names for the same list.
        let drivers =
            ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"].map(|name| (name, Path::new("/nowhere/driver.json")));
        let output = impasto(&arguments, folder.path(), &drivers);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("no driver for Vulkan") && said.contains("hint: install the graphics driver"),
            "{said}"
        );
        assert!(!out.exists());
    }
}

#[test]
fn the_command_paints_pictures_and_videos_there() {
    if on_gpu("the_command_paints").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let photo = save_photo(folder.path());
    // In somebody's Rust project: CubeCL would keep its tuning in `target` there.
    let (project, cache) = (folder.path().join("project"), folder.path().join("cache"));
    std::fs::create_dir(&project).unwrap();
    std::fs::write(project.join("Cargo.toml"), "").unwrap();
    let here = || {
        let names = std::fs::read_dir(&project).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let impasto = |arguments: &[&str]| impasto(arguments, &project, &[("XDG_CACHE_HOME", &cache)]);
    let painted = |device: &str| {
        let out = folder.path().join(format!("{device}.png"));
        let arguments = [
            "stylize",
            text(&photo),
            "--style",
            "wave",
            "-o",
            text(&out),
            "--device",
            device,
            "--precision",
            "f32",
        ];
        let output = impasto(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let frame = impasto::picture::Picture::open(&out, &Default::default()).unwrap().frame;
        frame.into_rgb().into_iter().map(f32::from).collect::<Vec<_>>()
    };
    let mean = mean_difference(&painted("wgpu"), &painted("cpu"));
    assert!(mean <= 0.5, "{mean} of 255 in the mean");
    assert_eq!(here(), ["Cargo.toml"], "nothing is left in the working folder");
    if cfg!(unix) {
        assert!(cache.join("impasto/autotune").is_dir(), "tuning is kept in the user's cache folder");
    }

    if !are_installed("the_command_paints, videos", &["ffmpeg", "ffprobe"]) {
        return;
    }
    let clip = folder.path().join("clip.mp4");
    let filmed = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=0.7", text(&clip)])
        .status();
    assert!(filmed.is_ok_and(|status| status.success()), "ffmpeg made a clip");
    let out = folder.path().join("painted.mp4");
    let arguments = ["video", text(&clip), "--style", "wave", "-o", text(&out), "--device", "wgpu", "--json"];
    // Who has a configuration of CubeCL's gets what it says.
    std::fs::write(project.join("cubecl.toml"), "[autotune]\ncache = \"local\"\n").unwrap();
    let output = impasto(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(here(), ["Cargo.toml", "autotune", "cubecl.toml"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["frames"], &report["interrupted"]), (&7.into(), &false.into()), "{report}");
}
