//! `impasto video` when something goes wrong: one line, nothing half-written; and Ctrl-C.

use super::media::{clip_with_sound, ffmpeg, ffmpeg_is_there};
use super::support::{Studio, failure};

/// A run that must fail with these words and leave no file.
fn refused(studio: &Studio, args: &[&str], expected: &[&str]) {
    let before = studio.files();
    let line = failure(studio.impasto(&["video", "--model", "style.safetensors"]).args(args));
    for part in expected {
        assert!(line.contains(part), "{args:?}: no `{part}` in {line}");
    }
    assert_eq!(before, studio.files(), "{args:?}");
}

#[test]
fn results_that_cannot_be_are_refused() {
    if !ffmpeg_is_there("bad results") {
        return;
    }
    let studio = Studio::new();
    clip_with_sound(&studio, "in.mp4", "testsrc=s=64x48:r=25:d=1", "");
    studio.write("there.mp4", b"precious");
    std::fs::create_dir(studio.path("folder.mp4")).unwrap();
    for (args, expected) in [
        (&["-o", "out.avi"][..], &["out.avi", ".webm"][..]),
        (&["-o", "out"], &["out", ".mp4"]),
        (&["-o", "there.mp4"], &["there.mp4", "--overwrite"]),
        (&["-o", "nowhere/out.mp4"], &["nowhere/out.mp4", "No such file"]),
        (&["-o", "folder.mp4", "--overwrite"], &["folder.mp4", "is a folder"]),
        (&["-o", "out.mov", "--codec", "vp9"], &["--codec vp9", ".mov", "h264"]),
        (&["-o", "out.gif", "--quality", "20"], &["--quality", ".gif"]),
        (&["-o", "out.mp4", "--quality", "60"], &["--quality 60", "51"]),
        (&["-o", "out.mp4", "--preset", "swift"], &["out.mp4", "swift"]),
    ] {
        refused(&studio, &[&["in.mp4"], args].concat(), expected);
    }
    refused(&studio, &["-", "-o", "out.mp4"], &["standard input", "hint"]);
    let usage = |args: &[&str]| {
        let output =
            studio.impasto(&["video", "in.mp4", "--model", "m", "-o", "o.mp4"]).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    };
    usage(&["--start", "soon"]);
    usage(&["--duration", "0"]);
    usage(&["--codec", "mpeg1"]);
    usage(&["--size", "1"]);
}

/// What was there of a file that breaks off is painted, and it is said.
#[test]
fn of_a_source_that_breaks_off_the_rest_is_painted() {
    if !ffmpeg_is_there("truncated video") {
        return;
    }
    let studio = Studio::new();
    clip_with_sound(&studio, "whole.mp4", "testsrc=s=160x120:r=25:d=4", "-g 10 -movflags +faststart");
    let whole = std::fs::read(studio.path("whole.mp4")).unwrap();
    // A terminal would obey the name where that may be one.
    let name = if cfg!(windows) { "cut.mp4" } else { "cut\u{1b}[31m.mp4" };
    studio.write(name, &whole[..whole.len() * 2 / 3]);
    let mut command = studio.impasto(&["video", "--model", "style.safetensors", name, "-o", "out.mp4"]);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains(".mp4: ffmpeg complained") && !text.contains('\u{1b}'), "{text}");
    let frames = super::media::shown(&studio.path("out.mp4")).times.len();
    assert!((10..100).contains(&frames), "{frames} frames");
}

#[cfg(unix)]
mod on_unix {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    #[cfg(target_os = "linux")]
    use impasto_test_support::SmallDisk;

    use super::super::media::{fake_ffmpeg, shown};
    use super::*;

    fn with_programs(studio: &Studio, script: &str, expected: &[&str]) {
        let path = fake_ffmpeg(studio, script);
        let before = studio.files();
        let mut command =
            studio.impasto(&["video", "--model", "style.safetensors", "in.mp4", "-o", "out.mp4"]);
        let line = failure(command.env("PATH", &path));
        for part in expected {
            assert!(line.contains(part), "no `{part}` in {line}");
        }
        assert_eq!(before, studio.files());
        std::fs::remove_dir_all(path).expect("removed");
    }

