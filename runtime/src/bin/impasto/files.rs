//! Files: the inputs and OUT on the command line become (input, output) pairs, which are read and written here.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use impasto::checkpoints::temporary_beside;
use impasto::picture::{DecodeOptions, EncodeOptions, Format, Picture, READABLE_FORMATS};

use crate::interrupt;

/// Extensions of the pictures that a folder is searched for.
const READABLE: &[&str] = if cfg!(feature = "heic") {
    &["jpg", "jpeg", "png", "webp", "heic", "heif", "hif", "bmp", "tif", "tiff", "gif"]
} else {
    &["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"]
};
/// Those of them that phones make, with losses.
const PHONES: &[&str] = &["heic", "heif", "hif"];
/// Those of them that are also written.
const WRITABLE: &[&str] = &["jpg", "jpeg", "png", "webp", "tif", "tiff"];
/// Pictures that folders hold too and that are not read: of phones, cameras and editors.
const UNREADABLE: &[&str] = &[
    "heic", "heif", "hif", "avif", "jxl", "jp2", "dng", "cr2", "cr3", "nef", "arw", "orf", "raf", "rw2",
    "psd",
];

/// Where a picture comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    Stdin,
}

/// Where a painting goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    File(PathBuf),
    Stdout,
}

impl Source {
    /// Reads and decodes the picture.
    pub fn read(&self, decode: &DecodeOptions) -> Result<Picture> {
        Ok(match self {
            Source::File(path) => Picture::open(path, decode)?,
            Source::Stdin => Picture::read(std::io::stdin().lock(), "standard input", decode)?,
        })
    }
}

impl Target {
    /// As [`refuse_existing`]; standard output is never in the way.
    pub fn refuse_existing(&self, overwrite: bool) -> Result<()> {
        match self {
            Target::File(path) => refuse_existing(path, overwrite),
            Target::Stdout => Ok(()),
        }
    }

    /// Finds out before the work whether a picture of this size can be written, in `format` or the one that the file's
    /// name asks for.
    pub fn prepare(&self, size: (usize, usize), format: Option<Format>) -> Result<()> {
        let (format, name) = match self {
            Target::Stdout => (format.unwrap_or(Format::Png), "standard output".to_owned()),
            Target::File(path) => {
                (format.map_or_else(|| Format::from_path(path), Ok)?, path.display().to_string())
            }
        };
        format.check_size(size.0, size.1, &name)?;
        self.check_writable()
    }

    /// Whether a file can be made there: asked before long work, not after it. Folders on the way are made when it is
    /// written; what counts is the last of them that is there.
    pub fn check_writable(&self) -> Result<()> {
        let Target::File(path) = self else { return Ok(()) };
        let mut beside = path.as_path();
        while let Some(folder) = beside.parent()
            && !folder.as_os_str().is_empty()
            && folder.symlink_metadata().is_err()
        {
            beside = folder;
        }
        // Where a temporary file can be made, the result can be put; it is gone at once.
        let _guard = interrupt::writing();
        temporary_beside(beside, ".part").with_context(|| format!("{}: cannot write", path.display()))?;
        Ok(())
    }

    /// Writes a picture, in `format` or the one that the file's name asks for (PNG on standard output). Folders on
    /// the way are made; Ctrl-C waits for the file.
    pub fn write(&self, picture: &Picture, format: Option<Format>, encode: &EncodeOptions) -> Result<()> {
        match self {
            Target::Stdout => {
                let bytes = picture.encode(format.unwrap_or(Format::Png), encode)?;
                let mut out = std::io::stdout().lock();
                out.write_all(&bytes).and_then(|()| out.flush()).context("standard output: cannot write")?;
            }
            Target::File(path) => {
                let format = match format {
                    Some(format) => format,
                    None => Format::from_path(path)?,
                };
                make_folder_of(path)?;
                let _guard = interrupt::writing();
                picture.save_as(path, format, encode)?;
            }
        }
        Ok(())
    }
}

fn make_folder_of(path: &Path) -> Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot make the folder", folder.display())),
        None => Ok(()),
    }
}

