//! Bad input: one line that names the file and what was expected, exit code 1, nothing written.

use std::collections::BTreeMap;
use std::process::Command as Process;

use impasto::checkpoints::{StyleModel, Tensor};

use super::support::{Studio, failure, small_model};

/// Runs `impasto stylize` with good and bad input; afterwards no file may be there that was not before.
fn refused(studio: &Studio, args: &[&str], expected: &[&str]) {
    let before = studio.files();
    let line = failure(&mut studio.impasto(args));
    for part in expected {
        assert!(line.contains(part), "{args:?}: no `{part}` in {line}");
    }
    assert_eq!(before, studio.files(), "{args:?}");
}

fn photo_refused(studio: &Studio, name: &str, expected: &[&str]) {
    let args = ["stylize", name, "--model", "style.safetensors", "-o", "out.png"];
    refused(studio, &args, &[&[name], expected].concat());
}

fn model_refused(studio: &Studio, bytes: &[u8], expected: &[&str]) {
    studio.write("bad.safetensors", bytes);
    let args = ["stylize", "photo.png", "--model", "bad.safetensors", "-o", "out.png"];
    refused(studio, &args, &[&["bad.safetensors"], expected].concat());
    refused(studio, &["styles", "show", "bad.safetensors"], &["bad.safetensors"]);
}

#[test]
fn pictures() {
    let studio = Studio::new();
    studio.picture("whole.jpg", 64, 64);
    let whole = std::fs::read(studio.path("whole.jpg")).unwrap();
    studio.write("half.jpg", &whole[..whole.len() / 2]);
    photo_refused(&studio, "half.jpg", &["end"]);
    studio.write("text.png", b"Dear photo, I am a text.\n");
    photo_refused(&studio, "text.png", &["expected", "JPEG"]);
    studio.write("empty.png", b"");
    photo_refused(&studio, "empty.png", &["empty"]);
    photo_refused(&studio, "absent.png", &["cannot read", "No such file"]);
    // A PNG that declares 60,000 × 60,000 pixels.
    let mut bomb = std::fs::read(studio.path("photo.png")).unwrap();
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    studio.write("bomb.png", &bomb);
    photo_refused(&studio, "bomb.png", &["60000×60000", "--max-pixels"]);
    std::fs::create_dir(studio.path("nothing")).unwrap();
    photo_refused(&studio, "nothing", &["no pictures", "expected"]);
}

#[test]
fn models() {
    let studio = Studio::new();
    let good = small_model().to_bytes().unwrap();
    model_refused(&studio, b"", &["empty", "expected"]);
    model_refused(&studio, &good[..good.len() - 5], &["not a whole safetensors file"]);
    model_refused(&studio, &good[..20], &["not a whole safetensors file"]);
    model_refused(&studio, b"GIF89a and so on, no model at all", &["not a whole safetensors file"]);
    model_refused(
        &studio,
        &changed_header(&good, "\"in1.weight\"", "\"in1.weighd\""),
        &["`in1.weight`", "missing"],
    );
    model_refused(&studio, &renamed_metadata(&good), &["metadata key `impasto`"]);
    model_refused(
        &studio,
        &changed_header(&good, "\\\"format_version\\\":1", "\\\"format_version\\\":2"),
        &["newer", "update"],
    );
    model_refused(&studio, &changed_header(&good, "c9s1-2", "c9s1-4"), &["conv1.conv2d.", "expected [4"]);
    model_refused(&studio, &changed_header(&good, "\\\"padding\\\"", "\\\"paddinq\\\""), &["paddinq"]);

    let with = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        // Through the crate's own writer, which does not check: only `StyleModel::new` does.
        let mut tensors = small_model().tensors().clone();
        change(&mut tensors);
        tensors
    };
    let surplus = with(&|tensors| {
        tensors.insert("in9.weight".into(), Tensor::f32([1], vec![1.0]));
    });
    model_refused(&studio, &written(surplus), &["`in9.weight`", "unknown"]);
    let wrong_shape = with(&|tensors| {
        tensors.insert("in1.bias".into(), Tensor::f32([3], vec![0.0; 3]));
    });
    model_refused(&studio, &written(wrong_shape), &["`in1.bias`", "[3]", "expected [2]"]);
    let not_finite = with(&|tensors| {
        if let Some(tensor) = tensors.get_mut("in1.bias") {
            tensor.values[1] = f32::NAN;
        }
    });
    model_refused(&studio, &written(not_finite), &["`in1.bias`", "NaN", "finite"]);
}

#[test]
fn a_pickle_that_wants_to_run_something() {
    let studio = Studio::new();
    // c os system, ('touch ran'), call: what `pickle.dumps` writes for an object with such a __reduce__.
    studio.write("evil.pth", b"\x80\x02cos\nsystem\nq\x00X\x09\x00\x00\x00touch ranq\x01\x85q\x02Rq\x03.");
    let args = ["styles", "import", "evil.pth", "-o", "new.safetensors"];
    refused(&studio, &args, &["evil.pth", "os.system"]);
}

