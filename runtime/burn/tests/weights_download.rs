//! Finding loss-network weights: a file, the cache folder, a download from a server on the loopback that also
//! truncates, corrupts, stalls and redirects.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![cfg(feature = "download")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use impasto_burn::BurnError;
use impasto_burn::loss_network::weights::{FindOptions, Remote, find};
use impasto_burn::loss_network::{LossNetworkKind, LossWeights};
use sha2::{Digest, Sha256};

const KIND: LossNetworkKind = LossNetworkKind::Vgg16;

/// The first two convolutions of VGG16 as a file, about 150 kB, and the name that its digest gives it.
fn weights(seed: u64) -> (Vec<u8>, String) {
    let mut weights = LossWeights::random(KIND, seed);
    weights.tensors.retain(|key, _| key.starts_with("conv1_"));
    let bytes = weights.to_safetensors().unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    (bytes, format!("vgg16-{}.pth", &digest[..8]))
}

/// What the server does with one connection; the last is repeated.
#[derive(Clone, Copy)]
enum Act {
    /// The whole file, or the part asked for.
    Serve,
    /// As `Serve`, but closes after that many bytes of the body.
    Truncate(usize),
    /// As `Truncate`, but keeps the connection open and silent.
    Stall(usize),
    /// One byte in the middle is another.
    Corrupt,
    /// 302 to `/moved/FILE`.
    Redirect,
    /// 302 to itself.
    Loop,
    /// The whole file with 200, whatever was asked for.
    IgnoreRange,
    /// A part that begins elsewhere.
    WrongRange,
    /// 404.
    NotFound,
    /// 503.
    Busy,
}

/// For each request its path and the start of its range.
type Requests = Mutex<Vec<(String, Option<usize>)>>;

struct Server {
    remote: Remote,
    requests: Arc<Requests>,
}

impl Server {
    fn start(bytes: Vec<u8>, file_name: &str, acts: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Requests> = Arc::default();
        let (seen, acts) = (requests.clone(), acts.to_vec());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for (number, stream) in listener.incoming().enumerate() {
                let act = acts[number.min(acts.len() - 1)];
                // A client that has gone away is not the server's trouble.
                if let Ok(Some(stream)) = answer(stream.unwrap(), act, &bytes, &seen) {
                    held.push(stream);
                }
            }
        });
        let remote =
            Remote { base_url, file_name: file_name.to_string(), patience: Duration::from_millis(700) };
        Server { remote, requests }
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.requests.lock().unwrap().iter().map(|(_, range)| *range).collect()
    }

    fn find(&self, cache: &Path) -> Result<LossWeights, BurnError> {
        find(
            KIND,
            FindOptions {
                cache_dir: Some(cache.to_path_buf()),
                remote: Some(self.remote.clone()),
                ..FindOptions::default()
            },
        )
    }
}

