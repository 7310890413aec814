//! README and docs/: every command runs, every link leads somewhere, every example file is what it says.
//!
//! Commands stand in blocks marked `sh`. They run in a scratch folder that holds what the pages speak of, as they
//! stand, except for those that the table [`RULES`] names. Commands of `impasto-train` are run by
//! `trainer/tests/docs.rs`; Rust snippets are doctests of the package `impasto-tests`.

#![cfg(unix)] // the commands are a Unix shell's

#[path = "docs/markdown.rs"]
mod markdown;
#[path = "docs/shell.rs"]
mod shell;
#[path = "docs/studio.rs"]
mod studio;

use std::fs;
use std::path::Path;
use std::process::Command;

use markdown::{Page, page, pages, repository};
use shell::{AS_IT_STANDS, Ends, Rule, at, rule, run, without_comment};
use studio::{add_videos, is_there, studio};

/// A rule with nothing added or replaced.
const fn not_run(begins: &'static str, why: &'static str) -> Rule {
    Rule { begins, replace: &[], add: "", ends: Ends::NotRun(why) }
}

const fn add(begins: &'static str, add: &'static str) -> Rule {
    Rule { begins, replace: &[], add, ends: Ends::Well }
}

const fn replace(begins: &'static str, replace: &'static [(&'static str, &'static str)]) -> Rule {
    Rule { begins, replace, add: "", ends: Ends::Well }
}

/// A command that runs until Ctrl-C, pressed when it has printed `sign`.
const fn until(begins: &'static str, sign: &'static str) -> Rule {
    Rule { begins, replace: &[], add: "", ends: Ends::Interrupted(sign) }
}

