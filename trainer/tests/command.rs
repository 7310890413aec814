//! The command as a person meets it: bad input, files beside the result, a disk that is full.

#![allow(clippy::unwrap_used)] // a test's helpers may fail as the test may

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{assert_success, error_line, run, save_picture, stderr, tiny, train};
use impasto_checkpoints::{Architecture, Dtype, StyleModel};
#[cfg(target_os = "linux")]
use impasto_test_support::SmallDisk;
use impasto_test_support::test_python;
use impasto_trainer::config::WRITTEN_BY_US;

#[test]
fn a_run_leaves_the_model_its_settings_and_something_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "--steps",
        "4",
        "--sample-every",
        "2",
        "--name",
        "waves",
        "--license",
        "MIT",
        "--credit-work",
        "A painting",
        "--credit-license",
        "public domain",
    ];
    assert_success(&run(tiny(folder.path(), &flags)));
    let model = StyleModel::load(folder.path().join("a.safetensors")).unwrap();
    assert_eq!(model.architecture(), &Architecture::johnson(2).unwrap());
    assert_eq!(model.dtypes(), [Dtype::F16]);
    let metadata = model.metadata();
    assert_eq!((metadata.name.as_str(), metadata.license.as_deref()), ("waves", Some("MIT")));
    assert_eq!(metadata.credits[0].work, "A painting");
    let training = metadata.training.clone().unwrap();
    assert_eq!((training.steps, training.loss_network.as_str()), (4, "random-vgg16"));
    let settings = fs::read_to_string(folder.path().join("a.toml")).unwrap();
    assert_eq!(settings.split_once('\n').unwrap(), (WRITTEN_BY_US, training.config.unwrap().as_str()));
    assert!(settings.contains("width = 2"));
    for file in ["a.sample.png", "a.log/train.csv", "a.log/valid.csv", "a.log/samples/step-000002.png"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
}

#[test]
fn the_smoke_test_learns_a_style_in_under_three_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = train(folder.path());
    command.arg("--smoke");
    let started = std::time::Instant::now();
    let output = run(command);
    assert_success(&output); // it fails unless the painted photos are at most half as far from the style
    let text = stderr(&output);
    let distances = text.lines().find(|line| line.contains("unpainted")).unwrap();
    println!("{} s; {distances}", started.elapsed().as_secs());
    assert!(started.elapsed().as_secs() < 180, "{:?}", started.elapsed());
    assert!(folder.path().join("smoke.safetensors").is_file());
}

#[test]
fn the_saved_settings_run_again_and_give_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(folder.path(), &["--steps", "3"])));
    let first = fs::read(folder.path().join("a.safetensors")).unwrap();
    let mut again = train(folder.path());
    again.args(["--config", "a.toml", "--overwrite"]);
    assert_success(&run(again));
    assert!(first == fs::read(folder.path().join("a.safetensors")).unwrap());
}

/// A settings file that a person wrote, with comments, stays as it is, also when it has the place where the resolved
/// settings go; what the trainer wrote is replaced.
#[test]
fn a_settings_file_of_ones_own_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let own = "# larger batches are grainy\nbatch_size = 1\n";
    fs::write(path("a.toml"), own).unwrap();
    let output = run(tiny(folder.path(), &["--config", "a.toml", "--steps", "1"]));
    assert_success(&output);
    assert!(stderr(&output).contains("settings: a.resolved.toml"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(path("a.toml")).unwrap(), own);
    assert!(fs::read_to_string(path("a.resolved.toml")).unwrap().contains("\nsteps = 1\n"));

    fs::remove_file(path("a.toml")).unwrap();
    for steps in ["2", "3"] {
        assert_success(&run(tiny(folder.path(), &["--steps", steps, "--overwrite"])));
        let settings = fs::read_to_string(path("a.toml")).unwrap();
        assert!(settings.contains(&format!("\nsteps = {steps}\n")), "{settings}");
    }
}

#[test]
fn nothing_is_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(folder.path(), &["--steps", "1"])));
    let before = fs::read(folder.path().join("a.safetensors")).unwrap();
    let error = error_line(&run(tiny(folder.path(), &["--steps", "1", "--seed", "5"])));
    assert!(error.contains("--resume") && error.contains("--overwrite"), "{error}");
    assert!(before == fs::read(folder.path().join("a.safetensors")).unwrap());
    assert_success(&run(tiny(folder.path(), &["--steps", "1", "--seed", "5", "--overwrite"])));
    assert!(before != fs::read(folder.path().join("a.safetensors")).unwrap());
}