/// Answers one request; a connection to be kept open comes back.
fn answer(
    mut stream: TcpStream,
    act: Act,
    bytes: &[u8],
    seen: &Requests,
) -> std::io::Result<Option<TcpStream>> {
    let mut path = String::new();
    let mut range = None;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("GET ") {
            path = rest.split(' ').next().unwrap_or_default().to_string();
        }
        if let Some(("range", value)) = line.to_lowercase().split_once(": ") {
            range = value.strip_prefix("bytes=").and_then(|v| v.strip_suffix('-')?.parse().ok());
        }
    }
    seen.lock().unwrap().push((path.clone(), range));
    let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n");
    let simple = |status: &str| head(status, "Content-Length: 0\r\n");
    let ranged = |start: usize, named: usize| {
        head(
            "206 Partial Content",
            &format!(
                "Content-Length: {}\r\nContent-Range: bytes {named}-{}/{}\r\n",
                bytes.len() - start,
                bytes.len() - 1,
                bytes.len()
            ),
        )
    };
    let whole = head("200 OK", &format!("Content-Length: {}\r\n", bytes.len()));
    let (head, body) = match (act, range) {
        (Act::NotFound, _) => (simple("404 Not Found"), Vec::new()),
        (Act::Busy, _) => (simple("503 Service Unavailable"), Vec::new()),
        (Act::Loop, _) => {
            (head("302 Found", &format!("Location: {path}\r\nContent-Length: 0\r\n")), Vec::new())
        }
        (Act::Redirect, _) => {
            (head("302 Found", &format!("Location: /moved{path}\r\nContent-Length: 0\r\n")), Vec::new())
        }
        (Act::WrongRange, Some(start)) => (ranged(start, start + 1), bytes[start..].to_vec()),
        (Act::IgnoreRange, _) | (_, None) => (whole, bytes.to_vec()),
        (_, Some(start)) if start >= bytes.len() => {
            let more = format!("Content-Range: bytes */{}\r\nContent-Length: 0\r\n", bytes.len());
            (head("416 Range Not Satisfiable", &more), Vec::new())
        }
        (_, Some(start)) => (ranged(start, start), bytes[start..].to_vec()),
    };
    stream.write_all(head.as_bytes())?;
    match act {
        Act::Truncate(count) => stream.write_all(&body[..count.min(body.len())])?,
        Act::Stall(count) => {
            stream.write_all(&body[..count.min(body.len())])?;
            return Ok(Some(stream));
        }
        Act::Corrupt => {
            let mut body = body;
            let middle = body.len() / 2;
            body[middle] ^= 1;
            stream.write_all(&body)?;
        }
        _ => stream.write_all(&body)?,
    }
    Ok(None)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_download_is_trimmed_cached_and_used_again() {
    let (bytes, name) = weights(1);
    let server = Server::start(bytes.clone(), &name, &[Act::Serve]);
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("not/yet/there");
    let mut told = Vec::new();
    let mut progress = |done: u64, total: Option<u64>| told.push((done, total));
    let options = FindOptions {
        cache_dir: Some(folder.clone()),
        remote: Some(server.remote.clone()),
        progress: Some(&mut progress),
        ..FindOptions::default()
    };
    let first = find(KIND, options).unwrap();
    assert_eq!(first.tensors, LossWeights::from_bytes(&bytes, "").unwrap().tensors);
    let size = bytes.len() as u64;
    assert_eq!(told.first(), Some(&(0, Some(size))));
    assert_eq!(told.last(), Some(&(size, Some(size))));
    let stem = name.strip_suffix(".pth").unwrap();
    assert_eq!(names(&folder), [format!("{stem}.safetensors"), format!("{stem}.sha256")]);

    let offline = FindOptions {
        cache_dir: Some(folder),
        offline: true,
        remote: Some(server.remote.clone()),
        ..FindOptions::default()
    };
    assert_eq!(find(KIND, offline).unwrap(), first);
    assert_eq!(server.ranges(), [None]);
}

#[test]
fn broken_and_silent_connections_are_resumed() {
    let (bytes, name) = weights(1);
    let acts = [Act::Truncate(10_000), Act::Stall(20_000), Act::Busy, Act::Truncate(1), Act::Serve];
    let server = Server::start(bytes, &name, &acts);
    let cache = tempfile::tempdir().unwrap();
    server.find(cache.path()).unwrap();
    assert_eq!(server.ranges(), [None, Some(10_000), Some(30_000), Some(30_000), Some(30_001)]);
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let (bytes, name) = weights(1);
    let cache = tempfile::tempdir().unwrap();
    let part = cache.path().join(format!("{name}.part"));
    std::fs::write(&part, &bytes[..50_000]).unwrap();
    let server = Server::start(bytes.clone(), &name, &[Act::Serve]);
    server.find(cache.path()).unwrap();
    assert_eq!(server.ranges(), [Some(50_000)]);
    assert!(!part.exists());

    // The part is the whole file already.
    let cache = tempfile::tempdir().unwrap();
    std::fs::write(cache.path().join(format!("{name}.part")), &bytes).unwrap();
    server.find(cache.path()).unwrap();
    assert_eq!(server.ranges(), [Some(50_000), Some(bytes.len())]);
}

