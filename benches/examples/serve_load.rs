//! The server under load: many live clients for minutes, with callers who misbehave among them.
//!
//!     cargo build --release -p impasto --features serve
//!     cargo run --release -p impasto-benches --example serve_load -- target/release/impasto [CLIENTS [SECONDS]]
//!
//! Each client sends a 320×240 frame, waits for its painting, and sends the next. Beside them: a reader that does
//! not read, clients that vanish in the middle of a frame, garbage, a declared gigabyte, a PNG of 60,000×60,000, a
//! foreign Origin, a head that never ends. Reported: paintings a second, latency, each client's share, the server's
//! memory over time, and whatever went wrong. The exit code is 1 when something did.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use impasto::Frame;
use impasto::picture::{EncodeOptions, Format, Picture};
use tungstenite::client::ClientRequestBuilder;
use tungstenite::{Message, WebSocket};

const SIZE: (usize, usize) = (320, 240);
/// Before anything is counted: styles are opened, buffers grow.
const WARM_UP: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

struct Load {
    port: u16,
    done: AtomicBool,
    counting: AtomicBool,
    errors: Mutex<Vec<String>>,
    abuses: [AtomicU64; ABUSES.len()],
}

type Abuse = fn(&Load) -> Result<(), String>;

/// Each is repeated for as long as the load lasts, and says so when the server did not do what it should.
const ABUSES: [(&str, Abuse); 8] = [
    ("a reader that does not read", deaf),
    ("vanishing in the middle of a frame", vanish),
    ("vanishing with a frame under way", vanish_painting),
    ("garbage frames", garbage),
    ("a declared gigabyte", gigabyte),
    ("a PNG of 60,000×60,000", bomb),
    ("a foreign Origin", foreign),
    ("a head that never ends", endless_head),
];

fn main() {
    let mut args = std::env::args().skip(1);
    let program = args.next().expect("the impasto program, built with --features serve");
    let clients = args.next().map_or(50, |text| text.parse().expect("a number of clients"));
    let seconds = args.next().map_or(120, |text| text.parse().expect("a number of seconds"));
    let (mut server, port) = start(&program, clients);
    let load = Load {
        port,
        done: AtomicBool::new(false),
        counting: AtomicBool::new(false),
        errors: Mutex::default(),
        abuses: Default::default(),
    };
    let (latencies, memory) = std::thread::scope(|scope| {
        let load = &load;
        let clients: Vec<_> = (0..clients).map(|number| scope.spawn(move || client(load, number))).collect();
        for (at, (name, abuse)) in ABUSES.iter().enumerate() {
            scope.spawn(move || {
                while !load.done.load(Ordering::Relaxed) {
                    match abuse(load) {
                        Ok(()) => _ = load.abuses[at].fetch_add(1, Ordering::Relaxed),
                        Err(error) => load.error(format!("{name}: {error}")),
                    }
                    std::thread::sleep(Duration::from_millis(250));
                }
            });
        }
        std::thread::sleep(WARM_UP);
        load.counting.store(true, Ordering::Relaxed);
        let mut memory = Vec::new();
        for _ in 0..seconds {
            std::thread::sleep(Duration::from_secs(1));
            memory.push(resident_mb(server.id()));
        }
        load.counting.store(false, Ordering::Relaxed);
        load.done.store(true, Ordering::Relaxed);
        let latencies: Vec<Vec<f64>> =
            clients.into_iter().map(|client| client.join().expect("a client's thread")).collect();
        (latencies, memory)
    });
    let metrics = request(port, "GET /metrics", "", b"").expect("metrics");
    let ended = stop(&mut server);
    report(&load, &latencies, &memory, seconds as f64, &metrics, ended);
}

fn start(program: &str, clients: usize) -> (Child, u16) {
    let most = (clients + 16).to_string();
    let mut server = Command::new(program)
        .args(["--quiet", "serve", "--listen", "127.0.0.1:0", "--max-clients", &most])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server started");
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("its address");
    let port = line.trim().trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    (server, port.expect("a port"))
}

/// Asks it to end; how long that took, when it ended well.
fn stop(server: &mut Child) -> Option<Duration> {
    let begun = Instant::now();
    let asked = Command::new("kill").args(["-INT", &server.id().to_string()]).status();
    if !asked.is_ok_and(|status| status.success()) {
        let _ = server.kill(); // it may be gone already
    }
    let ended = server.wait().ok()?;
    ended.success().then(|| begun.elapsed())
}

impl Load {
    fn error(&self, error: String) {
        self.errors.lock().expect("a list").push(error);
    }