/// Refuses to replace what is there already, unless told to. A link that points nowhere counts as a file.
pub fn refuse_existing(path: &Path, overwrite: bool) -> Result<()> {
    if !overwrite && path.symlink_metadata().is_ok() {
        bail!("{}: exists already; hint: --overwrite replaces it", path.display());
    }
    Ok(())
}

/// One picture to paint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub source: Source,
    pub target: Target,
}

impl Pair {
    /// The input as the user would name it.
    pub fn input_name(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::Stdin => "standard input".into(),
        }
    }

    /// Whether the painting takes its picture's place.
    pub fn is_in_place(&self) -> bool {
        let (Source::File(source), Target::File(target)) = (&self.source, &self.target) else { return false };
        matches!((fs::canonicalize(source), fs::canonicalize(target)), (Ok(source), Ok(target)) if source == target)
    }

    /// The output as the user would name it.
    pub fn output_name(&self) -> String {
        match &self.target {
            Target::File(path) => path.display().to_string(),
            Target::Stdout => "standard output".into(),
        }
    }
}

/// The pairs, the inputs that could not be looked at, and the pictures in folders whose formats are not read.
#[derive(Debug, Default)]
pub struct Plan {
    pub pairs: Vec<Pair>,
    pub failed: Vec<(String, anyhow::Error)>,
    pub left_out: Vec<PathBuf>,
}

impl Plan {
    /// What a person wants to know of the pictures left out, if there are any.
    pub fn left_out_in_words(&self) -> Option<String> {
        let mut counts = BTreeMap::new();
        for extension in self.left_out.iter().filter_map(|path| extension_of(path)) {
            *counts.entry(extension).or_insert(0) += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(extension, count)| format!("{count} {extension}")).collect();
        (!counts.is_empty()).then(|| {
            format!(
                "pictures left out: {}; expected {READABLE_FORMATS}; hint: save them as JPEG or PNG",
                counts.join(", ")
            )
        })
    }
}

/// Pairs inputs with outputs.
///
/// One file goes to OUT, or into OUT if that is a folder (or is written with a slash at its end). Several inputs
/// and folders go into the folder OUT, a folder's tree kept. `extension` forces the outputs' format.
pub fn plan(inputs: &[PathBuf], output: &Path, extension: Option<&str>) -> Result<Plan> {
    let is_dash = |path: &Path| path == Path::new("-");
    let one_file = matches!(inputs, [input] if !input.is_dir());
    if is_dash(output) {
        if !one_file {
            bail!("-o -: standard output takes one picture; give one input, or a folder for OUT");
        }
        let source = if is_dash(&inputs[0]) { Source::Stdin } else { Source::File(inputs[0].clone()) };
        return Ok(Plan { pairs: vec![Pair { source, target: Target::Stdout }], ..Plan::default() });
    }
    let trailing_slash = output.as_os_str().as_encoded_bytes().ends_with(b"/");
    let into_folder = !one_file || output.is_dir() || trailing_slash;
    if into_folder && output.exists() && !output.is_dir() {
        bail!("{}: is a file; several inputs or a folder need a folder for OUT", output.display());
    }
    let mut plan = Plan::default();
    for input in inputs {
        if is_dash(input) {
            let target = if into_folder {
                output.join("stdin").with_extension(extension.unwrap_or("png"))
            } else {
                output.to_path_buf()
            };
            plan.pairs.push(Pair { source: Source::Stdin, target: Target::File(target) });
        } else if input.is_dir() {
            if matches!((fs::canonicalize(input), fs::canonicalize(output)), (Ok(from), Ok(to)) if from == to)
            {
                bail!(
                    "{0}: is OUT too, and what lies in OUT is not painted; hint: another OUT, such as {1}",
                    input.display(),
                    input.join("painted").display()
                );
            }
            let found = walk(input, output, &mut plan);
            if found.is_empty() && plan.failed.is_empty() {
                match plan.left_out_in_words() {
                    Some(words) => bail!("{}: nothing to paint in this folder: {words}", input.display()),
                    None => bail!(
                        "{}: no pictures in this folder; expected {}",
                        input.display(),
                        READABLE.join(", ")
                    ),
                }
            }
            for path in found {
                let relative = path.strip_prefix(input).unwrap_or(&path);
                let target = Target::File(with_writable_extension(&output.join(relative), extension));
                plan.pairs.push(Pair { source: Source::File(path), target });
            }
        } else if into_folder {
            let name = input.file_name().with_context(|| format!("{}: is no file", input.display()))?;
            let target = Target::File(with_writable_extension(&output.join(name), extension));
            plan.pairs.push(Pair { source: Source::File(input.clone()), target });
        } else {
            let target = Target::File(output.to_path_buf());
            plan.pairs.push(Pair { source: Source::File(input.clone()), target });
        }
    }
    refuse_collisions(&mut plan);
    Ok(plan)
}

