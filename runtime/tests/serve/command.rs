//! `impasto serve` as a command: what it prints, how it ends, what it refuses to begin.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::support::{jpeg, model, photo};

fn serve(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_impasto"));
    command.env_remove("IMPASTO_TOKEN").arg("serve").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The first line on standard output: where it is.
fn address(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("a line");
    line.trim().to_string()
}

fn failure(command: &mut Command) -> String {
    let output = command.output().expect("it ran");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(output.stdout.is_empty());
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[cfg(unix)]
#[test]
fn it_prints_where_it_is_and_ends_well_when_asked() {
    for signal in ["-INT", "-TERM"] {
        let mut child = serve(&["--listen", "0.0.0.0:0"]).spawn().expect("started");
        let address = address(&mut child);
        assert!(address.starts_with("http://127.0.0.1:") && address.contains("/?token="), "{address}");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("a signal");
        assert!(sent.success());
        assert_eq!(child.wait().expect("ended").code(), Some(0), "{signal}");
        let mut said = String::new();
        child.stderr.take().expect("stderr").read_to_string(&mut said).expect("text");
        assert!(said.contains("hint: --tls-cert"), "{said}");
    }
}

/// A second Ctrl-C does not wait for what is under way.
#[cfg(unix)]
#[test]
fn asked_twice_it_ends_at_once() {
    let mut child = serve(&["--listen", "0", "--threads", "1"]).spawn().expect("started");
    let address = address(&mut child);
    let port: u16 =
        address.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let picture = jpeg(&photo(5000, 4000));
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let head =
        format!("POST /api/stylize HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", picture.len());
    stream.write_all(&[head.as_bytes(), &picture].concat()).expect("sent");
    let interrupt = || {
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(sent.expect("a signal").success());
    };
    // Once its whole body is there, one place is taken for seconds; the metrics do not know of it before the end.
    std::thread::sleep(Duration::from_millis(500));
    interrupt();
    std::thread::sleep(Duration::from_millis(300));
    interrupt();
    assert_eq!(child.wait().expect("ended").code(), Some(130));
}

#[cfg(unix)]
#[test]
fn ones_own_model_is_offered_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.safetensors");
    model(1).save(&path).expect("saved");
    let name = model(1).metadata().name.clone();
    let mut child =
        serve(&["--listen", "0", "--model", path.to_str().expect("UTF-8")]).spawn().expect("started");
    let address = address(&mut child);
    let port = address.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port.expect("a port"))).expect("connected");
    let request = b"GET /api/styles HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("sent");
    let answer = super::support::Answer::read(&mut stream);
    let styles: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(styles[0]["name"], name);
    assert_eq!(styles.as_array().map(Vec::len), Some(1 + impasto_checkpoints::shipped::names().count()));
    let ended = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("a signal");
    assert!(ended.success() && child.wait().expect("ended").success());
}

#[test]
fn what_cannot_begin_says_why_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for (args, expected) in [
        (&["--listen", port.as_str()][..], "cannot listen on 127.0.0.1"),
        (&["--listen", "0", "--token", "short"], "expected 16 to 256"),
        (&["--listen", "0", "--allow-host", "a b"], "no host name"),
        (&["--listen", "0", "--style", "nobody"], "expected one of"),
        (&["--listen", "0", "--model", "missing.safetensors"], "missing.safetensors"),
        (&["--listen", "0", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "--tls-cert a.pem"),
    ] {
        let error = failure(&mut serve(args));
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    let error = failure(serve(&["--listen", "0"]).env("IMPASTO_TOKEN", "short"));
    assert!(error.contains("expected 16 to 256"), "{error}");
}