    fn live(&self) -> Result<WebSocket<TcpStream>, String> {
        let uri = format!("ws://localhost:{}/live", self.port).parse().map_err(|error| format!("{error}"))?;
        let (mut socket, _) = tungstenite::client(ClientRequestBuilder::new(uri), self.connect()?)
            .map_err(|error| error.to_string())?;
        match socket.read() {
            Ok(Message::Text(text)) if text.contains("hello") => Ok(socket),
            other => Err(format!("expected a greeting: {other:?}")),
        }
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|error| error.to_string())?;
        for set in [stream.set_read_timeout(Some(PATIENCE)), stream.set_nodelay(true)] {
            set.map_err(|error| error.to_string())?;
        }
        Ok(stream)
    }
}

/// Sends frames, one at a time; the milliseconds of each while the load counted.
fn client(load: &Load, number: usize) -> Vec<f64> {
    let frames: Vec<Vec<u8>> = (0..4).map(|frame| jpeg(number * 7 + frame * 3)).collect();
    let mut latencies = Vec::new();
    let mut live = match load.live() {
        Ok(live) => live,
        Err(error) => {
            load.error(format!("client {number}: {error}"));
            return latencies;
        }
    };
    let mut id = 0u32;
    while !load.done.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let frame = [&id.to_le_bytes()[..], &frames[id as usize % frames.len()]].concat();
        let answer = live.send(Message::binary(frame)).and_then(|()| {
            loop {
                match live.read()? {
                    Message::Ping(_) | Message::Pong(_) => {}
                    message => return Ok(message),
                }
            }
        });
        match answer {
            Ok(Message::Binary(bytes)) if bytes.len() > 1000 && bytes[..4] == id.to_le_bytes() => {
                if load.counting.load(Ordering::Relaxed) {
                    latencies.push(sent.elapsed().as_secs_f64() * 1e3);
                }
            }
            other => {
                load.error(format!("client {number}: {other:?}"));
                return latencies;
            }
        }
        id += 1;
    }
    latencies
}

/// A picture of soft waves, each number another.
fn jpeg(number: usize) -> Vec<u8> {
    let (width, height) = SIZE;
    let rgb = (0..width * height * 3).map(|at| {
        let (x, y, channel) = (at / 3 % width, at / 3 / width, at % 3);
        let phase = (x + number) as f32 * 0.07 + y as f32 * 0.05 * (channel + 1) as f32;
        (127.0 + 90.0 * phase.sin() + ((x * 31 + y * 17 + number) % 23) as f32) as u8
    });
    let picture = Picture::from(Frame::new(width, height, rgb.collect()).expect("a frame"));
    picture.encode(Format::Jpeg, &EncodeOptions { quality: 85 }).expect("a JPEG")
}

/// Sends frames and reads nothing, until the server lets go of it or the load is over.
fn deaf(load: &Load) -> Result<(), String> {
    let mut live = load.live()?;
    let _ = live.get_mut().set_write_timeout(Some(Duration::from_secs(2))); // or it waits for ever
    let frame = [&[0; 4][..], &jpeg(0)].concat();
    while !load.done.load(Ordering::Relaxed) {
        match live.send(Message::binary(frame.clone())) {
            Ok(()) => std::thread::sleep(Duration::from_millis(20)),
            Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    Ok(())
}

fn vanish(load: &Load) -> Result<(), String> {
    let mut live = load.live()?;
    // A frame of 60,000 bytes is announced, 500 come.
    let head = [&[0x82, 0xfe][..], &60_000u16.to_be_bytes(), &[0; 4], &[9; 500]].concat();
    live.get_mut().write_all(&head).map_err(|error| error.to_string())
}

fn vanish_painting(load: &Load) -> Result<(), String> {
    let mut live = load.live()?;
    live.send(Message::binary([&[0; 4][..], &jpeg(1)].concat())).map_err(|error| error.to_string())
}

fn garbage(load: &Load) -> Result<(), String> {
    let mut live = load.live()?;
    for number in 0..100u32 {
        let frame = [&[0; 4][..], &number.to_be_bytes().repeat(500)].concat();
        let _ = live.send(Message::binary(frame)); // what matters is what comes back
        match live.read() {
            Ok(Message::Text(text)) if text.contains("\"type\":\"error\"") => {}
            Ok(Message::Close(Some(frame))) if u16::from(frame.code) == 1008 => return Ok(()),
            other => return Err(format!("{other:?}")),
        }
    }
    Err("borne for 100 frames".to_string())
}

fn gigabyte(load: &Load) -> Result<(), String> {
    let begun = Instant::now();
    let answer = request(load.port, "POST /api/stylize", "Content-Length: 1073741824\r\n", &[7; 30_000])?;
    if begun.elapsed() > Duration::from_secs(10) {
        return Err(format!("refused after {:?}", begun.elapsed()));
    }
    expect(&answer, "413")
}

fn bomb(load: &Load) -> Result<(), String> {
    // Signature and first chunk: 60,000×60,000, 8 bits, RGB.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend([60_000u32.to_be_bytes(), 60_000u32.to_be_bytes()].concat());
    png.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    let head = format!("Content-Length: {}\r\n", png.len());
    expect(&request(load.port, "POST /api/stylize", &head, &png)?, "413")?;
    let mut live = load.live()?;
    live.send(Message::binary([&[0; 4][..], &png].concat())).map_err(|error| error.to_string())?;
    match live.read() {
        Ok(Message::Text(text)) if text.contains("megapixels") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn foreign(load: &Load) -> Result<(), String> {
    let origin = "Origin: http://evil.example\r\n";
    expect(
        &request(load.port, "POST /api/stylize", &format!("{origin}Content-Length: 3\r\n"), b"abc")?,
        "403",
    )?;
    let uri = format!("ws://localhost:{}/live", load.port).parse().map_err(|error| format!("{error}"))?;
    let handshake = ClientRequestBuilder::new(uri).with_header("Origin", "http://evil.example");
    match tungstenite::client(handshake, load.connect()?) {
        Err(error) if error.to_string().contains("403") => Ok(()),
        other => Err(format!("{:?}", other.map(|_| "a handshake"))),
    }
}

/// A byte a second; the server has to hang up.
fn endless_head(load: &Load) -> Result<(), String> {
    let mut stream = load.connect()?;
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1))); // the pause between bytes
    let begun = Instant::now();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "); // read below
    while !load.done.load(Ordering::Relaxed) {
        let _ = stream.write_all(b"x");
        match stream.read(&mut [0; 64]) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Ok(()),
            _ if begun.elapsed() > Duration::from_secs(60) => return Err("waited for".to_string()),
            _ => {}
        }
    }
    Ok(())
}

