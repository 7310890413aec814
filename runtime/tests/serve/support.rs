//! What the server's tests share: a server on a free port, a plain HTTP client, a live client, pictures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use impasto::checkpoints::{Architecture, StyleModel};
use impasto::picture::{DecodeOptions, EncodeOptions, Format, Picture};
use impasto::serve::{ServeConfig, Server, Stopper, Style};
use impasto::{Frame, Precision, StylizerOptions};
use serde_json::Value;
use tungstenite::client::ClientRequestBuilder;
use tungstenite::{Message, WebSocket};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The smallest network with every kind of layer.
pub fn model(seed: u64) -> StyleModel {
    let mut architecture = Architecture::johnson(1).expect("an architecture");
    architecture.layers = "c9s1-2,d3,R3,u2,c9s1-3".parse().expect("layers");
    (architecture.output.scale, architecture.output.offset) = (100.0, 127.0);
    StyleModel::random(architecture, seed).expect("a model")
}

pub fn painter() -> StylizerOptions {
    StylizerOptions { precision: Precision::F32, threads: Some(1), ..StylizerOptions::default() }
}

/// Two random styles, `one` and `other`, on a free port of loopback.
pub fn config() -> ServeConfig {
    let style = |name: &str, seed| Style { name: name.to_string(), model: model(seed) };
    let mut config = ServeConfig::with_styles(vec![style("one", 1), style("other", 2)]);
    config.listen = "127.0.0.1:0".parse().expect("an address");
    config.painter = painter();
    config
}

/// A running server; stopped when dropped.
pub struct Running {
    pub address: SocketAddr,
    pub token: Option<String>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

pub fn start(config: ServeConfig) -> Running {
    let server = Server::bind(config).expect("a server");
    let (address, token) = (server.address(), server.token().map(str::to_string));
    let stopper = server.stopper();
    let thread = std::thread::spawn(move || server.run());
    Running { address, token, stopper, thread: Some(thread) }
}

impl Running {
    pub fn new() -> Self {
        start(config())
    }