/// What a wrong word beside `--overwrite` would cost, were the old run let go of at once: hours.
#[test]
fn an_overwriting_run_that_cannot_begin_leaves_the_old_one_whole() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(folder.path(), &["--steps", "2", "--steps-per-checkpoint", "1"])));
    let model = fs::read(folder.path().join("a.safetensors")).unwrap();
    let cases: [&[&str]; 6] = [
        &["--style", "missing.jpg"],
        &["--dataset", "nowhere"],
        &["--loss-net", "vgg99"],
        &["--device", "abacus"],
        &["--style-layers", "relu9_9"],
        &["--image-size", "16", "--loss-net", "random-squeezenet", "--style-layers", "fire9"],
    ];
    for wrong in cases {
        let mut command = tiny(folder.path(), &["--steps", "9", "--overwrite"]);
        command.args(wrong);
        assert_eq!(run(command).status.code(), Some(1), "{wrong:?}");
        for step in [1, 2] {
            let manifest = format!("a.checkpoints/step-{step:010}/manifest.json");
            assert!(folder.path().join(manifest).is_file(), "{wrong:?}: step {step} is gone");
        }
    }
    assert_success(&run(tiny(folder.path(), &["--steps", "2", "--resume"])));
    assert!(model == fs::read(folder.path().join("a.safetensors")).unwrap());

    let flags = ["--steps", "1", "--steps-per-checkpoint", "1", "--overwrite"];
    assert_success(&run(tiny(folder.path(), &flags)));
    let left = fs::read_dir(folder.path().join("a.checkpoints")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["step-0000000001"], "a later step of the old run would be resumed");
}

#[test]
fn bad_input_is_one_line_that_says_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("empty")).unwrap();
    fs::create_dir(path("bad")).unwrap();
    fs::write(path("bad/a.jpg"), "not a photo").unwrap();
    fs::write(path("bad/b.png"), "not a photo either").unwrap();
    save_picture(&path("dot.png"), 1, 1);
    fs::write(path("text.png"), "hello").unwrap();
    fs::write(path("file"), "").unwrap();
    fs::write(path("wrong.safetensors"), "nonsense").unwrap();
    fs::write(path("unknown.toml"), "stepz = 3").unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--dataset", "empty"], &["empty", "no photos"]),
        (&["--dataset", "bad"], &["bad", "none of the 2"]),
        (&["--dataset", "nowhere"], &["nowhere", "cannot read"]),
        (&["--style", "missing.jpg"], &["missing.jpg", "style picture"]),
        (&["--style", "dot.png"], &["dot.png", "1×1", "expected at least 32"]),
        (&["--style", "text.png"], &["text.png", "not a picture"]),
        (&["-o", "file/a.safetensors"], &["file", "cannot create the folder"]),
        (&["-o", "a.pth"], &["a.pth", "expected a file name that ends in .safetensors"]),
        (&["--style-layers", "relu9_9"], &["relu9_9", "relu1_1, relu1_2"]),
        (&["--content-layers", "relu1_1=-1"], &["content_layers", "-1", "0 or more"]),
        (&["--loss-net", "vgg99"], &["vgg99", "vgg16"]),
        (&["--loss-net", "vgg16", "--loss-weights", "wrong.safetensors"], &["wrong.safetensors", "expected"]),
        (&["--loss-net", "vgg16", "--offline"], &["--loss-weights", "random-vgg16"]),
        (&["--loss-weights", "wrong.safetensors"], &["random-vgg16", "wrong.safetensors"]),
        (&["--steps", "0"], &["steps is 0", "at least 1"]),
        (&["--stability-noise", "0"], &["stability_noise is 0", "more than 0", "stability_weight 0"]),
        (&["--width", "100000"], &["width is 100000", "at most 256"]),
        (&["--config", "unknown.toml"], &["unknown.toml", "line 1", "stepz"]),
        (&["--config", "none.toml"], &["none.toml", "cannot read"]),
        (&["--device", "abacus"], &["abacus", "cpu"]),
        (&["--precision", "bf16"], &["bf16", "--precision f32"]),
        // What the device lacks is said before its weights are looked for, or downloaded.
        (&["--precision", "bf16", "--loss-net", "vgg19", "--offline"], &["bf16", "--precision f32"]),
        (&["--resume"], &["no complete checkpoint", "--checkpoint-dir"]),
        (
            &[
                "--image-size",
                "16",
                "--loss-net",
                "random-squeezenet",
                "--content-layers",
                "fire9",
                "--style-layers",
                "fire9",
                "--stability-weight",
                "0",
            ],
            &["16 x 16 is too small for layer fire9", "expected at least"],
        ),
    ];
    for (flags, parts) in cases {
        let mut command = tiny(folder.path(), &["--steps", "2"]);
        command.args(*flags);
        let output = run(command);
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {}", stderr(&output));
        let error = error_line(&output);
        for part in *parts {
            assert!(error.contains(part), "{flags:?}: expected `{part}` in: {error}");
        }
        assert!(!path("a.safetensors").exists(), "{flags:?}");
    }
}