fn request(port: u16, what: &str, headers: &str, body: &[u8]) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let head = format!("{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    // The head alone first: what is refused for it need not read on.
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer); // reset after the answer is an answer
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn expect(answer: &str, status: &str) -> Result<(), String> {
    if answer.split(' ').nth(1) == Some(status) {
        Ok(())
    } else {
        Err(format!("expected {status}: {answer}"))
    }
}

/// Resident memory of a process in MB (Linux).
fn resident_mb(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kilobytes.map_or(f64::NAN, |kilobytes: f64| kilobytes / 1e3)
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted
        .get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

fn report(
    load: &Load,
    latencies: &[Vec<f64>],
    memory: &[f64],
    seconds: f64,
    metrics: &str,
    ended: Option<Duration>,
) {
    let mut all: Vec<f64> = latencies.concat();
    all.sort_by(f64::total_cmp);
    let fair = all.len() as f64 / latencies.len() as f64;
    let shares: Vec<f64> = latencies.iter().map(|own| own.len() as f64 / fair).collect();
    let (least, most) = shares.iter().fold((f64::MAX, 0f64), |(low, high), &s| (low.min(s), high.max(s)));
    println!("{} clients, {seconds} s, frames of {}×{}", latencies.len(), SIZE.0, SIZE.1);
    println!("paintings      {} ({:.1} a second)", all.len(), all.len() as f64 / seconds);
    println!(
        "latency, ms    p50 {:.0}, p90 {:.0}, p99 {:.0}, most {:.0}",
        percentile(&all, 0.5),
        percentile(&all, 0.9),
        percentile(&all, 0.99),
        percentile(&all, 1.0)
    );
    println!("share          {least:.3} to {most:.3} of the fair one ({fair:.1} paintings)");
    let every = (memory.len() / 12).max(1);
    let over_time: Vec<String> = memory.iter().step_by(every).map(|mb| format!("{mb:.0}")).collect();
    println!("memory, MB     {} (every {every} s)", over_time.join(" "));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let quarter = (memory.len() / 4).max(1);
    let (first, last) = (mean(&memory[..quarter]), mean(&memory[memory.len() - quarter..]));
    println!("               first quarter {first:.1}, last quarter {last:.1}");
    for ((name, _), times) in ABUSES.iter().zip(&load.abuses) {
        println!("{:>6} times   {name}", times.load(Ordering::Relaxed));
    }
    println!("the server's own count:");
    for line in
        metrics.lines().filter(|line| line.contains("refused_total{") || line.contains("painted_total{"))
    {
        println!("  {line}");
    }
    match ended {
        Some(took) => println!("ended well {:.1} s after Ctrl-C", took.as_secs_f64()),
        None => load.error("the server did not end well".to_string()),
    }
    if least < 0.9 || most > 1.1 {
        load.error("a client's share is more than 10 % off".to_string());
    }
    if last > first * 1.1 + 5.0 {
        load.error("memory grew".to_string());
    }
    let errors = load.errors.lock().expect("a list");
    println!("errors         {}", errors.len());
    for error in errors.iter().take(20) {
        println!("  {error}");
    }
    std::process::exit(i32::from(!errors.is_empty()));
}
