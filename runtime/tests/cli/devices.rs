//! `impasto devices` and `--version`: what a report of trouble begins with.

use impasto::engine::{ISA_VARIABLE, Isa, cpu_name};
use serde_json::Value;

use super::support::{Studio, failure};

fn text(studio: &Studio, args: &[&str]) -> String {
    let output = studio.impasto(args).output().expect("the command ran");
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn devices_says_what_is_here_and_what_would_bring_the_rest() {
    let studio = Studio::new();
    let words = text(&studio, &["devices"]);
    assert!(words.contains(&cpu_name()) && words.contains(&format!("used: {}", Isa::best())), "{words}");
    let found: Value = serde_json::from_str(&text(&studio, &["devices", "--json"])).unwrap();
    let available: Vec<_> =
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(|isa| Value::from(isa.name())).collect();
    assert_eq!(found["cpu"]["instruction_sets"], Value::from(available));
    for (kind, built_in) in [("cuda", cfg!(feature = "cuda")), ("wgpu", cfg!(feature = "wgpu"))] {
        assert_eq!(found[kind]["built_in"], built_in, "{found}");
        // Either there are devices, or one line says why not and what would help.
        match found[kind]["problem"].as_str() {
            Some(problem) => {
                assert!(problem.contains("hint: ") && problem.lines().count() == 1, "{problem}");
                assert!(built_in || problem.contains(&format!("--features {kind}")), "{problem}");
                assert!(words.contains(problem), "{words}");
            }
            None => assert!(!found[kind]["devices"].as_array().unwrap().is_empty(), "{found}"),
        }
    }
}

#[test]
fn a_forced_instruction_set_is_the_one_that_is_used() {
    let studio = Studio::new();
    let output = studio.impasto(&["devices", "--json"]).env(ISA_VARIABLE, "portable").output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["cpu"]["instruction_set"], "portable");
    assert_eq!(found["cpu"]["auto_precision"], "f32");
    let line = failure(studio.impasto(&["devices"]).env(ISA_VARIABLE, "sse9"));
    assert!(line.contains("no such instruction set"), "{line}");
}

/// The programs that tests find may differ; an empty PATH has none, a stub says a version.
#[test]
#[cfg(unix)]
fn ffmpeg_is_found_or_there_is_a_hint() {
    use std::os::unix::fs::PermissionsExt;
    let studio = Studio::new();
    std::fs::create_dir(studio.path("none")).unwrap();
    let with_path = |folder: &str| {
        let output =
            studio.impasto(&["devices", "--json"]).env("PATH", studio.path(folder)).output().unwrap();
        assert!(output.status.success());
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["ffmpeg"].clone()
    };
    let missing = with_path("none");
    let problem = missing["problem"].as_str().unwrap();
    assert!(problem.contains("ffmpeg was not found") && problem.contains("hint: "), "{problem}");
    assert_eq!((&missing["version"], &missing["path"]), (&Value::Null, &Value::Null));

    std::fs::create_dir(studio.path("stub")).unwrap();
    for program in ["ffmpeg", "ffprobe"] {
        let name = format!("stub/{program}");
        studio.write(
            &name,
            format!("#!/bin/sh\necho {program} version 99.1-stub built somewhere\n").as_bytes(),
        );
        std::fs::set_permissions(studio.path(&name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let found = with_path("stub");
    assert_eq!(found["version"], "99.1-stub", "{found}");
    assert_eq!(found["path"], studio.path("stub/ffmpeg").display().to_string());
}

#[test]
fn the_short_version_is_one_line_and_the_long_one_says_what_was_built() {
    let studio = Studio::new();
    let short = text(&studio, &["-V"]);
    assert_eq!(short, concat!("impasto ", env!("CARGO_PKG_VERSION"), "\n"));
    let long = text(&studio, &["--version"]);
    let target = format!("target: {}-", std::env::consts::ARCH);
    for part in [short.trim_end(), "features: ", "instruction sets here: portable", &target] {
        assert!(long.contains(part), "no `{part}` in {long}");
    }
    for (feature, built_in) in [("webcam", cfg!(feature = "webcam")), ("cuda", cfg!(feature = "cuda"))] {
        let line = long.lines().find(|line| line.starts_with("features: ")).unwrap();
        let there = line.split(" (without").next().unwrap();
        assert_eq!(there.contains(feature), built_in, "{line}");
        assert!(line.contains(feature), "{line}");
    }
}
