//! Fetching one file over HTTP: resumed where it broke off, checked by its SHA-256.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{StatusCode, header};

use super::find::Progress;
use super::{MAX_FILE_BYTES, hex};

/// Connections in a row that may bring nothing new before the download is given up.
const FRUITLESS_TRIES: usize = 3;

/// What is known of the file's SHA-256.
pub(super) struct Expected<'a> {
    /// Its first digits.
    pub(super) digits: &'a str,
    /// All of it, if it was seen before.
    pub(super) recorded: Option<String>,
}

impl Expected<'_> {
    fn check(&self, digest: &str) -> Result<(), String> {
        let expected = match &self.recorded {
            _ if !digest.starts_with(self.digits) => format!("{}… as its name says", self.digits),
            Some(recorded) if recorded != digest => {
                format!("{recorded} as recorded when it was first downloaded")
            }
            _ => return Ok(()),
        };
        Err(format!("its SHA-256 is {digest}, expected {expected}"))
    }
}

/// Downloads `url` into the file `part`, which may hold its beginning already, and returns the bytes when they
/// have the expected digest. On a broken connection `part` stays, for the next try.
pub(super) fn fetch(
    url: &str,
    part: &Path,
    expected: &Expected<'_>,
    patience: Duration,
    progress: Progress<'_>,
) -> Result<Vec<u8>, String> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(patience))
        .timeout_connect(Some(patience))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience))
        .user_agent(concat!("impasto/", env!("CARGO_PKG_VERSION")))
        // What is hashed and resumed is the file itself, never a compressed form of it.
        .accept_encoding("identity")
        .build()
        .into();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(part)
        .map_err(|error| format!("cannot write {}: {error}", part.display()))?;
    file.try_lock().map_err(|_| format!("another process is downloading to {}", part.display()))?;

    let mut stale = file.metadata().map_err(|error| cannot(part, error))?.len() > 0;
    loop {
        until_complete(&agent, url, &mut file, part, progress)?;
        let mut bytes = Vec::new();
        file.rewind().map_err(|error| cannot(part, error))?;
        file.read_to_end(&mut bytes).map_err(|error| cannot(part, error))?;
        match expected.check(&hex(&Sha256::digest(&bytes))) {
            Ok(()) => return Ok(bytes),
            Err(reason) => {
                file.set_len(0).map_err(|error| cannot(part, error))?;
                // A beginning left by an earlier run may be of another file: once more, from the start.
                if !std::mem::take(&mut stale) {
                    drop(file);
                    let _ = fs::remove_file(part);
                    return Err(format!("{url}: {reason}"));
                }
            }
        }
    }
}

/// Connects until the whole file is there, as long as every few connections bring something new.
fn until_complete(
    agent: &Agent,
    url: &str,
    file: &mut File,
    part: &Path,
    progress: Progress<'_>,
) -> Result<(), String> {
    let mut longest = file.metadata().map_err(|error| cannot(part, error))?.len();
    let mut fruitless = 0;
    loop {
        let reason = match one_connection(agent, url, file, part, progress) {
            Ok(()) => return Ok(()),
            Err(Broken::Final(reason)) => return Err(format!("{url}: {reason}")),
            Err(Broken::Connection(reason)) => reason,
        };
        let length = file.metadata().map_err(|error| cannot(part, error))?.len();
        fruitless = if length > longest { 0 } else { fruitless + 1 };
        longest = longest.max(length);
        if fruitless == FRUITLESS_TRIES {
            return Err(format!("{url}: {reason} ({FRUITLESS_TRIES} times in a row)"));
        }
    }
}

/// Why a connection did not bring the rest of the file.
enum Broken {
    /// Another try may help.
    Connection(String),
    /// It will not.
    Final(String),
}

fn one_connection(
    agent: &Agent,
    url: &str,
    file: &mut File,
    part: &Path,
    progress: Progress<'_>,
) -> Result<(), Broken> {
    let disk = |error| Broken::Final(cannot(part, error));
    let have = file.metadata().map_err(disk)?.len();
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
    }
    let mut response = request.call().map_err(|error| match error {
        ureq::Error::BadUri(_) | ureq::Error::TooManyRedirects | ureq::Error::RedirectFailed => {
            Broken::Final(error.to_string())
        }
        other => Broken::Connection(other.to_string()),
    })?;

    let (start, total) = match response.status() {
        StatusCode::OK => (0, response.body().content_length()),
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
            match range.and_then(parse_content_range) {
                Some((start, total)) if start == have => (start, total),
                _ => {
                    // An answer to another question: from the start, without asking for a range.
                    file.set_len(0).map_err(disk)?;
                    return Err(Broken::Connection(
                        "the server sent another part than was asked for".to_string(),
                    ));
                }
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            // Nothing lies behind the part: it is whole, which its digest will tell, or of another file.
            let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
            if range.and_then(|text| text.strip_prefix("bytes */")?.parse().ok()) == Some(have) {
                return Ok(());
            }
            file.set_len(0).map_err(disk)?;
            return Err(Broken::Connection("the server does not know the part that is there".to_string()));
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Broken::Connection(format!("the server answered {status}")));
        }
        status => return Err(Broken::Final(format!("the server answered {status}"))),
    };
    if total.is_some_and(|total| total > MAX_FILE_BYTES) {
        return Err(Broken::Final(format!("larger than {} MiB, expected weights", MAX_FILE_BYTES >> 20)));
    }

    file.set_len(start).map_err(disk)?;
    file.seek(SeekFrom::Start(start)).map_err(disk)?;
    let mut body =
        response.body_mut().with_config().limit(MAX_FILE_BYTES - start.min(MAX_FILE_BYTES)).reader();
    let mut done = start;
    let mut buffer = vec![0; 1 << 16];
    progress(done, total);
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Err(Broken::Connection(format!("broken off after {done} bytes: {error}"))),
        };
        file.write_all(&buffer[..count]).map_err(disk)?;
        done += count as u64;
        progress(done, total);
    }
    match total {
        Some(total) if done < total => {
            Err(Broken::Connection(format!("broken off after {done} of {total} bytes")))
        }
        _ => file.sync_all().map_err(disk),
    }
}

/// `bytes 100-199/1000` → `(100, Some(1000))`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, total.parse().ok()))
}

fn cannot(part: &Path, error: std::io::Error) -> String {
    format!("cannot write {}: {error}", part.display())
}