    #[test]
    fn programs_that_are_missing_old_or_die_are_one_line_and_leave_nothing() {
        if !ffmpeg_is_there("dying ffmpeg") {
            return;
        }
        let studio = Studio::new();
        clip_with_sound(&studio, "in.mp4", "testsrc=s=64x48:r=25:d=8", "");
        let die = |pipe: &str, how: &str| format!("case \"$*\" in *{pipe}*) {how};; esac");
        // 64·48·3 bytes a frame: some frames come through, then nothing.
        let decoder = "\"$REAL\" \"$@\" 2>/dev/null | head -c 200000; echo 'the well is dry' >&2; exit 3";
        with_programs(
            &studio,
            &die("pipe:1", decoder),
            &["in.mp4", "decode", "exit status: 3", "the well is dry"],
        );
        with_programs(
            &studio,
            &die("pipe:1", "echo nothing >&2; exit 4"),
            &["in.mp4", "exit status: 4", "nothing"],
        );
        with_programs(&studio, &die("pipe:1", "head -c 100000 /dev/zero"), &["in.mp4", "NUT"]);
        with_programs(&studio, &die("pipe:1", "kill -9 $$"), &["in.mp4", "signal: 9", "it said nothing"]);
        let encoder = "head -c 200000 >/dev/null; echo 'the ink is out' >&2; exit 5";
        with_programs(
            &studio,
            &die("pipe:0", encoder),
            &["out.mp4", "encode", "exit status: 5", "the ink is out"],
        );
        // One that is content with half of the frames is not believed.
        let half = "head -c 200000 | \"$REAL\" \"$@\" 2>/dev/null; cat >/dev/null; exit 0";
        with_programs(&studio, &die("pipe:0", half), &["out.mp4", "of 200 frames"]);
        let old = "echo 'ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright'; exit 0";
        with_programs(&studio, old, &["ffmpeg", "4.4.2", "expected FFmpeg 5.1 or newer", "hint"]);

        let nothing = studio.path("nothing");
        std::fs::create_dir(&nothing).unwrap();
        let mut command =
            studio.impasto(&["video", "--model", "style.safetensors", "in.mp4", "-o", "out.mp4"]);
        let line = failure(command.env("PATH", &nothing));
        assert!(line.contains("ffmpeg was not found on the PATH") && line.contains("hint:"), "{line}");
    }