/// What cannot run as it stands. The first rule that fits a command counts; one that fits none fails the test.
const RULES: &[Rule] = &[
    // Checked instead: that the package has the features, the example and the script are there.
    not_run("cargo install", "it would install"),
    not_run("cargo run --release -p impasto-trainer --", "trainer/tests/docs.rs runs it"),
    not_run("scripts/test", "this test is part of it"),
    not_run("scripts/gpu-kit", "it builds for CUDA"),
    not_run("apt install", "it would install"),
    not_run("ls /dev/video", "a camera"),
    not_run("tensorboard", "a Python package that shows what trainer/tests looks at"),
    not_run("curl -LO http://images.cocodataset.org", "18 GB"),
    not_run("unzip -q train2017.zip", "18 GB"),
    // What only Ctrl-C ends.
    until(
        "impasto stylize photo.jpg --model my.safetensors -o painted.png --watch",
        "watching my.safetensors",
    ),
    Rule {
        begins: "impasto serve --listen 0.0.0.0:7878",
        replace: &[("0.0.0.0:7878", "0.0.0.0:0")],
        add: "",
        ends: Ends::Interrupted("Ctrl-C ends it"),
    },
    Rule {
        begins: "impasto serve",
        replace: &[],
        add: "--listen 0",
        ends: Ends::Interrupted("Ctrl-C ends it"),
    },
    // No camera, no screen.
    replace("impasto webcam --style wave --source camera:1", &[("camera:1", "test --no-window --frames 3")]),
    add("impasto webcam --style wave --source clip.mp4", "--no-window --frames 3"),
    replace("impasto webcam --style wave --source test --no-window", &[("--frames 100", "--frames 3")]),
    add("impasto webcam --style wave --source test", "--no-window --frames 3"),
    add("impasto webcam", "--source test --no-window --frames 3"),
    // Minutes, and weights to download.
    replace("impasto gatys", &[("--size 384 --steps 120", "--size 48 --steps 2 --loss-net random-vgg16")]),
    add("impasto dream", "--size 48 --octaves 1 --iterations 1 --loss-net random-vgg16"),
    // It reads photos, painting and the style's losses, and then lacks what would be downloaded.
    Rule {
        begins: "impasto compare",
        replace: &[],
        add: "--offline --size 32 --steps 1",
        ends: Ends::Failing("no weights for vgg19"),
    },
    // Fewer frames, and smaller ones, say as much.
    add("impasto bench --profile", "--frames 2"),
    add("impasto bench --width 32", "--frames 2"),
    add("impasto bench --size 160x120", ""),
    add("impasto bench", "--frames 2"),
    replace("impasto video holiday.mp4 --model my.safetensors", &[("--size 640", "--size 96")]),
    // Enlarging the small photo to that size would take seconds.
    replace(
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

/// The folder with this build's `impasto` before the others on the PATH.
fn path_with_impasto() -> String {
    let folder = Path::new(env!("CARGO_BIN_EXE_impasto")).parent().expect("a folder");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn every_command_does_what_its_page_says() {
    let template = studio();
    let ffmpeg = is_there("ffmpeg", "-version");
    let curl = !cfg!(feature = "serve") || is_there("curl", "--version");
    if ffmpeg {
        add_videos(template.path());
    }
    #[cfg(feature = "serve")]
    add_certificate(template.path());
    let (mut faults, mut used, mut ran) = (Vec::new(), vec![false; RULES.len()], 0);
    for page in pages() {
        let folder = tempfile::tempdir().expect("a folder");
        copy(template.path(), folder.path());
        let path = path_with_impasto();
        let cache = folder.path().join("cache").display().to_string();
        let variables = [("PATH", path.as_str()), ("XDG_CACHE_HOME", &cache), ("NO_COLOR", "1")];
        let mut server = None;
        for command in page.commands() {
            let ours = command.text.replacen("cargo run --release -- ", "impasto ", 1);
            let bare = without_variables(&ours);
            if bare.starts_with("impasto-train") {
                continue;
            }
            let rule = rule(RULES, bare).map_or(&AS_IT_STANDS, |(place, rule)| {
                used[place] = true;
                rule
            });
            if let Ends::NotRun(why) = rule.ends {
                assert!(!why.is_empty());
                if let Err(fault) = look_at(bare) {
                    faults.push(at(&page, &command, &fault));
                }
                continue;
            }
            let needs_ffmpeg =
                ["impasto video", "impasto webcam", "scripts/gallery"].iter().any(|b| bare.starts_with(b));
            if !is_in_this_build(bare) || (needs_ffmpeg && !ffmpeg) || (bare.starts_with("curl") && !curl) {
                continue;
            }
            let mut text = ours.clone();
            if bare.starts_with("curl") {
                let address =
                    server.get_or_insert_with(|| Running::start(folder.path(), &path)).address.clone();
                text = text.replace("localhost:7878", &address);
            }
            if let Some(script) = bare.split_whitespace().next().filter(|word| word.contains('/')) {
                text = text.replacen(script, &repository().join(script).display().to_string(), 1);
            }
            ran += 1;
            if let Err(fault) = run(folder.path(), &text, rule, &variables) {
                faults.push(at(&page, &command, &fault));
            }
        }
    }
    assert!(ran > 20, "only {ran} commands were found");
    for (rule, used) in RULES.iter().zip(used) {
        if !used {
            faults.push(format!("RULES: no command begins with `{}`", rule.begins));
        }
    }
    assert!(faults.is_empty(), "{} of {ran} commands:\n\n{}\n", faults.len(), faults.join("\n\n"));
}

/// What can be seen of a command that is not run: that its package has the features it names, that its script or
/// example is there.
fn look_at(command: &str) -> Result<(), String> {
    let words: Vec<&str> = without_comment(command).split_whitespace().collect();
    let behind =
        |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied();
    if words.starts_with(&["cargo", "install"]) && words.len() > 2 {
        let package = behind("--path").ok_or("no --path")?;
        let manifest = repository().join(package).join("Cargo.toml");
        let manifest =
            fs::read_to_string(&manifest).map_err(|error| format!("{package}/Cargo.toml: {error}"))?;
        for feature in behind("--features").into_iter().flat_map(|features| features.split(',')) {
            if !manifest.lines().any(|line| line.starts_with(&format!("{feature} = ["))) {
                return Err(format!("{package} has no feature `{feature}`"));
            }
        }
    }
    if let Some(example) = behind("--example") {
        let package = behind("-p").ok_or("no -p")?.replace("impasto-", "");
        let folder = repository().join(package).join("examples");
        if !folder.join(format!("{example}.rs")).is_file() && !folder.join(example).join("main.rs").is_file()
        {
            return Err(format!("there is no example `{example}`"));
        }
    }
    if let Some(script) = words.first().filter(|word| word.starts_with("scripts/"))
        && !repository().join(script).is_file()
    {
        return Err(format!("{script} is not there"));
    }
    Ok(())
}

/// A command without the variables set before it.
fn without_variables(command: &str) -> &str {
    let mut rest = command;
    while let Some((word, behind)) = rest.split_once(' ') {
        let Some((name, _)) = word.split_once('=') else { break };
        if !name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            break;
        }
        rest = behind.trim_start();
    }
    rest
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("made");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
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
    fn start(folder: &Path, path: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_impasto"))
            .args(["--quiet", "serve", "--listen", "0"])
            .current_dir(folder)
            .env("PATH", path)
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
    if !is_there("python3", "--version") {
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
        let folder = repository().join(&page.name);
        let folder = folder.parent().expect("a folder");
        for link in page.links() {
            links += 1;
            if link.target.contains("://") {
                continue;
            }
            let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
            let path = if file.is_empty() { repository().join(&page.name) } else { folder.join(file) };
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
                if !repository().join(file).exists() {
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

/// The reader of pages sees what a person sees: a wrong one would find nothing, and nothing would fail.
#[test]
fn pages_are_read_as_they_are_meant() {
    let text = "# A `b` (c)\n## A b c\n[one](x.md#y) and ![two](z.png) `[no](t)`\n```sh\n# a comment\nls \\\n  -l  # all\n\
                impasto a | b\n```\n```rust\nlet x = 1;\n```\n";
    let page = Page { name: "a.md".to_owned(), text: text.to_owned() };
    let commands: Vec<_> = page.commands().into_iter().map(|command| (command.line, command.text)).collect();
    assert_eq!(commands, [(6, "ls -l  # all".to_owned()), (8, "impasto a | b".to_owned())]);
    assert_eq!(without_comment("ls -l  # all"), "ls -l");
    assert_eq!(without_variables("A=1 B_C=x.y ls a=b"), "ls a=b");
    let links: Vec<_> = page.links().into_iter().map(|link| (link.line, link.target)).collect();
    assert_eq!(links, [(3, "x.md#y".to_owned()), (3, "z.png".to_owned())]);
    assert_eq!(page.anchors(), ["a-b-c", "a-b-c-1"]);
    assert_eq!(page.blocks()[1].language, "rust");
    assert!(look_at("cargo install --path runtime --features webcam,serve").is_ok());
    assert!(look_at("cargo install --path runtime --features webcam,serv").is_err());
    assert!(look_at("scripts/nothing").is_err());
    assert!(look_at("cargo run --release -p impasto-benches --example smooth").is_ok());
    assert!(look_at("cargo run --release -p impasto-benches --example smoot").is_err());
    // What goes wrong is seen.
    let folder = studio();
    let path = path_with_impasto();
    let variables = [("PATH", path.as_str())];
    let ends_by_itself = Rule { ends: Ends::Interrupted("never printed"), ..AS_IT_STANDS };
    assert!(run(folder.path(), "impasto styles list", &ends_by_itself, &variables).is_err());
    let fails_otherwise = Rule { ends: Ends::Failing("another reason"), ..AS_IT_STANDS };
    assert!(
        run(folder.path(), "impasto styles show none.safetensors", &fails_otherwise, &variables).is_err()
    );
    for (command, expected) in [
        ("impasto stylize photo.jpg --style wave -o a.png --strenght 1", "--strenght"),
        ("impasto stylize none.jpg --style wave -o a.png", "none.jpg: cannot read"),
    ] {
        let fault = run(folder.path(), command, &AS_IT_STANDS, &variables).expect_err("it cannot work");
        assert!(fault.contains(expected), "{fault}");
    }
}
