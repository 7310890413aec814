//! README and docs/: every command runs, every link leads somewhere, every example file is what it says.
//!
//! Commands stand in blocks marked `sh`. They run in a scratch folder that holds what the pages speak of, as they
//! stand, except for those that the table [`RULES`] names. Commands of `impasto-train` are run by
//! `trainer/tests/docs.rs`; Rust snippets are doctests of the package `impasto-tests`.

#![cfg(unix)] // the commands are a Unix shell's

#[path = "docs/studio.rs"]
mod studio;

use std::fs;
use std::path::Path;
use std::process::Command;

use impasto_test_support::docs::{
    AS_IT_STANDS, Commands, Ends, Page, Rule, look_at, page, pages, path_with, run, without_variables,
};
use impasto_test_support::{are_installed, repository};
use studio::{add_videos, studio};

const IMPASTO: &str = env!("CARGO_BIN_EXE_impasto");

/// What cannot run as it stands. The first rule that fits a command counts; one that fits none fails the test.
const RULES: &[Rule] = &[
    // Checked instead: that the package has the features, the example and the script are there.
    Rule::not_run("cargo install", "it would install"),
    Rule::not_run("cargo run --release -p impasto-trainer --", "trainer/tests/docs.rs runs it"),
    Rule::not_run("scripts/test", "this test is part of it"),
    Rule::not_run("scripts/gpu-kit", "it builds for CUDA"),
    Rule::not_run("apt install", "it would install"),
    Rule::not_run("ls /dev/video", "a camera"),
    Rule::not_run("tensorboard", "a Python package that shows what trainer/tests looks at"),
    Rule::not_run("curl -LO http://images.cocodataset.org", "18 GB"),
    Rule::not_run("unzip -q train2017.zip", "18 GB"),
    // What only Ctrl-C ends.
    Rule {
        begins: "impasto stylize photo.jpg --model my.safetensors -o painted.png --watch",
        ends: Ends::Interrupted("watching my.safetensors"),
        ..AS_IT_STANDS
    },
    Rule {
        begins: "impasto serve --listen 0.0.0.0:7878",
        replace: &[("0.0.0.0:7878", "0.0.0.0:0")],
        ends: Ends::Interrupted("Ctrl-C ends it"),
        ..AS_IT_STANDS
    },
    Rule {
        begins: "impasto serve",
        add: "--listen 0",
        ends: Ends::Interrupted("Ctrl-C ends it"),
        ..AS_IT_STANDS
    },
    // No camera, no screen.
    Rule::replace(
        "impasto webcam --style wave --source camera:1",
        &[("camera:1", "test --no-window --frames 3")],
    ),
    Rule::add("impasto webcam --style wave --source clip.mp4", "--no-window --frames 3"),
    Rule::replace("impasto webcam --style wave --source test --no-window", &[("--frames 100", "--frames 3")]),
    Rule::add("impasto webcam --style wave --source test", "--no-window --frames 3"),
    Rule::add("impasto webcam", "--source test --no-window --frames 3"),
    // Minutes, and weights to download.
    Rule::replace(
        "impasto gatys",
        &[("--size 384 --steps 120", "--size 48 --steps 2 --loss-net random-vgg16")],
    ),
    Rule::add("impasto dream", "--size 48 --octaves 1 --iterations 1 --loss-net random-vgg16"),
    // It reads photos, painting and the style's losses, and then lacks what would be downloaded.
    Rule {
        begins: "impasto compare",
        add: "--offline --size 32 --steps 1",
        ends: Ends::Failing("no weights for vgg19"),
        ..AS_IT_STANDS
    },
    // Fewer frames, and smaller ones, say as much.
    Rule::add("impasto bench --profile", "--frames 2"),
    Rule::add("impasto bench --width 32", "--frames 2"),
    Rule::add("impasto bench --size 160x120", ""),
    Rule::add("impasto bench", "--frames 2"),
    Rule::replace("impasto video holiday.mp4 --model my.safetensors", &[("--size 640", "--size 96")]),
    // Enlarging the small photo to that size would take seconds.
    Rule::replace(
        "impasto stylize photo.jpg --style wave -o painted.png --tile 64 --size 6000",
        &[("6000", "600")],
    ),
];

/// The features that a command needs, if it needs one: whether they are in this build.
fn is_in_this_build(command: &str) -> bool {
    let features = [
        ("impasto webcam", cfg!(feature = "webcam")),
        ("impasto serve", cfg!(feature = "serve")),
        ("curl", cfg!(feature = "serve")),
        ("impasto gatys", cfg!(feature = "reference")),
        ("impasto dream", cfg!(feature = "reference")),
        ("impasto compare", cfg!(feature = "reference")),
    ];
    features.iter().all(|(begins, there)| *there || !command.starts_with(begins))
}

