//! Live painting: what comes back, and what becomes of clients who misbehave.

use std::io::Write;
use std::time::{Duration, Instant};

use impasto::paint::{PaintOptions, paint_frame};
use impasto::picture::{DecodeOptions, EncodeOptions, Format, Picture};
use impasto::{Frame, Stylizer};
use serde_json::json;
use tungstenite::Message;

use super::support::{Running, config, difference, jpeg, model, noise, painter, photo, png, start};

/// What the library paints with a style of this seed, as the JPEG that travels.
fn expected(seed: u64, frame: &Frame, options: &PaintOptions) -> Frame {
    let stylizer = Stylizer::new(&model(seed), painter()).expect("a stylizer");
    let painted = Picture::from(paint_frame(&stylizer, frame, options).expect("painted"));
    let jpeg = painted.encode(Format::Jpeg, &EncodeOptions { quality: 85 }).expect("a JPEG");
    Picture::from_bytes(&jpeg, "expected", &DecodeOptions::default()).expect("a picture").frame
}

#[test]
fn frames_come_back_painted_with_the_settings_of_their_moment() {
    let server = Running::new();
    let mut live = server.live();
    let frame = photo(96, 64);
    let bytes = png(&frame);
    let expected = |seed, options| expected(seed, &frame, &options);
    let plain = PaintOptions::default();
    let painting = live.paint(41, &bytes);
    assert_eq!(painting.frame, expected(1, plain));
    assert!(painting.painted > Duration::ZERO && painting.waited < Duration::from_secs(30));
    assert!(difference(&painting.frame, &frame) > 15.0);

    live.set(json!({ "style": "other" }));
    assert_eq!(live.paint(42, &bytes).frame, expected(2, plain));
    live.set(json!({ "stroke_scale": 0.5, "keep_colors": true }));
    let options = PaintOptions { stroke_scale: 0.5, keep_colors: true, ..plain };
    assert_eq!(live.paint(43, &bytes).frame, expected(2, options));
    live.set(json!({ "strength": 0.0 }));
    assert!(difference(&live.paint(u32::MAX, &bytes).frame, &frame) < 4.0);
}

/// Buffers go from frame to frame, whatever size, style or scale the next one has, and from client to client: nothing
/// of one is seen in another.
#[test]
fn a_frame_is_painted_as_if_it_were_the_first() {
    let server = Running::new();
    let mut clients = [server.live(), server.live(), server.live()];
    let sizes = [(96, 64), (31, 77), (150, 20), (3, 2), (64, 96)];
    let looks =
        [("one", 1, 1.0, false), ("one", 1, 0.5, true), ("other", 2, 1.7, false), ("other", 2, 1.0, true)];
    let mut id = 0;
    for round in 0..20 {
        for (at, live) in clients.iter_mut().enumerate() {
            // Each client goes through all of them at its own pace.
            let (width, height) = sizes[(round + at) % sizes.len()];
            let (style, seed, stroke_scale, keep_colors) = looks[(round / (at + 1) + at) % looks.len()];
            live.set(json!({ "style": style, "stroke_scale": stroke_scale, "keep_colors": keep_colors }));
            let frame = photo(width, height);
            let options = PaintOptions { stroke_scale, keep_colors, ..PaintOptions::default() };
            let painted = live.paint(id, &png(&frame)).frame;
            assert!(
                painted == expected(seed, &frame, &options),
                "round {round}, client {at}: {width}×{height}, {style}, {stroke_scale}"
            );
            // A frame that fails takes the buffers with it.
            if round % 7 == 3 {
                live.send(id, b"garbage");
                assert_eq!(live.text()["type"], "error");
            }
            id += 1;
        }
    }
}

#[test]
fn wrong_settings_are_told_and_change_nothing() {
    let server = Running::new();
    let mut live = server.live();
    let bytes = jpeg(&photo(48, 48));
    let before = live.paint(0, &bytes).frame;
    for (text, expected) in [
        ("{\"style\":\"nobody\"}", "no style"),
        ("{\"strength\":-1}", "strength"),
        ("{\"stroke_scale\":1e9}", "stroke_scale"),
        ("{\"path\":\"/etc/passwd\"}", "path"),
        ("[]", "settings"),
        ("not JSON", "settings"),
        ("{\"strength\":0,\"style\":\"nobody\"}", "no style"),
    ] {
        live.socket.send(Message::text(text)).expect("sent");
        let told = live.text();
        assert_eq!(told["type"], "error");
        assert!(told["error"].as_str().is_some_and(|error| error.contains(expected)), "{text}: {told}");
    }
    assert_eq!(live.paint(1, &bytes).frame, before);
}

#[test]
fn the_newest_frame_wins() {
    let server = Running::new();
    let mut live = server.live();
    let bytes = jpeg(&photo(800, 600));
    const FRAMES: u32 = 40;
    for id in 0..FRAMES {
        live.send(id, &bytes);
    }
    let mut painted = vec![live.painting().id];
    while painted.last() != Some(&(FRAMES - 1)) {
        painted.push(live.painting().id);
    }
    assert!(painted.is_sorted(), "{painted:?}");
    let replaced = server.metric("impasto_frames_replaced_total");
    assert!(replaced > 0.0, "{painted:?}");
    assert_eq!(replaced as usize + painted.len(), FRAMES as usize);
}

