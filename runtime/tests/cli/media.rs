//! What the video tests share: clips made with ffmpeg, and what ffprobe says of a file.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use impasto_test_support::{are_installed, find_program};

use super::support::Studio;

/// Whether ffmpeg and ffprobe are there; when not, says that `test` is skipped.
pub fn ffmpeg_is_there(test: &str) -> bool {
    are_installed(test, &["ffmpeg", "ffprobe"])
}

/// Runs ffmpeg in the studio's folder, arguments as on a command line without quotes.
pub fn ffmpeg(studio: &Studio, arguments: &str) -> Output {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .current_dir(studio.path(""))
        .output()
        .expect("ffmpeg ran");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `source`, a lavfi source, as a video of some seconds with a sine beside it.
pub fn clip_with_sound(studio: &Studio, name: &str, source: &str, more: &str) {
    let arguments =
        format!("-f lavfi -i {source} -f lavfi -i sine=d=30 -shortest -c:v libx264 -c:a aac {more} {name}");
    ffmpeg(studio, &arguments);
}

/// What ffprobe says, as JSON.
pub fn probe(path: &Path, entries: &str) -> serde_json::Value {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json", "-show_entries", entries])
        .arg(path)
        .output()
        .expect("ffprobe ran");
    serde_json::from_slice(&output.stdout).expect("a report")
}

/// What a video shows when.
#[derive(Debug, PartialEq)]
pub struct Shown {
    /// When each frame begins, in seconds.
    pub times: Vec<f64>,
    /// How long the stream is; of the last frame, where the container only tells that.
    pub seconds: f64,
}

/// The frames of a file's video, decoded.
pub fn shown(path: &Path) -> Shown {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "V:0", "-of", "json"])
        .args([
            "-show_entries",
            "frame=pts_time,pkt_duration_time:stream=start_time,duration:stream_tags=DURATION",
        ])
        .arg(path)
        .output()
        .expect("ffprobe ran");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let seconds = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let frames = told["frames"].as_array().expect("frames");
    let times: Vec<f64> = frames.iter().map(|frame| seconds(&frame["pts_time"]).expect("a time")).collect();
    let last = frames.last().expect("a frame");
    let tail = seconds(&last["pkt_duration_time"]).unwrap_or(0.0);
    let by_frames = times[times.len() - 1] + tail - times[0];
    Shown { seconds: seconds(&told["streams"][0]["duration"]).unwrap_or(by_frames), times }
}

/// Two videos show their frames at the same times and for as long, to within `tolerance` seconds: the resolution of
/// the containers.
pub fn assert_same_times(result: &Path, source: &Path, tolerance: f64) {
    assert_times(result, shown(result), shown(source), tolerance);
}

/// As [`assert_same_times`], counted from the first frame: Matroska knows no time before 0, so where sound begins a
/// little before that (a codec's run-in), ffmpeg moves all streams alike.
pub fn assert_same_steps(result: &Path, source: &Path, tolerance: f64) {
    let from_first = |mut shown: Shown| {
        let first = shown.times[0];
        shown.times.iter_mut().for_each(|time| *time -= first);
        shown
    };
    let (got, wanted) = (shown(result), shown(source));
    assert!(
        (got.times[0] - wanted.times[0]).abs() < 0.05,
        "{}: begins at {}",
        result.display(),
        got.times[0]
    );
    assert_times(result, from_first(got), from_first(wanted), tolerance);
}

fn assert_times(result: &Path, got: Shown, wanted: Shown, tolerance: f64) {
    let name = result.display();
    assert_eq!(got.times.len(), wanted.times.len(), "{name}: frames");
    for (at, (got, wanted)) in got.times.iter().zip(&wanted.times).enumerate() {
        assert!((got - wanted).abs() <= tolerance, "{name}: frame {at} at {got}, expected {wanted}");
    }
    let difference = (got.seconds - wanted.seconds).abs();
    assert!(difference <= tolerance, "{name}: {} seconds, expected {}", got.seconds, wanted.seconds);
}

/// Hashes of the sound streams' packets; nothing for a silent file.
pub fn sound_hashes(path: &Path) -> String {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "quiet", "-i"])
        .arg(path)
        .args(["-map", "0:a", "-c", "copy", "-f", "streamhash", "-"])
        .output()
        .expect("ffmpeg ran");
    String::from_utf8(output.stdout).expect("text")
}

/// The lowest PSNR of all planes together, in dB, frame by frame; `filters` go on the source first.
pub fn psnr(result: &Path, source: &Path, filters: &str) -> f64 {
    let graph = format!("[1:v]{filters}[s];[0:v][s]psnr=shortest=1");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-i"])
        .arg(result)
        .arg("-i")
        .arg(source)
        .args(["-lavfi", &graph, "-f", "null", "-"])
        .output()
        .expect("ffmpeg ran");
    let text = String::from_utf8_lossy(&output.stderr);
    let value = text.split("PSNR ").nth(1).and_then(|rest| rest.split("average:").nth(1));
    let value = value.and_then(|rest| rest.split_whitespace().next()).unwrap_or_else(|| panic!("{text}"));
    if value == "inf" { 99.0 } else { value.parse().expect("a number") }
}

/// A folder of its own on the PATH with the real ffprobe and a script in the place of ffmpeg. `$REAL` is the real one
/// there. Gives the PATH.
#[cfg(unix)]
pub fn fake_ffmpeg(studio: &Studio, script: &str) -> PathBuf {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = studio.path("programs");
    std::fs::create_dir_all(&folder).expect("a folder");
    let real = |name| find_program(name).expect("installed");
    symlink(real("ffprobe"), folder.join("ffprobe")).expect("a link");
    let (path, real) = (std::env::var("PATH").expect("a PATH"), real("ffmpeg"));
    let script =
        format!("#!/bin/sh\nPATH='{path}'\nREAL='{}'\n{script}\nexec \"$REAL\" \"$@\"\n", real.display());
    std::fs::write(folder.join("ffmpeg"), script).expect("written");
    std::fs::set_permissions(folder.join("ffmpeg"), PermissionsExt::from_mode(0o755)).expect("executable");
    folder
}
