//! What the tests of the command share: a tiny run, and how it is started.

#![allow(dead_code)] // each test file uses a part

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Flags of a run of a few milliseconds a step: synthetic scenes, a random loss network's first layer.
pub const TINY: &[&str] = &[
    "--preset",
    "smoke",
    "--device",
    "cpu",
    "--width",
    "2",
    "--image-size",
    "32",
    "--batch-size",
    "1",
    "--style-size",
    "48",
    "--content-layers",
    "relu1_1",
    "--style-layers",
    "relu1_1",
    "--validation-photos",
    "1",
    "--sample-every",
    "100000",
    "--workers",
    "1",
    "--stability-weight",
    "0.02",
    "--stability-shift",
    "2",
];

/// The command with the tiny run's flags, in a folder.
pub fn tiny(folder: &Path, flags: &[&str]) -> Command {
    let mut command = train(folder);
    command.args(TINY).args(["-o", "a.safetensors"]).args(flags);
    command
}

/// The command without flags, in a folder, with a cache folder of its own.
pub fn train(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_impasto-train"));
    command.current_dir(folder).env("XDG_CACHE_HOME", folder.join("cache"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end.
pub fn run(mut command: Command) -> Output {
    command.output().expect("it ran")
}

/// What was printed to stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The one error line.
pub fn error_line(output: &Output) -> String {
    let text = stderr(output);
    let errors: Vec<_> = text.lines().filter(|line| line.starts_with("impasto-train: ")).collect();
    assert_eq!(errors.len(), 1, "expected one error line in:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    errors[0].to_owned()
}

/// Asserts success and shows what was printed otherwise.
pub fn assert_success(output: &Output) {
    assert!(output.status.success(), "{:?}\n{}", output.status, stderr(output));
}

/// A picture file of noise with the given size.
pub fn save_picture(path: &Path, width: usize, height: usize) {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let rgb = (0..3 * width * height).map(|_| noise()).collect();
    let frame = impasto::Frame::new(width, height, rgb).expect("a frame");
    let picture = impasto::picture::Picture::from(frame);
    picture.save(path, &impasto::picture::EncodeOptions::default()).expect("saved");
}