    /// Tells it to stop; gives the time it took.
    pub fn stop(&mut self) -> Duration {
        let begun = Instant::now();
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the server ended well");
            }
        }
        begun.elapsed()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.address.port())).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.request("POST", path, &[], body)
    }

    /// A request with further headers; `Host` is loopback's unless given.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(&self.head(method, path, headers, body.len())).expect("sent");
        // A refused body need not be taken to its end.
        let _ = stream.write_all(body);
        Answer::read(&mut stream)
    }

    pub fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> Vec<u8> {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: localhost:{}\r\n", self.address.port());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    /// A number from `/metrics`; 0 when it is not there yet.
    pub fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").body).expect("text");
        let value =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_string));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// Waits until a metric has at least a value.
    pub fn wait_for(&self, name: &str, at_least: f64) {
        let begun = Instant::now();
        while self.metric(name) < at_least {
            assert!(begun.elapsed() < PATIENCE, "{name} is {}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A live client that has had its greeting.
    pub fn live(&self) -> Live {
        let mut live = self.live_with(&[]).expect("a handshake");
        let hello = live.text();
        assert_eq!(hello["type"], "hello", "{hello}");
        live
    }

    pub fn live_with(&self, headers: &[(&str, &str)]) -> Result<Live, String> {
        let uri = format!("ws://localhost:{}/live", self.address.port());
        let mut request = ClientRequestBuilder::new(uri.parse().expect("an address"));
        for (name, value) in headers {
            request = request.with_header(*name, *value);
        }
        match tungstenite::client(request, self.connect()) {
            Ok((socket, _)) => Ok(Live { socket }),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        // A connection that is reset after the answer has given the answer.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_ascii_lowercase(), body: bytes[end..].to_vec() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn picture(&self) -> Picture {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        Picture::from_bytes(&self.body, "the answer", &DecodeOptions::default()).expect("a picture")
    }

    /// Checks that it is a refusal with this status, in JSON with both its parts; gives the error.
    pub fn refusal(&self, status: u16) -> String {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{text}");
        let json: Value = serde_json::from_slice(&self.body).expect("JSON");
        assert!(json["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{json}");
        json["error"].as_str().expect("an error").to_string()
    }
}

/// A live client.
pub struct Live {
    pub socket: WebSocket<TcpStream>,
}

/// A painting that came back.
#[derive(Debug)]
pub struct Painting {
    pub id: u32,
    pub waited: Duration,
    pub painted: Duration,
    pub frame: Frame,
}

impl Live {
    pub fn send(&mut self, id: u32, picture: &[u8]) {
        let frame = [&id.to_le_bytes()[..], picture].concat();
        self.socket.send(Message::binary(frame)).expect("sent");
    }

    pub fn set(&mut self, settings: Value) {
        self.socket.send(Message::text(settings.to_string())).expect("sent");
    }

    /// The next message that is neither ping nor pong.
    pub fn next(&mut self) -> Result<Message, tungstenite::Error> {
        loop {
            match self.socket.read()? {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return Ok(message),
            }
        }
    }

    pub fn text(&mut self) -> Value {
        match self.next().expect("a message") {
            Message::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("expected text: {other:?}"),
        }
    }

    pub fn painting(&mut self) -> Painting {
        match self.next().expect("a message") {
            Message::Binary(bytes) => Painting::new(&bytes),
            other => panic!("expected a painting: {other:?}"),
        }
    }

    pub fn paint(&mut self, id: u32, picture: &[u8]) -> Painting {
        self.send(id, picture);
        let painting = self.painting();
        assert_eq!(painting.id, id);
        painting
    }

    /// Reads until the server closes; gives code and reason, or `None` when it just went.
    pub fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => {
                    return frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()));
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("not closed in time")
                }
                Err(_) => return None,
            }
        }
    }
}

impl Painting {
    pub fn new(bytes: &[u8]) -> Self {
        let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let micros = |at| Duration::from_micros(u64::from(field(at)));
        let picture = Picture::from_bytes(&bytes[12..], "the painting", &DecodeOptions::default());
        let frame = picture.expect("a picture").frame;
        Painting { id: field(0), waited: micros(4), painted: micros(8), frame }
    }
}

/// Soft waves of colour: a picture that JPEG keeps well.
pub fn photo(width: usize, height: usize) -> Frame {
    let wave = |x: usize, y: usize, channel: usize| {
        let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
        127.0 + 100.0 * (6.0 * x + 4.0 * y * (channel + 1) as f32 + channel as f32).sin()
    };
    let rgb = (0..width * height * 3).map(|at| wave(at / 3 % width, at / 3 / width, at % 3) as u8);
    Frame::new(width, height, rgb.collect()).expect("a frame")
}

pub fn png(frame: &Frame) -> Vec<u8> {
    Picture::from(frame.clone()).encode(Format::Png, &EncodeOptions::default()).expect("a PNG")
}

pub fn jpeg(frame: &Frame) -> Vec<u8> {
    Picture::from(frame.clone()).encode(Format::Jpeg, &EncodeOptions::default()).expect("a JPEG")
}

/// Noise, whose JPEG is as large as a JPEG gets.
pub fn noise(side: usize) -> Frame {
    let mut state = 1u32;
    let rgb = (0..side * side * 3).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    Frame::new(side, side, rgb.collect()).expect("a frame")
}

/// The head of a PNG that declares a size, and nothing after it.
pub fn png_head(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(&photo(2, 2));
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    // The chunk's checksum: CRC-32 over its type and data.
    let mut crc = !0u32;
    for byte in &bytes[12..29] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

/// Mean absolute difference, in levels.
pub fn difference(a: &Frame, b: &Frame) -> f64 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let sum: u64 = a.rgb().iter().zip(b.rgb()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.rgb().len() as f64
}