#[test]
fn usage_errors_have_exit_code_2_and_name_the_flag() {
    let studio = Studio::new();
    for (args, expected) in [
        (&["photo.png", "-o", "o.png", "--strength", "2"][..], "--strength"),
        (&["photo.png", "-o", "o.png", "--stroke-scale", "nan"], "--stroke-scale"),
        (&["photo.png", "-o", "o.png", "--size", "0"], "--size"),
        (&["photo.png", "-o", "o.png", "--device", "gpu"], "expected cpu, cuda"),
        (&["photo.png", "-o", "o.png", "--style", "wave"], "cannot be used with"),
        (&["photo.png"], "--output"),
    ] {
        let output = studio.stylize(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected), "{text}");
    }
    refused(
        &studio,
        &["stylize", "photo.png", "--style", "no-such", "-o", "o.png"],
        &["no-such", "shipped styles"],
    );
}

#[test]
fn outputs_that_cannot_be() {
    let studio = Studio::new();
    let stylize = |rest: &[&str], expected: &[&str]| {
        let args = [&["stylize", "--model", "style.safetensors"], rest].concat();
        refused(&studio, &args, expected);
    };
    stylize(&["photo.png", "-o", "photo.png"], &["photo.png", "exists", "--overwrite"]);
    stylize(&["photo.png", "-o", "out.xyz"], &["out.xyz", "expected", ".png"]);
    stylize(&["photo.png", "-o", "style.safetensors/out.png"], &["style.safetensors"]);
    stylize(&["photo.png", "photo.png", "-o", "-"], &["standard output"]);
    stylize(&["photo.png", "-o", "-", "--json"], &["--json"]);
    if cfg!(not(any(feature = "cuda", feature = "wgpu"))) {
        stylize(&["photo.png", "-o", "o.png", "--device", "cuda"], &["cuda", "hint"]);
    }
    // Two inputs for one output: the first is painted, the second refused.
    std::fs::create_dir(studio.path("two")).unwrap();
    studio.picture("two/a.png", 8, 8);
    std::fs::copy(studio.path("two/a.png"), studio.path("two/a.bmp")).unwrap();
    let output = studio.stylize(&["two", "-o", "out"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("goes to already"));
}

/// As a user who is not root, a file without permissions is one line too.
#[cfg(unix)]
#[test]
fn an_unreadable_file() {
    use std::os::unix::fs::PermissionsExt;
    let studio = Studio::new();
    std::fs::set_permissions(studio.path("photo.png"), PermissionsExt::from_mode(0o000)).unwrap();
    std::fs::set_permissions(studio.path(""), PermissionsExt::from_mode(0o777)).unwrap();
    if std::fs::read(studio.path("photo.png")).is_err() {
        photo_refused(&studio, "photo.png", &["cannot read", "Permission denied"]);
        return;
    }
    // Root reads everything, so the command runs as nobody, from a copy that nobody can reach.
    let command = studio.path("impasto");
    std::fs::copy(env!("CARGO_BIN_EXE_impasto"), &command).unwrap();
    let output = Process::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&command)
        .args(["stylize", "photo.png", "--model", "style.safetensors", "-o", "out.png"])
        .current_dir(studio.path(""))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("photo.png: cannot read: Permission denied"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!studio.path("out.png").exists());
}

/// A full disk: the old file stays, nothing half is left. Needs root, to mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let studio = Studio::new();
    let disk = studio.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = Process::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&disk).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skipped: full disk: mounting a tmpfs needs root");
        return;
    }
    studio.picture("large.png", 300, 300);
    std::fs::write(disk.join("old.png"), b"old").unwrap();
    let line = failure(&mut studio.stylize(&["large.png", "-o", "disk/new.png"]));
    let again = failure(&mut studio.stylize(&["large.png", "-o", "disk/old.png", "--overwrite"]));
    let names: Vec<_> = std::fs::read_dir(&disk).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let old = std::fs::read(disk.join("old.png"));
    Process::new("umount").arg(&disk).status().unwrap();
    assert!(line.contains("disk/new.png") && line.contains("No space left"), "{line}");
    assert!(again.contains("disk/old.png"), "{again}");
    assert_eq!(names, ["old.png"]);
    assert_eq!(old.unwrap(), b"old");
}

/// A file with these tensors and the small model's papers, whether they fit each other or not.
fn written(tensors: BTreeMap<String, Tensor>) -> Vec<u8> {
    let json = small_model().metadata().to_json().expect("papers");
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({ "impasto": json }));
    let mut data = Vec::new();
    for (key, tensor) in tensors {
        let start = data.len();
        data.extend(tensor.values.iter().flat_map(|value| value.to_le_bytes()));
        let entry =
            serde_json::json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, data.len()] });
        header.insert(key, entry);
    }
    let header = serde_json::to_vec(&header).expect("a header");
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// The file with a text of its header exchanged for another of the same length.
fn changed_header(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).expect(from);
    let mut changed = bytes.to_vec();
    changed[at..at + to.len()].copy_from_slice(to.as_bytes());
    assert!(StyleModel::from_bytes(&changed).is_err());
    changed
}

fn renamed_metadata(bytes: &[u8]) -> Vec<u8> {
    changed_header(bytes, "\"impasto\"", "\"impastO\"")
}

/// CRC-32 as PNG wants it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[cfg(not(feature = "webcam"))]
#[test]
fn a_command_of_another_build_says_how_to_get_it() {
    let output = Studio::new().impasto(&["webcam", "--source", "test"]).output().expect("it ran");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("--features webcam") && text.lines().count() == 1, "{text}");
}
