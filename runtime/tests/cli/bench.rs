//! `impasto bench`: the report's keys and what they promise. No test depends on how fast anything is.

use serde_json::Value;

use super::support::{Studio, failure};

/// Runs `impasto bench --json` on a small frame and gives the report.
fn report(studio: &Studio, args: &[&str]) -> Value {
    let mut command =
        studio.impasto(&["bench", "--json", "--size", "40x24", "--frames", "5", "--warmup", "1"]);
    let output = command.args(args).output().expect("the command ran");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{args:?}: {text}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_report_has_its_keys_and_they_agree_with_each_other() {
    let studio = Studio::new();
    let report = report(&studio, &["--model", "style.safetensors", "--precision", "f32", "--threads", "1"]);
    let keys: std::collections::BTreeSet<_> =
        report.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "device",
        "fps",
        "frames",
        "height",
        "isa",
        "max_ms",
        "median_ms",
        "min_ms",
        "model",
        "peak_rss_mb",
        "precision",
        "threads",
        "width",
    ];
    assert_eq!(keys, expected.into());
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} is {}", report[key]));
    assert!(0.0 < number("min_ms") && number("min_ms") <= number("median_ms"), "{report}");
    assert!(number("median_ms") <= number("max_ms"), "{report}");
    assert!((number("fps") * number("median_ms") - 1000.0).abs() < 1e-6, "{report}");
    assert_eq!((number("width"), number("height"), number("frames")), (40.0, 24.0, 5.0));
    assert_eq!(number("threads"), 1.0);
    assert_eq!(
        (&report["model"], &report["precision"], &report["device"]),
        (&"random".into(), &"f32".into(), &"cpu".into())
    );
    assert!(report["isa"].as_str().is_some_and(|isa| !isa.is_empty()));
    if cfg!(target_os = "linux") {
        assert!((1.0..1000.0).contains(&number("peak_rss_mb")), "{report}");
    } else {
        assert!(report["peak_rss_mb"].is_null());
    }
}

#[test]
fn what_is_measured_can_be_chosen() {
    let studio = Studio::new();
    let listed = studio.impasto(&["styles", "list", "--json"]).output().unwrap();
    let styles: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let by_default = report(&studio, &[]);
    assert_eq!(by_default["model"], styles[0]["name"]);
    assert_ne!(by_default["precision"], "auto");
    assert!(by_default["threads"].as_u64().unwrap() >= 1);
    let name = styles[1]["name"].as_str().unwrap();
    assert_eq!(report(&studio, &["--style", name])["model"], name);
    assert_eq!(report(&studio, &["--width", "4", "--precision", "bf16"])["model"], "random-4");
    // A picture of another size than the frames'.
    assert_eq!(report(&studio, &["--input", "photo.png", "--model", "style.safetensors"])["width"], 40);
}

#[test]
fn people_get_a_short_text() {
    let studio = Studio::new();
    let args = ["bench", "--model", "style.safetensors", "--size", "16×9", "--frames", "2", "--warmup", "0"];
    let output = studio.impasto(&args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    for expected in ["random", "16×9", "median", "2 frames", "frames/s"] {
        assert!(text.contains(expected), "no `{expected}` in {text}");
    }
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn bad_arguments_are_refused() {
    let studio = Studio::new();
    for size in ["640", "640x", "x480", "0x480", "640x480x3", "-1x5", "65536x1", "60000x60000", "big"] {
        let output = studio.impasto(&["bench", &format!("--size={size}")]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{size}: {text}");
        assert!(output.stdout.is_empty());
        assert!(text.contains("--size") && text.contains("expected WIDTHxHEIGHT"), "{size}: {text}");
    }
    for args in [
        &["--frames", "0"][..],
        &["--threads", "0"],
        &["--precision", "f8"],
        &["--width", "0"],
        &["--width", "8", "--style", "wave"],
    ] {
        let output = studio.impasto(&["bench"]).args(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(args[0]), "{args:?}: {text}");
    }
    for (args, expected) in [
        (["--style", "no-such"], "shipped styles"),
        (["--model", "absent.safetensors"], "absent.safetensors"),
        (["--input", "absent.png"], "absent.png"),
    ] {
        let line = failure(studio.impasto(&["bench"]).args(args));
        assert!(line.contains(expected), "{line}");
    }
}