#[test]
fn the_short_version_is_one_line_and_the_long_one_says_what_was_built() {
    let text = |flag| {
        let mut command = train(Path::new("."));
        command.arg(flag);
        let output = run(command);
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    };
    let short = text("-V");
    assert_eq!(short, concat!("impasto-train ", env!("CARGO_PKG_VERSION"), "\n"));
    let long = text("--version");
    for part in [short.trim_end(), "features: flex", "wgpu", "instruction sets here: portable", "target: "] {
        assert!(long.contains(part), "no `{part}` in {long}");
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(folder.path(), &["--steps", "2", "--steps-per-checkpoint", "1"])));
    let before = fs::read(folder.path().join("a.safetensors")).unwrap();
    let fresh = tempfile::tempdir().unwrap();
    let flags = [
        "--steps",
        "50",
        "--steps-per-checkpoint",
        "50",
        "--learning-rate",
        "1e30",
        "--schedule",
        "constant",
    ];
    let output = run(tiny(fresh.path(), &flags));
    assert_eq!(output.status.code(), Some(1));
    let error = error_line(&output);
    for part in ["not finite", "there is no checkpoint yet", "--learning-rate", "--clip-norm"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!fresh.path().join("a.safetensors").exists());
    assert!(!before.is_empty());
}

#[test]
fn bad_photos_are_named_in_a_log_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("broken.jpg"), "not a photo").unwrap();
    for (name, side) in [("a.png", 40), ("b.png", 50)] {
        save_picture(&photos.join(name), side, side + 7);
    }
    let output = run(tiny(folder.path(), &["--steps", "6", "--dataset", "photos"]));
    assert_success(&output);
    assert_eq!(stderr(&output).matches("photos could not be used").count(), 1, "{}", stderr(&output));
    let log = fs::read_to_string(folder.path().join("a.log/bad-files.log")).unwrap();
    assert!(log.starts_with("broken.jpg: ") && log.lines().count() == 1, "{log}");
}

#[test]
fn overfitting_few_photos_lowers_their_loss() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(folder.path(), &["--steps", "30", "--overfit", "1"])));
    let text = fs::read_to_string(folder.path().join("a.log/train.csv")).unwrap();
    let totals: Vec<f64> =
        text.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(totals.len(), 30);
    assert!(totals[29] < 0.7 * totals[0], "{} to {}", totals[0], totals[29]);
}

#[test]
fn without_validation_photos_there_is_no_sample_and_no_measure() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--steps", "2", "--sample-every", "1", "--validation-photos", "0"];
    let output = run(tiny(folder.path(), &flags));
    assert_success(&output);
    let text = stderr(&output);
    assert!(text.contains("learned in 2 steps"), "{text}");
    assert!(!text.contains("NaN") && !text.contains("sample") && !text.contains("distance"), "{text}");
    assert!(!folder.path().join("a.sample.png").exists());

    let mut smoke = train(folder.path());
    smoke.args(["--smoke", "--validation-photos", "0"]);
    let error = error_line(&run(smoke));
    assert!(error.contains("validation_photos is 0, expected at least 1 with --smoke"), "{error}");
}

