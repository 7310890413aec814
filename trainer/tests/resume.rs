//! Killed at any moment and resumed, a run ends with the bytes of the uninterrupted one.

#![allow(clippy::unwrap_used)] // a test's helpers may fail as the test may

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::Duration;

use common::{assert_success, error_line, run, stderr, tiny};
use impasto_checkpoints::{Dtype, StyleModel};

/// Times the run is killed.
const KILLS: u32 = 10;

#[test]
fn killed_at_ten_moments_it_ends_with_the_same_bytes() {
    let flags = ["--steps", "120", "--steps-per-checkpoint", "5", "--quiet"];
    let whole = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(whole.path(), &flags)));

    let killed = tempfile::tempdir().unwrap();
    let mut kills = 0;
    let mut random = 12345u64;
    // A kill that comes after the end does not count; the moments are drawn again until enough have hit.
    for _ in 0..200 {
        if kills == KILLS {
            break;
        }
        let resume = killed.path().join("a.checkpoints").exists();
        let mut child = tiny(killed.path(), &flags);
        // A run that was killed before its first checkpoint has nothing to resume.
        child.arg(if resume && has_checkpoint(killed.path()) { "--resume" } else { "--overwrite" });
        let mut child = child.spawn().unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_millis(100 + (random >> 33) % 700));
        if child.try_wait().unwrap().is_none() {
            kills += 1;
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        if newest_checkpoint(killed.path()) == Some(120) {
            fs::remove_dir_all(killed.path().join("a.checkpoints")).unwrap(); // finished too early: once more
        }
    }
    assert_eq!(kills, KILLS);
    let last = if has_checkpoint(killed.path()) { "--resume" } else { "--overwrite" };
    let mut command = tiny(killed.path(), &flags);
    command.arg(last);
    assert_success(&run(command));
    let bytes = |folder: &tempfile::TempDir| fs::read(folder.path().join("a.safetensors")).unwrap();
    assert!(bytes(&whole) == bytes(&killed), "the resumed run's model differs from the uninterrupted one's");
    for name in ["train.csv", "valid.csv"] {
        let csv = |folder: &tempfile::TempDir| {
            let text = fs::read_to_string(folder.path().join("a.log").join(name)).unwrap();
            // Every column but the speed, which is the last.
            text.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect::<Vec<_>>()
        };
        let (whole, killed) = (csv(&whole), csv(&killed));
        let differ = whole.iter().zip(&killed).find(|(whole, killed)| whole != killed);
        assert!(differ.is_none(), "{name}: not every step is logged once, with the same losses: {differ:?}");
        assert_eq!(whole.len(), killed.len(), "{name}");
    }
    // The header, and a line a checkpoint.
    let text = fs::read_to_string(whole.path().join("a.log/valid.csv")).unwrap();
    assert_eq!(text.lines().count(), 1 + 120 / 5);
}

fn newest_checkpoint(folder: &Path) -> Option<u64> {
    let entries = fs::read_dir(folder.join("a.checkpoints")).ok()?;
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let complete = entry.path().join("manifest.json").is_file();
            let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
            complete.then_some(step)
        })
        .max()
}

fn has_checkpoint(folder: &Path) -> bool {
    newest_checkpoint(folder).is_some()
}

#[test]
fn a_resume_with_other_settings_says_which_differ() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(folder.path(), &["--steps", "2"])));
    let other = ["--steps", "2", "--width", "3", "--seed", "9", "--resume"];
    let error = error_line(&run(tiny(folder.path(), &other)));
    for part in ["width (was 2, now 3)", "seed (was 0, now 9)", "--overwrite"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("image_size"), "{error}");

    // Settings that do not change what is learned may change, and are named.
    let output = run(tiny(folder.path(), &["--steps", "2", "--keep-last", "7", "--resume"]));
    assert_success(&output);
    assert!(stderr(&output).contains("keep_last (was 2, now 7)"), "{}", stderr(&output));
}

#[test]
fn a_resume_needs_nothing_but_the_output() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(folder.path(), &["--steps", "3"])));
    let mut command = common::train(folder.path());
    command.args(["-o", "a.safetensors", "--resume"]);
    let output = run(command);
    assert_success(&output);
    let text = stderr(&output);
    assert!(text.contains("all 3 steps are taken") && text.contains("a.safetensors: as it was"), "{text}");
    assert!(!text.contains("learned in"), "{text}");
}

