//! `impasto webcam` on test patterns and clips, in a window on a virtual screen and without one.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use impasto::picture::{DecodeOptions, Picture};
use impasto_test_support::are_installed;
use serde_json::Value;

use super::media::{ffmpeg, ffmpeg_is_there, shown};
use super::support::{Studio, failure};

const QUICK: [&str; 6] = ["webcam", "--model", "style.safetensors", "--size", "96x64", "--json"];

#[test]
fn a_test_pattern_is_painted_as_it_comes() {
    if !ffmpeg_is_there("webcam without a window") {
        return;
    }
    let studio = Studio::new();
    let args = ["--source", "test", "--no-window", "--frames", "12", "--record", "--folder", "takes"];
    let output = studio.impasto(&[&QUICK[..], &args].concat()).output().expect("it ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("recorded"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&report["frames"], &report["width"], &report["height"]),
        (&12.into(), &96.into(), &64.into())
    );
    let number = |value: &Value| value.as_f64().expect("a number");
    assert!(number(&report["arrived"]) >= 12.0);
    assert!(number(&report["latency_ms"]["median"]) >= number(&report["paint_ms"]), "{report}");
    // What was shown is in the recording, in its order and on the clock.
    let recorded = shown(&studio.path("takes/impasto-0001.mp4")).times;
    assert!((1..=12).contains(&recorded.len()), "{recorded:?}");
    assert!(recorded.windows(2).all(|pair| pair[0] < pair[1]), "{recorded:?}");
}

#[test]
fn a_clip_goes_round_and_fits_into_the_size() {
    if !ffmpeg_is_there("webcam from a clip") {
        return;
    }
    let studio = Studio::new();
    ffmpeg(&studio, "-f lavfi -i testsrc=size=128x32:rate=20:d=0.2 -c:v libx264 clip.mp4");
    let args = ["--source", "clip.mp4", "--no-window", "--frames", "8"];
    let output = studio.impasto(&[&QUICK[..], &args].concat()).output().expect("it ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    // Four frames are in it.
    assert_eq!((&report["frames"], &report["width"], &report["height"]), (&8.into(), &96.into(), &24.into()));
}

#[test]
fn what_cannot_be_opened_is_one_clear_line() {
    if !ffmpeg_is_there("webcam that cannot be opened") {
        return;
    }
    let studio = Studio::new();
    for (source, expected) in [
        ("none.mp4", "no such file"),
        ("camera:no such camera", "hint"),
        ("nonsense://host", "no frame to paint"),
    ] {
        let line = failure(&mut studio.impasto(&[&QUICK[..], &["--source", source, "--no-window"]].concat()));
        assert!(line.contains(expected), "{source}: {line}");
    }
    let record = ["--source", "test", "--no-window", "--record", "--folder", "photo.png"];
    let line = failure(&mut studio.impasto(&[&QUICK[..], &record].concat()));
    assert!(line.contains("--folder photo.png"), "{line}");
    let model = ["webcam", "--model", "none.safetensors", "--source", "test", "--no-window"];
    assert!(failure(&mut studio.impasto(&model)).contains("none.safetensors"));
    #[cfg(target_os = "linux")]
    {
        let mut command = studio.impasto(&[&QUICK[..], &["--source", "test"]].concat());
        let line = failure(command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY"));
        assert!(line.contains("no window") && line.contains("impasto serve"), "{line}");
    }
}

/// A virtual screen, gone when dropped.
struct VirtualScreen(Child, String);

impl VirtualScreen {
    /// `None`, said in one line, where Xvfb or xdotool is not installed.
    fn start() -> Option<Self> {
        if !are_installed("webcam in a window", &["Xvfb", "xdotool"]) {
            return None;
        }
        // Xvfb finds a free number itself and tells it.
        let mut child = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "800x600x24"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb started");
        let mut line = String::new();
        let mut told = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        std::io::BufRead::read_line(&mut told, &mut line).expect("a number");
        Some(VirtualScreen(child, format!(":{}", line.trim())))
    }

    fn xdotool(&self, args: &[&str]) -> String {
        let output =
            Command::new("xdotool").env("DISPLAY", &self.1).args(args).output().expect("xdotool ran");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for VirtualScreen {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is there.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{what} did not come");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn keys_work_in_the_window() {
    if !ffmpeg_is_there("webcam in a window") {
        return;
    }
    let Some(screen) = VirtualScreen::start() else { return };
    let studio = Studio::new();
    // Red at the left, blue at the right.
    let halves = "color=red:size=96x64:rate=30:d=1,drawbox=x=48:w=48:h=64:color=blue:t=fill";
    ffmpeg(&studio, &format!("-f lavfi -i {halves} -c:v libx264 -pix_fmt yuv420p halves.mp4"));
    let args = ["--source", "halves.mp4", "--folder", "takes", "--strength", "0"];
    let child = Command::new(env!("CARGO_BIN_EXE_impasto"))
        .current_dir(studio.path(""))
        .args([&QUICK[..], &args].concat())
        .env("DISPLAY", &screen.1)
        .env_remove("WAYLAND_DISPLAY")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it started");
    let window = eventually("the window", || {
        Some(screen.xdotool(&["search", "--name", "impasto"])).filter(|found| !found.is_empty())
    });
    eventually("the focus", || {
        screen.xdotool(&["windowfocus", &window]);
        (screen.xdotool(&["getwindowfocus"]) == window).then_some(())
    });
    // A key may be lost while the window is busy with its first frame, so each is pressed until it shows.
    let take = |number: u32| studio.path(&format!("takes/impasto-{number:04}.png"));
    let picture_after = |keys: &[&str], number: u32| {
        for key in keys {
            screen.xdotool(&["key", "--delay", "100", key]);
            sleep(Duration::from_millis(400));
        }
        eventually("a screenshot", || {
            screen.xdotool(&["key", "--delay", "100", "space"]);
            sleep(Duration::from_millis(400));
            Picture::open(take(number), &DecodeOptions::default()).ok()
        });
        let taken = (number..).take_while(|&number| take(number).exists()).last().unwrap_or(number);
        (Picture::open(take(taken), &DecodeOptions::default()).expect("a picture").frame, taken + 1)
    };
    let is_red = |frame: &impasto::Frame, x: usize| {
        let pixel = &frame.rgb()[3 * (32 * frame.width() + x)..][..3];
        pixel[0] > 200 && pixel[2] < 60
    };
    let (plain, next) = picture_after(&[], 1);
    let (mirrored, _) = picture_after(&["m"], next);
    assert!(is_red(&plain, 10) && !is_red(&plain, 85), "as it is");
    assert!(is_red(&mirrored, 85) && !is_red(&mirrored, 10), "after m");
    screen.xdotool(&["key", "--delay", "100", "q"]);
    let output = child.wait_with_output().expect("it ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("saved"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["frames"].as_u64() > Some(0), "{report}");
}
