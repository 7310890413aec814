//! README and docs/: every command of `impasto-train` runs, every settings file is read.
//!
//! The commands run as `runtime/tests/docs.rs` runs the others, in a folder with small photos, with the flags of a
//! tiny run behind them: the last of repeated flags counts.

#![cfg(unix)] // the commands are a Unix shell's

#[path = "../../runtime/tests/docs/markdown.rs"]
mod markdown;
#[path = "../../runtime/tests/docs/shell.rs"]
mod shell;
#[path = "../../runtime/tests/docs/studio.rs"]
mod studio;

use std::path::Path;
use std::process::Command;

use markdown::pages;
use shell::{Ends, Rule, at, rule, run};
use studio::studio;

/// A run of two steps of milliseconds, without a download.
const TINY: &str = "--preset smoke --steps 2 --width 2 --image-size 32 --batch-size 1 --style-size 48 \
                    --loss-net random-vgg16 --content-layers relu1_1 --style-layers relu1_1 --validation-photos 1 \
                    --workers 1 --stability-shift 2";

/// The first rule that fits a command counts.
const RULES: &[Rule] = &[
    // So short a run learns nothing, and says so; `tests/command.rs` runs the whole.
    Rule {
        begins: "impasto-train --smoke",
        replace: &[],
        add: "--steps 2 --width 2 --image-size 32 --style-size 48 --workers 1",
        ends: Ends::Failing("smoke test failed"),
    },
    // The run above it on the page was whole: the checkpoint is found, read and compared, and nothing is left to do.
    Rule { begins: "impasto-train -o my.safetensors --resume", replace: &[], add: "", ends: Ends::Well },
    Rule {
        begins: "impasto-train --config my.toml --style painting.jpg",
        replace: &[],
        add: "",
        ends: Ends::Well,
    },
    Rule {
        begins: "impasto-train --style painting.jpg --dataset train2017/ -o my.safetensors --preset full --device cuda",
        replace: &[("--device cuda", "--device cpu")],
        add: TINY,
        ends: Ends::Well,
    },
    Rule {
        begins: "impasto-train --style painting.jpg --dataset photos/ -o my.safetensors --device cuda",
        replace: &[],
        add: TINY,
        ends: if cfg!(feature = "cuda") {
            Ends::NotRun("a build that has what the others lack")
        } else {
            Ends::Failing("hint: cargo install --path")
        },
    },
    Rule { begins: "impasto-train", replace: &[], add: TINY, ends: Ends::Well },
];

fn path_with_impasto_train() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_impasto-train")).parent().expect("a folder");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn every_command_does_what_its_page_says() {
    let path = path_with_impasto_train();
    let (mut faults, mut used, mut ran) = (Vec::new(), vec![false; RULES.len()], 0);
    for page in pages() {
        let folder = studio();
        let cache = folder.path().join("cache").display().to_string();
        let variables = [("PATH", path.as_str()), ("XDG_CACHE_HOME", &cache), ("NO_COLOR", "1")];
        for command in page.commands() {
            let text =
                command.text.replacen("cargo run --release -p impasto-trainer -- ", "impasto-train ", 1);
            if !text.starts_with("impasto-train") {
                continue;
            }
            let (place, rule) = rule(RULES, &text).expect("the last rule fits all");
            used[place] = true;
            if matches!(rule.ends, Ends::NotRun(_)) {
                continue;
            }
            ran += 1;
            if let Err(fault) = run(folder.path(), &text, rule, &variables) {
                faults.push(at(&page, &command, &fault));
            }
        }
    }
    assert!(ran > 8, "only {ran} commands were found");
    for (rule, used) in RULES.iter().zip(used) {
        if !used {
            faults.push(format!("RULES: no command begins with `{}`", rule.begins));
        }
    }
    assert!(faults.is_empty(), "{} of {ran} commands:\n\n{}\n", faults.len(), faults.join("\n\n"));
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
            let output = Command::new(env!("CARGO_BIN_EXE_impasto-train"))
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