/// A kill or a full disk between the last checkpoint and its model, and papers that are filled in afterwards.
#[test]
fn a_finished_run_writes_its_model_again_where_it_is_lost_or_to_be_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert_success(&run(tiny(folder.path(), &["--steps", "3"])));
    let model = fs::read(path("a.safetensors")).unwrap();
    let resume = |flags: &[&str]| {
        let mut command = common::train(folder.path());
        command.args(["-o", "a.safetensors", "--resume"]).args(flags);
        let output = run(command);
        assert_success(&output);
        stderr(&output)
    };
    for name in ["a.safetensors", "a.toml", "a.sample.png"] {
        fs::remove_file(path(name)).unwrap();
    }
    let text = resume(&[]);
    assert!(text.contains("a.safetensors: written from the checkpoint of step 3"), "{text}");
    assert!(model == fs::read(path("a.safetensors")).unwrap());
    assert!(path("a.toml").is_file() && path("a.sample.png").is_file());

    let text = resume(&["--license", "MIT", "--name", "waves", "--dtype", "f32"]);
    assert!(text.contains("license (was not set, now MIT)") && text.contains("written from"), "{text}");
    let model = StyleModel::load(path("a.safetensors")).unwrap();
    let papers = (model.metadata().name.as_str(), model.metadata().license.as_deref());
    assert_eq!((papers, model.dtypes()), (("waves", Some("MIT")), vec![Dtype::F32]));
    assert!(fs::read_to_string(path("a.toml")).unwrap().contains("license = \"MIT\""));
    assert!(resume(&[]).contains("a.safetensors: as it was"), "the checkpoint has them too");
}

/// Where the painting and the photos lie is nobody's business; what they are is.
#[test]
fn moved_photos_and_a_moved_painting_are_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("photos")).unwrap();
    for name in ["photos/1.png", "photos/2.png", "style.png"] {
        common::save_picture(&path(name), 48, 40);
    }
    let flags = ["--steps", "2", "--style", "style.png", "--dataset", "photos"];
    assert_success(&run(tiny(folder.path(), &flags)));
    fs::create_dir(path("moved")).unwrap();
    fs::rename(path("photos"), path("moved/pictures")).unwrap();
    fs::rename(path("style.png"), path("moved/painting.png")).unwrap();
    let resume = |flags: &[&str]| {
        let mut command = common::train(folder.path());
        command.args(["-o", "a.safetensors", "--resume", "--style", "moved/painting.png"]).args(flags);
        run(command)
    };
    let output = resume(&["--dataset", "moved/pictures"]);
    assert_success(&output);
    let text = stderr(&output);
    for part in ["style (was style.png, now moved/painting.png)", "dataset (was photos, now moved/pictures)"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The new places are kept.
    assert_success(&resume(&[]));

    fs::remove_file(path("moved/pictures/2.png")).unwrap();
    let error = error_line(&resume(&[]));
    assert!(error.contains("the list of photos in the dataset"), "{error}");
}

/// The sample and the log's samples are pictures, and were no photos when the run began.
#[test]
fn a_run_that_writes_among_its_photos_is_gone_on_with() {
    for more in [&[][..], &["--log-dir", "."], &["--log-dir", "logs", "--checkpoint-dir", "kept"]] {
        let folder = tempfile::tempdir().unwrap();
        for name in ["1.png", "2.png"] {
            common::save_picture(&folder.path().join(name), 48, 40);
        }
        let flags = ["--steps", "3", "--sample-every", "1", "--dataset", "."];
        let command = |resume: &[&str]| {
            let mut command = tiny(folder.path(), &flags);
            command.args(more).args(resume);
            run(command)
        };
        let photos = |output: &Output| {
            assert_success(output);
            let text = stderr(output);
            text.lines().find(|line| line.contains(" photos to train on")).unwrap().to_owned()
        };
        assert_eq!(photos(&command(&[])), photos(&command(&["--resume"])), "{more:?}");
    }
}