    /// A clip that takes a while, with sound as long; painting it is under way when this returns.
    fn started(studio: &Studio) -> Child {
        use std::os::unix::process::CommandExt;
        clip_with_sound(studio, "long.mp4", "testsrc=s=192x144:r=25:d=30", "");
        let child = Command::new(env!("CARGO_BIN_EXE_impasto"))
            .current_dir(studio.path(""))
            .args(["video", "--style", "wave", "--threads", "1", "long.mp4", "-o", "out.mp4", "-q"])
            .process_group(0)
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let deadline = Instant::now() + Duration::from_secs(60);
        let growing = || {
            std::fs::read_dir(studio.path("")).expect("a folder").flatten().any(|entry| {
                entry.file_name().to_string_lossy().contains(".part")
                    && entry.metadata().is_ok_and(|m| m.len() > 0)
            })
        };
        while !growing() {
            assert!(Instant::now() < deadline, "nothing is being written");
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    /// What a terminal does on Ctrl-C: the signal goes to the whole process group.
    fn ctrl_c(child: &Child) {
        let group = format!("-{}", child.id());
        assert!(Command::new("kill").args(["-INT", "--", &group]).status().expect("kill ran").success());
    }

    #[test]
    fn ctrl_c_leaves_what_is_painted() {
        if !ffmpeg_is_there("Ctrl-C") {
            return;
        }
        let studio = Studio::new();
        let child = started(&studio);
        ctrl_c(&child);
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{text}");
        let (part, whole) = (shown(&studio.path("out.mp4")), shown(&studio.path("long.mp4")));
        let frames = part.times.len();
        assert!((1..750).contains(&frames), "{frames} frames");
        assert_eq!(part.times, whole.times[..frames]);
        // The sound ends with the picture, within a packet.
        let told = super::super::media::probe(&studio.path("out.mp4"), "stream=codec_type,duration");
        let audio = told["streams"].as_array().unwrap().iter().find(|s| s["codec_type"] == "audio").unwrap();
        let seconds: f64 = audio["duration"].as_str().unwrap().parse().unwrap();
        assert!((seconds - part.seconds).abs() < 0.05, "{seconds}, video {}", part.seconds);
        assert!(!studio.files().iter().any(|name| name.contains(".part")));
    }

    /// `kill`, and a terminal that is closed: as Ctrl-C.
    #[test]
    fn whatever_ends_it_leaves_no_half_file() {
        if !ffmpeg_is_there("kill") {
            return;
        }
        for signal in ["-TERM", "-HUP"] {
            let studio = Studio::new();
            let child = started(&studio);
            let id = child.id().to_string();
            assert!(Command::new("kill").args([signal, &id]).status().expect("kill ran").success());
            let output = child.wait_with_output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(130),
                "{signal}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(!shown(&studio.path("out.mp4")).times.is_empty(), "{signal}");
            assert!(!studio.files().iter().any(|name| name.contains(".part")), "{signal}");
        }
    }

    #[test]
    fn a_second_ctrl_c_leaves_nothing() {
        if !ffmpeg_is_there("second Ctrl-C") {
            return;
        }
        let studio = Studio::new();
        let child = started(&studio);
        ctrl_c(&child);
        ctrl_c(&child);
        let output = child.wait_with_output().unwrap();
        // Two signals may be one by the time they are seen; a video that is left is whole then.
        assert_eq!(output.status.code(), Some(130));
        let files = studio.files();
        assert!(!files.iter().any(|name| name.contains(".part")), "{files:?}");
        if files.contains(&"out.mp4".to_string()) {
            assert!(!shown(&studio.path("out.mp4")).times.is_empty());
        }
    }

    /// A full disk: nothing is left. Needs root, to mount one.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_nothing() {
        if !ffmpeg_is_there("full disk") {
            return;
        }
        let studio = Studio::new();
        let disk = studio.path("disk");
        let Some(_mounted) = SmallDisk::mount("video on a full disk", &disk, "64k") else { return };
        clip_with_sound(&studio, "in.mp4", "testsrc2=s=320x240:r=25:d=4", "");
        let line = failure(
            studio
                .impasto(&["video", "--model", "style.safetensors", "in.mp4", "-o", "disk/out.mp4"])
                .args(["--quality", "1"]),
        );
        let left = std::fs::read_dir(&disk).unwrap().count();
        assert!(line.contains("disk/out.mp4") && line.contains("No space left"), "{line}");
        assert_eq!(left, 0);
    }

    /// Ten times as many frames take no more memory.
    #[cfg(target_os = "linux")]
    #[test]
    fn memory_does_not_grow_with_the_film() {
        if !ffmpeg_is_there("video memory") {
            return;
        }
        let studio = Studio::new();
        clip_with_sound(&studio, "short.mp4", "testsrc=s=320x240:r=25:d=3", "");
        ffmpeg(&studio, "-stream_loop 9 -i short.mp4 -c copy long.mp4");
        let peak = |source: &str, result: &str| {
            let mut child = Command::new(env!("CARGO_BIN_EXE_impasto"))
                .current_dir(studio.path(""))
                .args(["video", "--model", "style.safetensors", source, "-o", result, "-q"])
                .spawn()
                .unwrap();
            let status = format!("/proc/{}/status", child.id());
            let mut kilobytes = 0;
            while child.try_wait().unwrap().is_none() {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let value = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
                kilobytes = kilobytes.max(value.unwrap_or(0));
                std::thread::sleep(Duration::from_millis(2));
            }
            kilobytes
        };
        let (short, long) = (peak("short.mp4", "a.mp4"), peak("long.mp4", "b.mp4"));
        assert_eq!(shown(&studio.path("b.mp4")).times.len(), 750);
        // A frame is 230 kB: 675 more of them would be 155 MB.
        assert!(short > 1000 && long < short + 3000, "{short} kB for 75 frames, {long} kB for 750");
    }
}