#[test]
fn tensorboard_s_own_reader_finds_every_step_and_the_pictures() {
    let Some(python) = test_python("TensorBoard's reader") else { return };
    let folder = tempfile::tempdir().unwrap();
    assert_success(&run(tiny(folder.path(), &["--steps", "6", "--sample-every", "3"])));
    let script = "
import io, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from PIL import Image
events = EventAccumulator(sys.argv[1]); events.Reload()
for tag in ['loss/total', 'loss/style', 'style/relu1_1', 'learning_rate', 'images_per_s']:
    print(tag, [e.step for e in events.Scalars(tag)])
print('valid', [e.step for e in events.Scalars('valid/loss/total')])
for e in events.Images(events.Tags()['images'][0]):
    print('image', e.step, e.width, e.height, Image.open(io.BytesIO(e.encoded_image_string)).size)
print('last', events.Scalars('loss/total')[-1].value)
";
    let output = Command::new(python).args(["-c", script]).arg(folder.path().join("a.log")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for tag in ["loss/total", "loss/style", "style/relu1_1", "learning_rate", "images_per_s"] {
        assert!(text.contains(&format!("{tag} [0, 1, 2, 3, 4, 5]")), "{tag}: {text}");
    }
    for line in ["valid [6]", "image 3 64 64 (64, 64)", "image 6 64 64 (64, 64)"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let csv = fs::read_to_string(folder.path().join("a.log/train.csv")).unwrap();
    let total: f64 = csv.lines().last().unwrap().split(',').nth(1).unwrap().parse().unwrap();
    let read: f64 = text.lines().find_map(|line| line.strip_prefix("last ")).unwrap().parse().unwrap();
    assert!((total - read).abs() <= 1e-6 * total.abs(), "CSV {total}, TensorBoard {read}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_keeps_the_previous_checkpoint() {
    let disk = tempfile::tempdir().unwrap();
    let Some(_mounted) = SmallDisk::mount("a checkpoint on a full disk", disk.path(), "1m") else { return };
    let logs = tempfile::tempdir().unwrap();
    let log_dir = logs.path().to_str().unwrap();
    let flags = ["--steps", "2", "--steps-per-checkpoint", "1", "--log-dir", log_dir];
    assert_success(&run(tiny(disk.path(), &flags)));
    let before = fs::read(disk.path().join("a.safetensors")).unwrap();
    // All of what is left is taken, but for one page.
    let filler = disk.path().join("filler");
    let mut size = 1 << 20;
    while size >= 4096 {
        let mut bytes = fs::read(&filler).unwrap_or_default();
        let kept = bytes.clone();
        bytes.resize(bytes.len() + size, 1);
        if fs::write(&filler, &bytes).is_err() {
            fs::write(&filler, &kept).unwrap();
            size /= 2;
        }
    }
    let flags = ["--steps", "2", "--steps-per-checkpoint", "1", "--log-dir", log_dir, "--resume"];
    let finished = run(tiny(disk.path(), &flags));
    assert_success(&finished); // nothing to do, nothing to write

    // A longer run in the same folder cannot be resumed (other `steps`), so the checkpoint's own are edited.
    let manifest = disk.path().join("a.checkpoints/step-0000000002/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap().replace("steps = 2\\n", "steps = 9\\n");
    fs::write(&manifest, text).unwrap();
    let flags = ["--steps", "9", "--steps-per-checkpoint", "1", "--log-dir", log_dir, "--resume"];
    let output = run(tiny(disk.path(), &flags));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let error = error_line(&output);
    assert!(error.contains("No space left") && error.contains("step 2 is kept"), "{error}");
    assert!(before == fs::read(disk.path().join("a.safetensors")).unwrap());
    assert!(manifest.is_file());
    fs::remove_file(&filler).unwrap();
    assert_success(&run(tiny(disk.path(), &flags)));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_log_disk_is_one_warning_and_training_goes_on() {
    let disk = tempfile::tempdir().unwrap();
    let Some(_mounted) = SmallDisk::mount("a log on a full disk", disk.path(), "16k") else { return };
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--steps", "150", "--log-dir", disk.path().to_str().unwrap()];
    let output = run(tiny(folder.path(), &flags));
    assert_success(&output);
    let text = stderr(&output);
    assert_eq!(text.matches("cannot write TensorBoard").count(), 1, "{text}");
    assert!(folder.path().join("a.safetensors").is_file());
}
