//! How much each caller may ask for, in bytes, pixels, time and number.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::support::{Answer, Running, config, jpeg, noise, photo, png, png_head, start};

#[test]
fn a_declared_gigabyte_is_refused_before_it_comes() {
    let server = Running::new();
    let begun = Instant::now();
    let mut stream = server.connect();
    stream.write_all(&server.head("POST", "/api/stylize", &[], 1 << 30)).expect("sent");
    let error = Answer::read(&mut stream).refusal(413);
    assert!(error.contains("1073.7 MB") && error.contains("32.0 MB"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(server.post("/api/stylize", &png(&photo(9, 9))).status, 200);
}

/// Programs send all of a picture before they read: an answer that comes sooner must not be lost to a reset.
#[test]
fn who_is_refused_early_can_send_on_and_then_reads_why() {
    let mut config = config();
    config.limits.body_bytes = 4 << 20;
    let server = start(config);
    for (method, path, megabytes, status) in [
        ("POST", "/api/stylize?style=nobody", 4, 404),
        ("POST", "/api/stylize?strength=2", 4, 400),
        ("POST", "/api/stylize", 24, 413),
        ("PUT", "/api/stylize", 4, 405),
        ("POST", "/api", 4, 404),
    ] {
        let picture = vec![7; megabytes << 20];
        let mut stream = server.connect();
        stream.write_all(&server.head(method, path, &[], picture.len())).expect("sent");
        // A moment, for the answer to be on its way.
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(&picture).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        Answer::read(&mut &answer[..]).refusal(status);
    }
}

#[test]
fn an_undeclared_body_is_cut_off_at_the_limit() {
    let mut config = config();
    config.limits.body_bytes = 100_000;
    let server = start(config);
    let mut stream = server.connect();
    let head = "POST /api/stylize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let chunk = [&b"4000\r\n"[..], &[7; 0x4000], b"\r\n"].concat();
    // Endless, were it not refused: sending fails, or the answer is there.
    for _ in 0..2000 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    assert!(server.metric("impasto_refused_total{reason=\"too_large\"}") >= 1.0);
    // A little over the limit: the answer can be read.
    server.post("/api/stylize", &[0; 100_001]).refusal(413);
}

#[test]
fn pixels_are_counted_before_they_are_made() {
    let server = Running::new();
    let bomb = png_head(60_000, 60_000);
    let begun = Instant::now();
    let error = server.post("/api/stylize", &bomb).refusal(413);
    assert!(error.contains("3600.0 megapixels"), "{error}");
    let small = png(&photo(100, 100));
    for query in ["size=60000", "size=6000&stroke_scale=4", "size=3000&stroke_scale=2"] {
        let error = server.post(&format!("/api/stylize?{query}"), &small).refusal(413);
        assert!(error.contains("megapixels"), "{query}: {error}");
    }
    let mut live = server.live();
    live.send(3, &bomb);
    let told = live.text();
    assert_eq!((&told["type"], &told["id"]), (&"error".into(), &3.into()));
    assert!(told["error"].as_str().is_some_and(|error| error.contains("3600.0 megapixels")), "{told}");
    live.send(4, &jpeg(&photo(1200, 900)));
    assert!(live.text()["error"].as_str().is_some_and(|error| error.contains("1.1 megapixels")));
    live.paint(5, &jpeg(&photo(120, 90)));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Reads to the end; the time until then.
fn time_to_close(mut stream: impl Read) -> Duration {
    let begun = Instant::now();
    let _ = stream.read_to_end(&mut Vec::new());
    begun.elapsed()
}

#[test]
fn slow_senders_are_not_waited_for() {
    let mut config = config();
    config.limits.header_time = Duration::from_millis(400);
    config.limits.body_time = Duration::from_millis(400);
    let server = start(config);
    let most = Duration::from_secs(20);

    let silent = server.connect();
    assert!(time_to_close(silent) < most);
    let mut dripping = server.connect();
    dripping.write_all(b"GET / HTTP/1.1\r\nHost: loc").expect("sent");
    assert!(time_to_close(dripping) < most);
    // Kept open after an answer, and then silent.
    let mut kept = server.connect();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    assert!(time_to_close(kept) < most);
    // A head, and a body that does not come.
    let mut stalled = server.connect();
    stalled.write_all(&server.head("POST", "/api/stylize", &[], 1000)).expect("sent");
    Answer::read(&mut stalled).refusal(408);
    server.wait_for("impasto_refused_total{reason=\"slow_body\"}", 1.0);
}

#[test]
fn what_arrives_slowly_but_arrives_is_waited_for() {
    let mut config = config();
    config.limits.body_time = Duration::from_secs(2);
    config.limits.body_rate = 50;
    let server = start(config);
    let picture = png(&photo(32, 24));
    let (first, rest) = picture.split_at(picture.len() / 2);
    assert!(first.len() > 500, "{} bytes give too little time", first.len());
    let mut slow = server.connect();
    slow.write_all(&server.head("POST", "/api/stylize", &[], picture.len())).expect("sent");
    slow.write_all(first).expect("sent");
    std::thread::sleep(Duration::from_secs(3));
    slow.write_all(rest).expect("sent");
    assert_eq!(Answer::read(&mut slow).status, 200);
}

#[test]
fn a_painting_has_its_time() {
    let mut config = config();
    config.limits.paint_time = Duration::from_millis(1);
    let server = start(config);
    let answer = server.post("/api/stylize?format=jpeg", &jpeg(&photo(2000, 1500)));
    answer.refusal(503);
    assert_eq!(answer.header("retry-after"), Some("5"));
}

#[test]
fn places_for_pictures_are_given_back() {
    let mut config = config();
    config.limits.pictures = 2;
    let server = start(config);
    let picture = png(&photo(12, 12));
    // Asked for when the body is read, and so with the place taken.
    const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let hold = || {
        let mut stream = server.connect();
        let head = server.head("POST", "/api/stylize", &[("Expect", "100-continue")], picture.len());
        stream.write_all(&head).expect("sent");
        let mut told = [0; GO_ON.len()];
        stream.read_exact(&mut told).expect("an answer");
        assert_eq!(told, GO_ON);
        stream
    };
    let held = [hold(), hold()];
    let refused = server.post("/api/stylize", &picture);
    refused.refusal(503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    for mut stream in held {
        stream.write_all(&picture).expect("sent");
        assert_eq!(Answer::read(&mut stream).status, 200);
    }
    // Callers who leave in the middle give theirs back too.
    drop([hold(), hold()]);
    let begun = Instant::now();
    while server.post("/api/stylize", &picture).status != 200 {
        assert!(begun.elapsed() < super::support::PATIENCE, "the places were not given back");
    }
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let mut config = config();
    config.limits.connections = 3;
    let server = start(config);
    let held: Vec<_> = (0..3).map(|_| server.connect()).collect();
    let begun = Instant::now();
    // Accepted one after the other: the fourth is the one too many.
    assert!(time_to_close(server.connect()) < Duration::from_secs(10));
    drop(held);
    while server.get("/healthz").status != 200 {
        assert!(begun.elapsed() < super::support::PATIENCE, "the places were not given back");
    }
}

/// A connection that has become a WebSocket is one still.
#[test]
fn live_clients_count_as_connections() {
    let mut config = config();
    config.limits.connections = 3;
    let server = start(config);
    let mut held = [server.live(), server.live(), server.live()];
    for live in &mut held {
        live.paint(1, &png(&photo(12, 12)));
    }
    assert!(time_to_close(server.connect()) < Duration::from_secs(10));
    let begun = Instant::now();
    drop(held);
    while server.get("/healthz").status != 200 {
        assert!(begun.elapsed() < super::support::PATIENCE, "the places were not given back");
    }
}

/// A caller with a painting on its way, more of it than the system's buffers hold, that reads none of it.
fn unread(server: &Running) -> std::net::TcpStream {
    let picture = png(&noise(1400));
    let mut stream = server.connect();
    stream
        .write_all(&server.head("POST", "/api/stylize?strength=0&size=2400&format=png", &[], picture.len()))
        .expect("sent");
    stream.write_all(&picture).expect("sent");
    server.wait_for("impasto_painted_total{kind=\"picture\"}", 1.0);
    stream
}

/// A reader that takes nothing does not hold a painting, and its connection, for ever.
#[test]
fn an_answer_that_nobody_reads_is_given_up() {
    let mut config = config();
    config.limits.send_time = Duration::from_millis(400);
    let server = start(config);
    let stream = unread(&server);
    let begun = Instant::now();
    while server.metric("impasto_connections") > 1.0 {
        assert!(begun.elapsed() < super::support::PATIENCE, "still connected");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(stream);
}

/// A painting that is being sent keeps its caller's place: who takes nothing cannot have ever more of them made.
#[test]
fn a_painting_on_its_way_keeps_its_place() {
    let mut config = config();
    config.limits.pictures = 1;
    config.limits.send_time = Duration::from_secs(600);
    let server = start(config);
    let mut stream = unread(&server);
    let small = png(&photo(12, 12));
    for _ in 0..3 {
        server.post("/api/stylize", &small).refusal(503);
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = Answer::read(&mut stream);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    let begun = Instant::now();
    while server.post("/api/stylize", &small).status != 200 {
        assert!(begun.elapsed() < super::support::PATIENCE, "the place was not given back");
    }
}