#[test]
fn broken_frames_are_told_and_then_not_borne_any_more() {
    let server = Running::new();
    let mut live = server.live();
    let good = jpeg(&photo(40, 30));
    for (id, bytes) in [(1, &b""[..]), (2, b"garbage"), (3, &good[..good.len() / 2]), (4, &[0xff; 5000])] {
        live.send(id, bytes);
        let told = live.text();
        assert_eq!((&told["type"], &told["id"]), (&"error".into(), &id.into()), "{told}");
    }
    live.paint(5, &good);
    for id in 0..10 {
        live.send(id, b"garbage");
        if id < 9 {
            live.text();
        }
    }
    assert_eq!(live.closed(), Some((1008, "too many broken frames".to_string())));
    server.live().paint(6, &good);
}

#[test]
fn what_is_no_frame_at_all_ends_the_conversation() {
    let server = Running::new();
    let mut live = server.live();
    live.socket.send(Message::binary(vec![1, 2])).expect("sent");
    assert_eq!(live.closed(), Some((1007, "a frame without its number".to_string())));

    // Over the limit: closed, whether or not the reason is still read.
    let mut live = server.live();
    let sent = live.socket.send(Message::binary(vec![0; 3 << 20]));
    let closed = live.closed();
    assert!(sent.is_err() || closed.is_none_or(|(code, _)| code == 1009));
    server.wait_for("impasto_refused_total{reason=\"too_large\"}", 1.0);

    // A declared gigabyte: known from the frame's head.
    let mut live = server.live();
    let head = [&[0x82, 0xff][..], &(1u64 << 30).to_be_bytes(), &[0; 4]].concat();
    live.socket.get_mut().write_all(&head).expect("sent");
    assert!(live.closed().is_none_or(|(code, _)| code == 1009));
    server.wait_for("impasto_refused_total{reason=\"too_large\"}", 2.0);
    server.live().paint(1, &jpeg(&photo(40, 30)));
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind() {
    let server = Running::new();
    let bytes = jpeg(&photo(600, 600));
    let mut other = server.live();
    for round in 0..10 {
        let mut live = server.live();
        if round % 2 == 0 {
            // In the middle of a frame.
            let head = [&[0x82, 0xfe][..], &60_000u16.to_be_bytes(), &[0; 4], &[9; 500]].concat();
            live.socket.get_mut().write_all(&head).expect("sent");
        } else {
            live.send(round, &bytes);
        }
        drop(live);
        other.paint(round, &jpeg(&photo(32, 32)));
    }
    let begun = Instant::now();
    while server.metric("impasto_live_clients") > 1.0 {
        assert!(begun.elapsed() < super::support::PATIENCE, "clients are left");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let mut config = config();
    config.limits.send_time = Duration::from_millis(400);
    let server = start(config);
    let mut deaf = server.live();
    deaf.socket.get_mut().set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let bytes = [&0u32.to_le_bytes()[..], &jpeg(&noise(700))].concat();
    let refused = "impasto_refused_total{reason=\"slow_reader\"}";
    let begun = Instant::now();
    let mut other = server.live();
    // Until the system's buffers are full of paintings.
    while server.metric(refused) < 1.0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "never let go");
        let _ = deaf.socket.send(Message::binary(bytes.clone()));
        other.paint(1, &jpeg(&photo(16, 16)));
    }
}

#[test]
fn a_client_that_shows_no_sign_of_life_is_let_go_and_a_quiet_one_is_not() {
    let mut config = config();
    config.limits.idle_time = Duration::from_millis(600);
    let server = start(config);
    let mut quiet = server.live();
    let dead = server.live();
    quiet.socket.get_mut().set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    let begun = Instant::now();
    let refused = "impasto_refused_total{reason=\"idle\"}";
    while server.metric(refused) < 1.0 || begun.elapsed() < Duration::from_secs(3) {
        assert!(begun.elapsed() < super::support::PATIENCE, "never let go");
        // Reading is what answers pings.
        let _ = quiet.socket.read();
    }
    quiet.socket.get_mut().set_read_timeout(Some(super::support::PATIENCE)).expect("a timeout");
    quiet.paint(1, &jpeg(&photo(16, 16)));
    assert_eq!(server.metric(refused), 1.0);
    drop(dead);
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut config = config();
    config.limits.clients = 1;
    let server = start(config);
    let mut first = server.live();
    let mut second = server.live_with(&[]).expect("a handshake");
    let (code, reason) = second.closed().expect("a reason");
    assert!(code == 1013 && reason.contains("busy"), "{code} {reason}");
    first.paint(1, &jpeg(&photo(16, 16)));
    drop(first);
    let begun = Instant::now();
    loop {
        let mut next = server.live_with(&[]).expect("a handshake");
        if matches!(next.next(), Ok(Message::Text(_))) {
            break;
        }
        assert!(begun.elapsed() < super::support::PATIENCE, "the place was not given back");
    }
}

#[test]
fn stopping_closes_sockets_with_a_reason() {
    let mut server = Running::new();
    let mut live = server.live();
    let mut busy = server.live();
    busy.send(1, &jpeg(&photo(900, 900)));
    let idle = server.connect();
    let closing = std::thread::spawn(move || [live.closed(), busy.closed()]);
    let took = server.stop();
    assert!(took < Duration::from_secs(6), "{took:?}");
    for closed in closing.join().expect("closed") {
        assert_eq!(closed, Some((1001, "the server is shutting down".to_string())));
    }
    drop(idle);
}
