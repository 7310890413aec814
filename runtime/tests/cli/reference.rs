//! `impasto gatys`, `dream` and `compare`, with seeded random loss networks.

use impasto::picture::{DecodeOptions, Picture};
use serde_json::Value;

use super::support::{Studio, failure, trained_model};

const NET: [&str; 2] = ["--loss-net", "random-vgg16"];
const SMALL: [&str; 4] = ["--content-layers", "relu2_1", "--style-layers", "relu1_1,relu2_1=0.5"];

fn gatys(studio: &Studio, args: &[&str]) -> assert_cmd::Command {
    studio.impasto(&[&["gatys"], args, &NET, &SMALL].concat())
}

fn size(studio: &Studio, name: &str) -> (usize, usize) {
    let picture = Picture::open(studio.path(name), &DecodeOptions::default()).expect("a picture");
    (picture.width(), picture.height())
}

#[test]
fn gatys_paints_logs_and_reports() {
    let studio = Studio::new();
    studio.picture("painting.png", 30, 40);
    let args = ["photo.png", "painting.png", "photo.png", "-o", "out.png", "--size", "48", "--steps", "4"];
    let more = ["--style-weights", "2,1", "--log", "log.csv", "--save-every", "3", "--json", "--keep-colors"];
    let output = gatys(&studio, &[&args[..], &more].concat()).output().expect("it ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    // 48×32 has no half that is worth looking at: one scale.
    assert_eq!((&report["width"], &report["steps"]), (&48.into(), &4.into()));
    assert_eq!(size(&studio, "out.png"), (48, 32));
    assert_eq!(size(&studio, "out-00003.png"), (48, 32));
    let log = std::fs::read_to_string(studio.path("log.csv")).expect("a log");
    assert_eq!(log.lines().count(), 5);
    let total = |line: usize| -> f64 {
        log.lines()
            .nth(line)
            .and_then(|line| line.split(',').nth(4))
            .expect("a total")
            .parse()
            .expect("a number")
    };
    let best = (1..5).map(total).fold(f64::INFINITY, f64::min);
    assert!(best < total(1), "{log}");
    assert_eq!(report["total"].as_f64(), Some(best));
    let line = failure(&mut gatys(&studio, &args[..5]));
    assert!(line.contains("out.png") && line.contains("--overwrite"), "{line}");
}

#[test]
fn gatys_says_what_is_wrong() {
    let studio = Studio::new();
    studio.picture("dot.png", 1, 1);
    for (args, expected) in [
        (&["photo.png", "none.png", "-o", "a.png"][..], "none.png"),
        (&["photo.png", "photo.png", "-o", "a.xyz"], ".xyz"),
        (&["photo.png", "photo.png", "-o", "a.png", "--style-weights", "1,2"], "2 for 1"),
        (&["photo.png", "photo.png", "-o", "a.png", "--style-weights=-1"], "-1"),
        (&["photo.png", "photo.png", "-o", "a.png", "--style-weight=-1"], "style_weight"),
        (&["dot.png", "photo.png", "-o", "a.png", "--size", "0"], "too small"),
        (&["photo.png", "dot.png", "-o", "a.png", "--style-size", "1"], "too small"),
        (&["photo.png", "photo.png", "-o", "a.png", "--device", "cuda"], "cuda"),
        (&["photo.png", "photo.png", "-o", "a.png", "--loss-weights", "photo.png"], "random"),
    ] {
        let line = failure(&mut gatys(&studio, args));
        assert!(line.contains(expected), "{args:?}: {line}");
        assert!(!studio.path("a.png").exists());
    }
    let unknown = ["gatys", "photo.png", "photo.png", "-o", "a.png", "--content-layers", "conv1_1"];
    let line = failure(&mut studio.impasto(&[&unknown[..], &NET].concat()));
    assert!(line.contains("relu5_3"), "{line}");
    let wrong = ["gatys", "photo.png", "photo.png", "-o", "a.png", "--loss-weights", "photo.png"];
    let line = failure(&mut studio.impasto(&wrong));
    assert!(line.contains("photo.png"), "{line}");
}

/// After a look at where the result goes, not after the steps.
#[test]
fn a_result_that_cannot_be_written_is_refused_before_the_steps() {
    let studio = Studio::new();
    let small = ["-o", "photo.png/out.png", "--log", "log.csv", "--size", "32"];
    for command in [
        &[&["gatys", "photo.png", "photo.png", "--steps", "2"], &small[..], &NET, &SMALL].concat(),
        &[&["dream", "photo.png", "--iterations", "1", "--layers", "relu1_1"], &small[..], &NET].concat(),
    ] {
        let line = failure(&mut studio.impasto(command));
        assert!(line.contains("photo.png/out.png: cannot write"), "{line}");
        assert!(!studio.path("log.csv").exists(), "{command:?}");
    }
    // Folders on the way are made, but not before there is something to put into them.
    let args = ["photo.png", "photo.png", "-o", "a/b/out.png", "--steps", "1", "--size", "32"];
    failure(&mut gatys(&studio, &[&args[..], &["--style-weight=-1"]].concat()));
    assert!(!studio.path("a").exists());
    gatys(&studio, &args).assert().success();
    assert!(studio.path("a/b/out.png").exists());
}

/// An hour's work is not thrown away because a picture of the way there has no place.
#[test]
fn what_ends_the_steps_does_not_cost_the_result() {
    let studio = Studio::new();
    std::fs::create_dir(studio.path("out-00002.png")).expect("a folder");
    let args = ["photo.png", "photo.png", "-o", "out.png", "--size", "32", "--steps", "4"];
    let line = failure(&mut gatys(&studio, &[&args[..], &["--save-every", "1"]].concat()));
    assert!(line.contains("out-00002.png") && line.contains("what there was has been written"), "{line}");
    assert_eq!(size(&studio, "out.png"), (32, 21));
    assert!(!studio.path("out-00003.png").exists());
}

#[test]
fn a_step_s_picture_without_an_extension_has_a_name_without_a_dot() {
    let studio = Studio::new();
    let args = ["photo.png", "photo.png", "-o", "out", "--format", "png", "--size", "32", "--steps", "2"];
    gatys(&studio, &[&args[..], &["--save-every", "1"]].concat()).assert().success();
    assert!(studio.path("out-00001").exists() && studio.path("out").exists());
}

/// Whoever hears nothing presses again, and then there is nothing.
#[cfg(unix)]
#[test]
fn ctrl_c_is_answered_and_leaves_the_best_so_far() {
    use std::process::{Command, Stdio};

    let studio = Studio::new();
    let args = ["gatys", "photo.png", "photo.png", "-o", "out.png", "--size", "64", "--steps", "1000000"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_impasto"))
        .current_dir(studio.path(""))
        .args([&args[..], &["--log", "log.csv", "--optimizer", "adam"], &NET, &SMALL].concat())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let steps = || std::fs::read_to_string(studio.path("log.csv")).unwrap_or_default().lines().count();
    while steps() < 3 && child.try_wait().expect("it is there").is_none() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("a signal");
    let output = child.wait_with_output().expect("it ended");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(sent.success() && output.status.code() == Some(130), "{said}");
    assert!(said.contains("Ctrl-C again ends at once") && said.contains("has been written"), "{said}");
    assert_eq!(size(&studio, "out.png"), (64, 43));
}

/// Weights that end before Gatys's content layer: without it nothing would hold the content.
#[test]
fn weights_without_the_content_layer_are_an_error() {
    use impasto_burn::loss_network::{LossNetworkKind, LossWeights};

    let studio = Studio::new();
    let mut weights = LossWeights::random(LossNetworkKind::Vgg16, 1);
    weights.tensors.retain(|key, _| key.as_str() < "conv3");
    studio.write("short.safetensors", &weights.to_safetensors().expect("a file"));
    let args = ["gatys", "photo.png", "photo.png", "-o", "out.png", "--size", "32", "--steps", "1"];
    let net = ["--loss-net", "vgg16", "--loss-weights", "short.safetensors"];
    let line = failure(&mut studio.impasto(&[&args[..], &net].concat()));
    assert!(line.contains("the weights end at relu2_2, layer relu4_2"), "{line}");
    let mut command = studio.impasto(&[&args[..], &net, &["--content-layers", "relu2_2"]].concat());
    command.assert().success();
}

#[test]
fn dream_climbs_and_reports() {
    let studio = Studio::new();
    let args = ["dream", "photo.png", "-o", "out.jpg", "--size", "60", "--octaves", "2", "--iterations", "3"];
    let more = ["--layers", "relu2_1,relu2_2:4=0.5", "--tile", "24", "--json", "--log", "log.csv"];
    let output = studio.impasto(&[&args[..], &more, &NET].concat()).output().expect("it ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let octaves = report["octaves"].as_array().expect("octaves");
    assert_eq!(octaves.len(), 2);
    for octave in octaves {
        assert!(octave["after"].as_f64() > octave["before"].as_f64(), "{report}");
    }
    assert_eq!(size(&studio, "out.jpg"), (60, 40));
    assert_eq!(std::fs::read_to_string(studio.path("log.csv")).expect("a log").lines().count(), 7);
    for (layers, expected) in [("relu7_1", "relu5_3"), ("relu1_1:64", "0 to 63"), ("relu1_1=-2", "weight -2")]
    {
        let line = failure(
            &mut studio
                .impasto(&[&["dream", "photo.png", "-o", "b.png", "--layers", layers][..], &NET].concat()),
        );
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn compare_writes_pictures_plots_and_tables() {
    let studio = Studio::new();
    studio.picture("painting.png", 40, 40);
    trained_model().save(studio.path("trained.safetensors")).expect("saved");
    let args =
        ["compare", "photo.png", "--painting", "painting.png", "-o", "out", "--size", "32", "--steps", "5"];
    let output = studio
        .impasto(&[&args[..], &["--model", "trained.safetensors", "--json"]].concat())
        .output()
        .expect("it ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("not the file"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let row = &report["rows"][0];
    let total = |key: &str| row[key]["total"].as_f64().expect("a total");
    assert!(total("gatys") < total("unpainted"), "{row}");
    // At the first evaluation nothing is painted yet: that is enough only for a network that makes it worse.
    assert_eq!(row["equivalent_steps"] == 1, total("fast") >= total("unpainted"), "{row}");
    assert!(row["equivalent_steps"].is_null() == (total("gatys") > total("fast")), "{row}");
    assert_eq!(size(&studio, "out/photo.png"), (96, 32));
    // All that is looked for before the first step, and nothing else.
    let mut written: Vec<_> = studio.files().into_iter().filter(|name| name.starts_with("out/")).collect();
    written.sort();
    let of_photo =
        ["-fast.png", "-gatys.png", "-seconds.png", "-seconds.svg", "-steps.png", "-steps.svg", ".png"];
    let mut expected: Vec<_> = of_photo.iter().map(|ending| format!("out/photo{ending}")).collect();
    expected.extend(["out/report.json".to_owned(), "out/report.md".to_owned()]);
    assert_eq!(written, expected);
    let table = std::fs::read_to_string(studio.path("out/report.md")).expect("a table");
    assert!(table.contains("| photo | ") && table.contains("Equivalent steps: mean"), "{table}");
    let line = failure(&mut studio.impasto(&[&args[..], &["--model", "style.safetensors"]].concat()));
    assert!(line.contains("trained"), "{line}");
}

/// Which network it is, the training has decided: no hint at another, which `compare` has no option for.
#[test]
fn compare_without_the_trainings_weights_says_what_it_needs() {
    use impasto_burn::loss_network::{LossNetworkKind, LossWeights};

    let studio = Studio::new();
    let mut model = trained_model();
    model.amend(|metadata| {
        let config = metadata.training.as_mut().and_then(|training| training.config.as_mut());
        let config = config.expect("settings");
        *config = config.replace("random-vgg16", "vgg16");
    });
    model.save(studio.path("trained.safetensors")).expect("saved");
    let mut other = LossWeights::random(LossNetworkKind::SqueezeNet, 1);
    other.tensors.retain(|key, _| key.starts_with("conv1."));
    studio.write("other.safetensors", &other.to_safetensors().expect("a file"));
    let args = ["compare", "-q", "photo.png", "--painting", "photo.png", "-o", "out"];
    let model = ["--model", "trained.safetensors"];
    for (more, expected) in [
        (&["--offline"][..], "no weights for vgg16, which the style was trained with: none in the cache"),
        (&["--loss-weights", "other.safetensors"], "expected vgg16, which the style was trained with"),
        (&["--loss-weights", "photo.png"], "photo.png: not a whole safetensors file"),
    ] {
        let mut command = studio.impasto(&[&args[..], &model, more].concat());
        // A cache with nothing in it, on Unix and on Windows.
        let line =
            failure(command.env("XDG_CACHE_HOME", studio.path("")).env("LOCALAPPDATA", studio.path("")));
        assert!(line.contains(expected) && !line.contains("--loss-net "), "{line}");
    }
}

/// The pictures compared before a bad one keep their report, and those after it get theirs.
#[test]
fn compare_goes_on_after_a_bad_photo() {
    let studio = Studio::new();
    studio.picture("painting.png", 40, 40);
    studio.picture("photos/a.png", 40, 40);
    studio.picture("photos/c.png", 40, 40);
    studio.write("photos/b.png", b"no picture");
    trained_model().save(studio.path("trained.safetensors")).expect("saved");
    let run = |output: &str| {
        let args = ["compare", "photos", "--painting", "painting.png", "--model", "trained.safetensors"];
        let more = ["--size", "32", "--steps", "2", "--json", "-o", output];
        studio.impasto(&[&args[..], &more].concat()).output().expect("it ran")
    };
    let output = run("out");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("b.png"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|row| &row["photo"]).collect::<Vec<_>>(), ["a", "c"], "{report}");
    assert!(report["failed"][0]["photo"].as_str().is_some_and(|name| name.ends_with("b.png")), "{report}");
    let table = std::fs::read_to_string(studio.path("out/report.md")).expect("a table");
    assert!(
        table.contains("| a | ") && table.contains("Not compared: ") && table.contains("| c | "),
        "{table}"
    );
    // With nothing compared there is nothing to report.
    studio.write("photos/a.png", b"no picture");
    studio.write("photos/c.png", b"no picture");
    let output = run("none");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(!studio.path("none").exists());
}

/// Said before the first step: no result takes the place of another's, or of a file that was there.
#[test]
fn compare_writes_every_file_once() {
    let studio = Studio::new();
    studio.picture("photo-fast.png", 40, 40);
    trained_model().save(studio.path("trained.safetensors")).expect("saved");
    let args = ["--painting", "photo.png", "--model", "trained.safetensors", "-o", "out"];
    let line = failure(
        &mut studio.impasto(&[&["compare", "-q", "photo.png", "photo-fast.png"][..], &args].concat()),
    );
    assert!(
        line.contains("photo-fast.png: would be written to") && line.contains("photo.png goes"),
        "{line}"
    );
    std::fs::create_dir(studio.path("out")).expect("a folder");
    studio.write("out/photo-steps.svg", b"a drawing");
    let line = failure(&mut studio.impasto(&[&["compare", "-q", "photo.png"][..], &args].concat()));
    assert!(line.contains("photo-steps.svg: exists already"), "{line}");
}

/// The objective is the training's own where the file tells its factors, and the same for every photo.
#[test]
fn compare_takes_the_factors_of_the_training_and_starts_where_it_is_told() {
    let studio = Studio::new();
    studio.picture("painting.png", 40, 40);
    let report = |tv: f64, init: &str| {
        let mut model = trained_model();
        let factors = serde_json::json!({
            "content": { "relu2_1": 0.5 }, "style": { "relu1_1": 0.25, "relu2_1": 2.0 }, "tv": tv,
        });
        model.amend(|metadata| {
            let training = metadata.training.as_mut().expect("a training");
            training.balance = Some(serde_json::from_value(factors).expect("factors"));
        });
        model.save(studio.path("trained.safetensors")).expect("saved");
        let args = ["compare", "photo.png", "--painting", "painting.png", "-o", "out", "--size", "32"];
        let more =
            ["--steps", "2", "--model", "trained.safetensors", "--json", "--overwrite", "--init", init];
        let output = studio.impasto(&[&args[..], &more].concat()).output().expect("it ran");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let table = std::fs::read_to_string(studio.path("out/report.md")).expect("a table");
        (serde_json::from_slice::<Value>(&output.stdout).expect("JSON"), table)
    };
    let loss = |report: &Value, of: &str, which: &str| report["rows"][0][of][which].as_f64().expect("a loss");
    let (once, table) = report(1.0, "content");
    let (thrice, _) = report(3.0, "content");
    assert_eq!((&once["balance_of_training"], &once["init"]), (&Value::Bool(true), &"content".into()));
    assert!(table.contains("losses of its training, L-BFGS from the photo, 2 evaluations"), "{table}");
    let ratio = loss(&thrice, "unpainted", "tv") / loss(&once, "unpainted", "tv");
    assert!((ratio - 3.0).abs() < 1e-4, "{ratio}");
    assert_eq!(loss(&thrice, "unpainted", "style"), loss(&once, "unpainted", "style"));
    // Noise has nothing of the photo, and two evaluations do not find it.
    let (noise, table) = report(1.0, "noise");
    assert!(loss(&noise, "gatys", "content") > loss(&once, "gatys", "content"), "{noise}");
    assert!(noise["init"] == "noise" && table.contains("L-BFGS from noise"), "{table}");
}
