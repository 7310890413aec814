//! README and docs/: every command of `impasto-train` runs, every settings file is read.
//!
//! The commands run as `runtime/tests/docs.rs` runs the others, in a folder with small photos, with the flags of a
//! tiny run behind them: the last of repeated flags counts.

#![cfg(unix)] // the commands are a Unix shell's

mod common;

use std::process::Command;

use impasto_test_support::docs::{AS_IT_STANDS, Commands, Ends, Rule, pages, studio};

const IMPASTO_TRAIN: &str = env!("CARGO_BIN_EXE_impasto-train");

/// A run of two steps of milliseconds, without a download.
const TINY: &str = "--preset smoke --steps 2 --width 2 --image-size 32 --batch-size 1 --style-size 48 \
                    --loss-net random-vgg16 --content-layers relu1_1 --style-layers relu1_1 --validation-photos 1 \
                    --workers 1 --stability-shift 2";

/// The first rule that fits a command counts.
const RULES: &[Rule] = &[
    // A run of such small steps learns nothing, and says so; `tests/command.rs` runs the whole.
    Rule {
        begins: "impasto-train --smoke",
        add: "--steps 2 --learning-rate 1e-9 --width 2 --image-size 32 --style-size 48 --workers 1",
        ends: Ends::Failing("smoke test failed"),
        ..AS_IT_STANDS
    },
    // The run above it on the page was whole: the checkpoint is found, read and compared, and nothing is left to do.
    Rule { begins: "impasto-train -o my.safetensors --resume", ..AS_IT_STANDS },
    Rule { begins: "impasto-train --config my.toml --style painting.jpg", ..AS_IT_STANDS },
    Rule {
        begins: "impasto-train --style painting.jpg --dataset train2017/ -o my.safetensors --preset full --device cuda",
        replace: &[("--device cuda", "--device cpu")],
        add: TINY,
        ..AS_IT_STANDS
    },
    Rule {
        begins: "impasto-train --style painting.jpg --dataset photos/ -o my.safetensors --device cuda",
        add: TINY,
        ends: if cfg!(feature = "cuda") {
            Ends::NotRun("a build that has what the others lack")
        } else {
            Ends::Failing("hint: cargo install --path")
        },
        ..AS_IT_STANDS
    },
    Rule::add("impasto-train", TINY),
];

#[test]
fn every_command_does_what_its_page_says() {
    let studio = studio(common::save_picture);
    let ours = |command: &str| {
        let command = command.replacen("cargo run --release -p impasto-trainer -- ", "impasto-train ", 1);
        command.starts_with("impasto-train").then_some(command)
    };
    Commands { program: IMPASTO_TRAIN, rules: RULES, studio: &studio }.check(9, ours, Some);
}

#[test]
fn settings_files_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut found = 0;
    for page in pages() {
        for block in page.blocks() {
            if block.language != "toml" || block.text.contains("[dependencies]") {
                continue;
            }
            found += 1;
            std::fs::write(folder.path().join("my.toml"), &block.text).expect("written");
            let output = Command::new(IMPASTO_TRAIN)
                .args(["--config", "my.toml", "--print-config"])
                .current_dir(folder.path())
                .output()
                .expect("it ran");
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{}:{}: {err}", page.name, block.line);
            for line in block.text.lines() {
                assert!(
                    out.contains(line),
                    "{}:{}: `{line}` did not come back:\n{out}",
                    page.name,
                    block.line
                );
            }
        }
    }
    assert!(found > 0, "no settings file was found");
}
