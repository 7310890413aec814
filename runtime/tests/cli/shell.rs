//! `impasto completions` and `impasto man`: bash completes with the script, groff renders the pages.

use std::process::Command;

use impasto::checkpoints::shipped;
use impasto_test_support::are_installed;

use super::support::{Studio, failure};

/// What bash offers after these words, the last of which is being typed.
fn offers(studio: &Studio, words: &[&str]) -> Vec<String> {
    let driver = r#"
        source completions.bash
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        COMP_LINE="$*"
        COMP_POINT=${#COMP_LINE}
        COMPREPLY=()
        _impasto impasto "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let output = Command::new("bash")
        .args(["--norc", "--noprofile", "-c", driver, "bash"])
        .args(words)
        .current_dir(studio.path(""))
        .output()
        .expect("bash ran");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{words:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8").split_whitespace().map(str::to_string).collect()
}

#[test]
fn bash_completes_commands_options_and_styles() {
    if !are_installed("completions", &["bash"]) {
        return;
    }
    let studio = Studio::new();
    let script = studio.impasto(&["completions", "bash"]).output().unwrap();
    assert!(script.status.success() && script.stderr.is_empty());
    studio.write("completions.bash", &script.stdout);

    assert_eq!(offers(&studio, &["impasto", "styl"]), ["stylize", "styles"]);
    assert_eq!(offers(&studio, &["impasto", "styles", "ex"]), ["export"]);
    assert_eq!(offers(&studio, &["impasto", "stylize", "a.png", "--keep"]), ["--keep-colors"]);
    assert_eq!(offers(&studio, &["impasto", "styles", "export", "wave", "--on"]), ["--onnx"]);
    let styles: Vec<_> = shipped::names().collect();
    for command in ["stylize", "video", "bench"] {
        assert_eq!(offers(&studio, &["impasto", command, "--style", ""]), styles, "{command}");
    }
    assert_eq!(offers(&studio, &["impasto", "stylize", "--style", "star"]), ["starry_night"]);
}

#[test]
fn every_shell_has_a_script_with_the_styles_in_it() {
    let studio = Studio::new();
    let mut scripts = Vec::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = studio.impasto(&["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        assert!(script.contains("stylize") && script.contains("keep-colors"), "{shell}");
        // Elvish and PowerShell scripts know commands and options, not values.
        if ["bash", "fish", "zsh"].contains(&shell) {
            assert!(script.contains("starry_night"), "{shell}");
        }
        assert!(!scripts.contains(&script), "{shell}");
        scripts.push(script);
    }
    studio.impasto(&["completions", "tcsh"]).assert().code(2);
}

#[test]
fn the_manual_has_a_page_for_every_command_and_replaces_none_unasked() {
    let studio = Studio::new();
    studio.impasto(&["man", "-o", "pages/man1"]).assert().success().stdout("");
    let files = studio.files();
    for page in ["impasto.1", "impasto-stylize.1", "impasto-styles-export.1", "impasto-devices.1"] {
        assert!(files.contains(&format!("pages/man1/{page}")), "{page}: {files:?}");
    }
    let page = std::fs::read_to_string(studio.path("pages/man1/impasto-stylize.1")).unwrap();
    assert!(page.is_ascii() && page.contains("\\-\\-stroke\\-scale"), "{page}");
    // A manual is about impasto, not about the machine that wrote it.
    let page = std::fs::read_to_string(studio.path("pages/man1/impasto.1")).unwrap();
    assert!(!page.contains("instruction sets here") && page.contains("in a single pass"), "{page}");

    studio.write("pages/man1/impasto-video.1", b"mine");
    let line = failure(&mut studio.impasto(&["man", "-o", "pages/man1"]));
    assert!(line.contains("exists already; hint: --overwrite"), "{line}");
    assert_eq!(std::fs::read(studio.path("pages/man1/impasto-video.1")).unwrap(), b"mine");
    studio.impasto(&["man", "-o", "pages/man1", "--overwrite"]).assert().success();
    assert_ne!(std::fs::read(studio.path("pages/man1/impasto-video.1")).unwrap(), b"mine");
    assert_eq!(studio.files(), files);

    studio.write("file", b"");
    let line = failure(&mut studio.impasto(&["man", "-o", "file/pages"]));
    assert!(line.contains("file/pages: cannot make the folder"), "{line}");
}

#[test]
fn groff_renders_every_page_without_a_warning() {
    if !are_installed("the manual", &["groff"]) {
        return;
    }
    let studio = Studio::new();
    studio.impasto(&["man", "-o", "pages", "-q"]).assert().success().stderr("");
    let pages: Vec<_> = studio.files().into_iter().filter(|file| file.starts_with("pages/")).collect();
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        for device in ["-Tascii", "-Tutf8"] {
            let output =
                Command::new("groff").args(["-man", device, "-ww"]).arg(studio.path(&page)).output().unwrap();
            let warnings = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && warnings.is_empty(), "{page}: {warnings}");
            let text = String::from_utf8_lossy(&output.stdout);
            // Headings may be struck twice over, plain text is not.
            assert!(text.contains("Print help"), "{page}: {text}");
        }
    }
}