/// Pictures below `folder`, sorted, without those below `excluded` (the output, should it lie inside). Hidden files and
/// folders are passed over: they are thumbnails, trash and resource forks (`._photo.jpg`).
fn walk(folder: &Path, excluded: &Path, plan: &mut Plan) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let excluded = fs::canonicalize(excluded).ok();
    // A stack of folders, and the canonical ones seen, so that a loop of links ends.
    let mut waiting = vec![folder.to_path_buf()];
    let mut seen = std::collections::HashSet::new();
    while let Some(current) = waiting.pop() {
        if let Ok(canonical) = fs::canonicalize(&current)
            && (Some(&canonical) == excluded.as_ref() || !seen.insert(canonical))
        {
            continue;
        }
        let entries = match fs::read_dir(&current) {
            Ok(entries) => entries,
            Err(error) => {
                plan.failed.push((
                    current.display().to_string(),
                    anyhow::Error::new(error).context(format!("{}: cannot read", current.display())),
                ));
                continue;
            }
        };
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let has =
                |extensions: &[&str]| extension_of(&path).is_some_and(|ext| extensions.contains(&&*ext));
            if path.is_dir() {
                waiting.push(path);
            } else if has(READABLE) {
                // A pipe in a folder may have nobody at its other end: it would be waited for.
                if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
                    let name = path.display().to_string();
                    let reason =
                        anyhow::anyhow!("{name}: neither a file nor a folder; expected a picture file");
                    plan.failed.push((name, reason));
                } else {
                    found.push(path);
                }
            } else if has(UNREADABLE) {
                plan.left_out.push(path);
            }
        }
    }
    found.sort();
    plan.left_out.sort();
    found
}

fn extension_of(path: &Path) -> Option<String> {
    path.extension().and_then(|ext| ext.to_str()).map(str::to_ascii_lowercase)
}

/// The path with an extension that can be written: the forced one, its own, jpg for a phone's picture, or png.
fn with_writable_extension(path: &Path, forced: Option<&str>) -> PathBuf {
    match (forced, extension_of(path)) {
        (Some(forced), _) => path.with_extension(forced),
        (None, Some(own)) if WRITABLE.contains(&own.as_str()) => path.to_path_buf(),
        (None, Some(own)) if PHONES.contains(&own.as_str()) => path.with_extension("jpg"),
        _ => path.with_extension("png"),
    }
}

/// Two inputs that would be written to one output (`a.gif` and `a.png`): the second is refused, not the first
/// overwritten.
fn refuse_collisions(plan: &mut Plan) {
    let mut taken: HashMap<PathBuf, String> = HashMap::new();
    let mut kept = Vec::with_capacity(plan.pairs.len());
    for pair in plan.pairs.drain(..) {
        if let Target::File(path) = &pair.target {
            if let Some(first) = taken.get(path) {
                let reason = anyhow::anyhow!(
                    "{}: would be written to {}, which {first} goes to already",
                    pair.input_name(),
                    path.display()
                );
                plan.failed.push((pair.input_name(), reason));
                continue;
            }
            taken.insert(path.clone(), pair.input_name());
        }
        kept.push(pair);
    }
    plan.pairs = kept;
}