#[test]
fn every_command_does_what_its_page_says() {
    let studio = studio();
    let ffmpeg = are_installed("commands of the docs", &["ffmpeg", "ffprobe"]);
    let curl = !cfg!(feature = "serve") || are_installed("commands of the docs", &["curl"]);
    if ffmpeg {
        add_videos(studio.path());
    }
    #[cfg(feature = "serve")]
    add_certificate(studio.path());
    let ours = |command: &str| {
        let command = command.replacen("cargo run --release -- ", "impasto ", 1);
        (!command.starts_with("impasto-train")).then_some(command)
    };
    let mut server = None;
    let prepare = |command: String| {
        let bare = without_variables(&command);
        let films =
            ["impasto video", "impasto webcam", "scripts/gallery"].iter().any(|b| bare.starts_with(b));
        if !is_in_this_build(bare) || (films && !ffmpeg) || (bare.starts_with("curl") && !curl) {
            return None;
        }
        if bare.starts_with("curl") {
            let server = server.get_or_insert_with(Running::start);
            return Some(command.replace("localhost:7878", &server.address));
        }
        let script = bare.split_whitespace().next().filter(|word| word.contains('/'));
        Some(script.map_or(command.clone(), |script| {
            command.replacen(script, &repository(script).display().to_string(), 1)
        }))
    };
    Commands { program: IMPASTO, rules: RULES, studio: &studio }.check(20, ours, prepare);
}

/// `cert.pem` and `key.pem`.
#[cfg(feature = "serve")]
fn add_certificate(folder: &Path) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.join("cert.pem"), certified.cert.pem()).expect("written");
    fs::write(folder.join("key.pem"), certified.signing_key.serialize_pem()).expect("written");
}

/// `impasto serve`, for the commands that call it; stopped when dropped.
struct Running {
    child: std::process::Child,
    address: String,
}