#[test]
fn a_device_under_another_of_its_names_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(folder.path(), &["--steps", "2"])));
    // As if it had been begun on a GPU: this build has none, and says so once the settings were compared.
    let manifest = folder.path().join("a.checkpoints/step-0000000002/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let device = |name: &str| format!("device = \\\"{name}\\\"");
    assert!(text.contains(&device("cpu")), "{text}");
    fs::write(&manifest, text.replace(&device("cpu"), &device("cuda"))).unwrap();
    let resume = |device: &str| {
        let mut command = common::train(folder.path());
        command.args(["-o", "a.safetensors", "--resume", "--device", device]);
        stderr(&run(command))
    };
    assert!(!resume("cuda:0").contains("made with other settings"), "{}", resume("cuda:0"));
    assert!(resume("cuda:1").contains("device (was cuda, now cuda:1)"), "{}", resume("cuda:1"));
}

#[test]
fn a_changed_style_picture_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let style = folder.path().join("style.png");
    common::save_picture(&style, 64, 48);
    let flags = ["--steps", "2", "--style", "style.png"];
    assert_success(&run(tiny(folder.path(), &flags)));
    common::save_picture(&style, 48, 64);
    let mut command = tiny(folder.path(), &flags);
    command.arg("--resume");
    let error = error_line(&run(command));
    assert!(error.contains("the style picture's content"), "{error}");
}

/// A disk that is taken away in the middle of a run costs nothing but the time until it is back.
#[test]
fn photos_that_vanish_end_the_run_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    fs::create_dir(&photos).unwrap();
    for name in ["1.png", "2.png", "3.png"] {
        common::save_picture(&photos.join(name), 48, 40);
    }
    let flags = ["--steps", "1000", "--steps-per-checkpoint", "1000", "--dataset", "photos"];
    let child = tiny(folder.path(), &flags).spawn().unwrap();
    wait_for_steps(&folder.path().join("a.log/train.csv"));
    fs::rename(&photos, folder.path().join("away")).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let error = error_line(&output);
    let saved = newest_checkpoint(folder.path()).unwrap();
    assert!(saved > 2, "{error}");
    let go_on = format!("step {saved} is saved, go on with: impasto-train -o a.safetensors --resume");
    for part in ["photos: cannot read the folder of photos", &go_on] {
        assert!(error.contains(part), "{error}");
    }
    fs::rename(folder.path().join("away"), &photos).unwrap();
    let mut command = common::train(folder.path());
    command.args(["-o", "a.safetensors", "--resume"]);
    assert_success(&run(command));
    let csv = fs::read_to_string(folder.path().join("a.log/train.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 1000);
}

/// Runs until some steps are taken, presses Ctrl-C, and returns what was printed.
#[cfg(unix)]
fn interrupted(mut command: Command, log: &Path) -> String {
    let child = command.spawn().unwrap();
    wait_for_steps(log);
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    stderr(&output)
}

/// Some steps are taken once the log has some lines.
fn wait_for_steps(log: &Path) {
    for _ in 0..3000 {
        if fs::read_to_string(log).is_ok_and(|text| text.lines().count() > 3) {
            return;
        }
        sleep(Duration::from_millis(10));
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_resume() {
    let flags = ["--steps", "100000", "--steps-per-checkpoint", "100000"];
    let folder = tempfile::tempdir().unwrap();
    let text = interrupted(tiny(folder.path(), &flags), &folder.path().join("a.log/train.csv"));
    assert!(text.contains("impasto-train -o a.safetensors --resume"), "{text}");
    assert!(newest_checkpoint(folder.path()).is_some_and(|step| step > 2));
    assert!(folder.path().join("a.safetensors").is_file());
}

/// The printed command, run as it stands, goes on with checkpoints that are not beside the output.
#[cfg(unix)]
#[test]
fn the_command_that_goes_on_finds_checkpoints_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--steps", "1000", "--steps-per-checkpoint", "1000", "--checkpoint-dir", "far off"];
    let text = interrupted(tiny(folder.path(), &flags), &folder.path().join("a.log/train.csv"));
    let command = text.split("go on with: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let command = command.replacen("impasto-train", "\"$0\"", 1);
    let mut shell = Command::new("sh");
    shell.current_dir(folder.path()).args(["-c", &command, env!("CARGO_BIN_EXE_impasto-train")]);
    let output = run(shell);
    assert_success(&output);
    assert!(stderr(&output).contains("learned in 1000 steps"), "{}", stderr(&output));
}