#[test]
fn a_part_of_another_file_is_thrown_away() {
    let (bytes, name) = weights(1);
    for part in [vec![7; 50_000], vec![7; bytes.len()], vec![7; bytes.len() + 5]] {
        let cache = tempfile::tempdir().unwrap();
        std::fs::write(cache.path().join(format!("{name}.part")), part).unwrap();
        let server = Server::start(bytes.clone(), &name, &[Act::Serve]);
        server.find(cache.path()).unwrap();
        assert_eq!(server.ranges().last(), Some(&None), "from the start in the end");
    }
}

#[test]
fn a_server_that_knows_no_ranges_or_sends_others_is_fine() {
    let (bytes, name) = weights(1);
    for act in [Act::IgnoreRange, Act::WrongRange] {
        let cache = tempfile::tempdir().unwrap();
        let server = Server::start(bytes.clone(), &name, &[Act::Truncate(10_000), act]);
        server.find(cache.path()).unwrap();
        assert_eq!(server.ranges()[..2], [None, Some(10_000)]);
    }
}

#[test]
fn redirects_are_followed_also_when_resuming() {
    let (bytes, name) = weights(1);
    let acts = [Act::Redirect, Act::Truncate(10_000), Act::Redirect, Act::Serve];
    let server = Server::start(bytes, &name, &acts);
    let cache = tempfile::tempdir().unwrap();
    server.find(cache.path()).unwrap();
    assert_eq!(server.ranges(), [None, None, Some(10_000), Some(10_000)]);
    assert!(server.requests.lock().unwrap()[3].0.starts_with("/moved/"));
}

/// Each failure: one line with the address, the reason and the three ways out; nothing cached.
fn fails(acts: &[Act], bytes: Vec<u8>, name: &str, reason: &str) -> Vec<String> {
    let server = Server::start(bytes, name, acts);
    let cache = tempfile::tempdir().unwrap();
    let error = server.find(cache.path()).unwrap_err();
    assert!(matches!(error, BurnError::NoLossWeights { .. }), "{error}");
    let error = error.to_string();
    let folder = cache.path().display().to_string();
    for part in [reason, &server.remote.url(), "--loss-weights FILE", &folder, "--loss-net random-vgg16"] {
        assert!(error.contains(part), "`{part}` in: {error}");
    }
    assert!(!error.contains('\n'), "{error}");
    names(cache.path())
}

#[test]
fn failures_are_one_line_and_leave_no_weights() {
    let (bytes, name) = weights(1);
    assert!(fails(&[Act::Corrupt], bytes.clone(), &name, "SHA-256").is_empty());
    assert_eq!(fails(&[Act::Truncate(5), Act::Truncate(0)], bytes.clone(), &name, "broken off").len(), 1);
    fails(&[Act::Stall(0)], bytes.clone(), &name, "3 times in a row");
    fails(&[Act::NotFound], bytes.clone(), &name, "404");
    fails(&[Act::Busy], bytes.clone(), &name, "503");
    fails(&[Act::Loop], bytes.clone(), &name, "redirect");
    // The right digest, but not a loss network, or another one.
    let named = |bytes: &[u8]| {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("vgg16-{}.pth", &digest[..8])
    };
    let page = b"<html>sign in</html>".to_vec();
    fails(&[Act::Serve], page.clone(), &named(&page), "safetensors");
    let mut other = LossWeights::random(LossNetworkKind::SqueezeNet, 1);
    other.tensors.retain(|key, _| key.starts_with("conv1."));
    let other = other.to_safetensors().unwrap();
    fails(&[Act::Serve], other.clone(), &named(&other), "expected vgg16");
}