impl Running {
    fn start() -> Self {
        let mut child = Command::new(IMPASTO)
            .args(["--quiet", "serve", "--listen", "0"])
            .env_remove("IMPASTO_TOKEN")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("a line");
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
        Running { child, address }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The JSON of the page on the model file is the shipped style's, its Python runs, and every block is of a kind that
/// some test knows.
#[test]
fn every_snippet_is_looked_at() {
    let folder = studio();
    let doctests = page("tests/src/lib.rs").text;
    for page in pages() {
        for block in page.blocks() {
            let place = format!("{}:{}", page.name, block.line);
            match block.language.as_str() {
                "sh" => {}
                "rust" | "rust,no_run" => {
                    let include = format!("include_str!(\"../../{}\")", page.name);
                    assert!(doctests.contains(&include), "{place}: tests/src/lib.rs has no {include}");
                }
                "json" => same_as_shipped(&block.text, &place),
                "python" => run_python(folder.path(), &block.text, &place),
                // Settings are read by trainer/tests/docs.rs; a dependency is checked by its features.
                "toml" if block.text.contains("[dependencies]") => has_features(&block.text, &place),
                "toml" => {}
                other => panic!("{place}: a block marked `{other}`: no test knows what to do with it"),
            }
        }
    }
}

fn same_as_shipped(json: &str, place: &str) {
    use impasto::checkpoints::{Metadata, shipped};
    let shown = Metadata::from_json(json).unwrap_or_else(|error| panic!("{place}: {error}"));
    let mut real = shipped::load(&shown.name).expect("a shipped style").metadata().clone();
    let training = real.training.as_mut().expect("trained here");
    training.config = None; // the page says that it is left out
    assert_eq!(shown, real, "{place}");
}

fn run_python(folder: &Path, code: &str, place: &str) {
    if !are_installed("Python of the docs", &["python3"]) {
        return;
    }
    let output = Command::new("python3").args(["-c", code]).current_dir(folder).output().expect("it ran");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{place}: {err}");
    assert!(
        out.starts_with("my c9s1-2,") && out.contains("conv1.conv2d.weight F32 [2, 3, 9, 9]"),
        "{place}: {out}"
    );
}

fn has_features(toml: &str, place: &str) {
    let line = toml.lines().find(|line| line.starts_with("impasto = ")).expect("the dependency");
    let path =
        line.split("path = \"impasto/").nth(1).and_then(|rest| rest.split('"').next()).expect("a path");
    let features =
        line.split("features = [").nth(1).and_then(|rest| rest.split(']').next()).expect("features");
    let command = format!("cargo install --path {path} --features {}", features.replace(['"', ' '], ""));
    look_at(&command).unwrap_or_else(|fault| panic!("{place}: {fault}"));
}

#[test]
fn every_link_leads_somewhere() {
    let mut all: Vec<Page> = pages();
    all.extend(["CONTRIBUTING.md", "DEVIATIONS.md", "CHANGELOG.md", "benches/peers/README.md"].map(page));
    let mut faults = Vec::new();
    let (mut links, mut listed) = (0, String::new());
    for page in &all {
        let folder = repository(&page.name);
        let folder = folder.parent().expect("a folder");
        for link in page.links() {
            links += 1;
            if link.target.contains("://") {
                continue;
            }
            let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let path = if file.is_empty() { repository(&page.name) } else { folder.join(file) };
            let there =
                path.exists() && (anchor.is_empty() || anchors(&path).iter().any(|known| known == anchor));
            if !there {
                faults.push(format!("{}:{}: `{}` leads nowhere", page.name, link.line, link.target));
            }
            if page.name == "docs/README.md" {
                listed += &format!("docs/{file} ");
            }
        }
    }
    assert!(links > 40, "only {links} links were found");
    for page in pages().iter().filter(|page| page.name.starts_with("docs/") && page.name != "docs/README.md")
    {
        if !listed.contains(&format!("{} ", page.name)) {
            faults.push(format!("docs/README.md does not list {}", page.name));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What the text names in passing: files and folders of the repository, packages, and options of the commands.
#[test]
fn what_is_named_in_passing_exists() {
    // Where the options of both commands are declared.
    let sources = [
        "runtime/src/bin/impasto/args.rs",
        "runtime/src/bin/impasto/serve_args.rs",
        "runtime/src/bin/impasto/reference_args.rs",
        "runtime/src/bin/impasto/export.rs",
        "runtime/src/bin/impasto/devices.rs",
        "runtime/src/bin/impasto/man.rs",
        "trainer/src/config.rs",
        "trainer/src/bin/impasto-train/args.rs",
    ];
    let declared: String = sources.map(|name| page(name).text).concat();
    let cargos =
        ["--release", "--test", "--path", "--features", "--example", "--open", "--", "--help", "--version"];
    let is_option = |option: &str| {
        let name = option.trim_start_matches("--").replace('-', "_");
        let starts = [format!("pub {name}:"), format!(" {name}: ")];
        cargos.contains(&option) || starts.iter().any(|start| declared.contains(start))
    };
    let rooms =
        ["runtime/", "trainer/", "checkpoints/", "datasets/", "benches/", "tests/", "scripts/", "docs/"];
    let (mut faults, mut options, mut files) = (Vec::new(), 0, 0);
    for page in pages() {
        for (line, code) in page.code() {
            let words: Vec<&str> = code.split_whitespace().collect();
            for option in words.iter().filter(|word| word.starts_with("--")) {
                options += 1;
                let option = option.split('=').next().unwrap_or(option).trim_end_matches([',', '.']);
                if !is_option(option) {
                    faults.push(format!("{}:{line}: no command has the option `{option}`", page.name));
                }
            }
            for file in words.iter().filter(|word| rooms.iter().any(|room| word.starts_with(room))) {
                files += 1;
                if !repository(file).exists() {
                    faults.push(format!("{}:{line}: {file} is not there", page.name));
                }
            }
            if let Err(fault) = look_at(&code) {
                faults.push(format!("{}:{line}: `{code}`: {fault}", page.name));
            }
        }
    }
    assert!(options > 50 && files > 5, "only {options} options and {files} files were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn anchors(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("text");
    Page { name: path.display().to_string(), text }.anchors()
}

/// A runner to which every ending is right would find nothing: what goes wrong is seen.
#[test]
fn a_command_that_does_not_do_what_its_page_says_is_found() {
    let folder = studio();
    let path = path_with(IMPASTO);
    let variables = [("PATH", path.as_str())];
    let ends_by_itself = Rule { ends: Ends::Interrupted("never printed"), ..AS_IT_STANDS };
    assert!(run(folder.path(), "impasto styles list", &ends_by_itself, &variables).is_err());
    for (command, expected) in [
        ("impasto stylize photo.jpg --style wave -o a.png --strenght 1", "--strenght"),
        ("impasto stylize none.jpg --style wave -o a.png", "none.jpg: cannot read"),
    ] {
        let fault = run(folder.path(), command, &AS_IT_STANDS, &variables).expect_err("it cannot work");
        assert!(fault.contains(expected), "{fault}");
    }
}