#[test]
fn the_whole_digest_is_recorded_and_checked_the_next_time() {
    let (bytes, name) = weights(1);
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(bytes.clone(), &name, &[Act::Serve]);
    server.find(cache.path()).unwrap();
    let stem = name.strip_suffix(".pth").unwrap();
    let (trimmed, record) =
        (cache.path().join(format!("{stem}.safetensors")), cache.path().join(format!("{stem}.sha256")));

    // Damaged after it was cached: offline an error, else fetched anew.
    let mut damaged = std::fs::read(&trimmed).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&trimmed, &damaged).unwrap();
    let offline = FindOptions {
        cache_dir: Some(cache.path().to_path_buf()),
        offline: true,
        remote: Some(server.remote.clone()),
        ..FindOptions::default()
    };
    let error = find(KIND, offline).unwrap_err().to_string();
    assert!(error.contains("SHA-256") && error.contains("delete it"), "{error}");
    server.find(cache.path()).unwrap();
    assert_ne!(std::fs::read(&trimmed).unwrap(), damaged);
    assert_eq!(server.ranges(), [None, None]);

    // A file with the same eight digits, but not the one that was recorded.
    std::fs::remove_file(&trimmed).unwrap();
    let text = std::fs::read_to_string(&record).unwrap();
    let digest = text.split(' ').next().unwrap();
    let other = format!("{}{}", &digest[..8], "0".repeat(56));
    std::fs::write(&record, text.replace(digest, &other)).unwrap();
    let error = server.find(cache.path()).unwrap_err().to_string();
    assert!(error.contains("as recorded when it was first downloaded"), "{error}");
    assert!(!trimmed.exists());
}

#[test]
fn a_given_file_and_a_dropped_file_come_before_the_download() {
    let (bytes, name) = weights(1);
    let (other, _) = weights(2);
    let server = Server::start(bytes, &name, &[Act::Serve]);
    let cache = tempfile::tempdir().unwrap();
    std::fs::write(cache.path().join("vgg16-of-mine.pth"), &other).unwrap();
    std::fs::write(cache.path().join("vgg16-notes.txt"), "no weights").unwrap();
    let dropped = server.find(cache.path()).unwrap();
    assert_eq!(dropped.tensors, LossWeights::from_bytes(&other, "").unwrap().tensors);

    let given = cache.path().join("given.safetensors");
    std::fs::write(&given, &other).unwrap();
    let options = || FindOptions { file: Some(given.clone()), offline: true, ..FindOptions::default() };
    assert_eq!(find(KIND, options()).unwrap().origin, given.display().to_string());
    // Two convolutions could be VGG19's too; SqueezeNet's they are not.
    assert_eq!(find(LossNetworkKind::Vgg19, options()).unwrap().kind, LossNetworkKind::Vgg19);
    let error = find(LossNetworkKind::SqueezeNet, options()).unwrap_err().to_string();
    assert!(error.contains("given.safetensors: weights of vgg16, expected squeezenet"), "{error}");
    assert!(server.ranges().is_empty());
}

#[test]
fn offline_without_weights_says_the_three_ways_out() {
    let cache = tempfile::tempdir().unwrap();
    let options =
        FindOptions { cache_dir: Some(cache.path().into()), offline: true, ..FindOptions::default() };
    let error = find(KIND, options).unwrap_err().to_string();
    let folder = cache.path().display().to_string();
    for part in ["vgg16", "--offline", "--loss-weights FILE", &folder, "--loss-net random-vgg16"] {
        assert!(error.contains(part), "`{part}` in: {error}");
    }
}

#[test]
fn a_part_that_another_process_writes_is_left_alone() {
    let (bytes, name) = weights(1);
    let cache = tempfile::tempdir().unwrap();
    let part = std::fs::File::create(cache.path().join(format!("{name}.part"))).unwrap();
    part.lock().unwrap();
    let server = Server::start(bytes, &name, &[Act::Serve]);
    let error = server.find(cache.path()).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
}

#[test]
fn the_official_names_carry_eight_digits() {
    for kind in LossNetworkKind::ALL {
        let remote = Remote::official(kind);
        let digits = remote.file_name.strip_suffix(".pth").unwrap().rsplit_once('-').unwrap().1;
        assert!(digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{}", remote.url());
        assert!(remote.url().starts_with("https://download.pytorch.org/models/"), "{}", remote.url());
    }
}
