//! The page's parts and the interface for programs.

use impasto::Stylizer;
use impasto::paint::{PaintOptions, paint};
use impasto::picture::{Format, Picture};
use serde_json::Value;

use super::support::{Running, difference, jpeg, model, painter, photo, png};

#[test]
fn every_address_answers_and_tells_browsers_to_be_careful() {
    let server = Running::new();
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/sample.jpg", "image/jpeg"),
        ("/thumbnails/one", "image/jpeg"),
        ("/thumbnails/other", "image/jpeg"),
        ("/api/styles", "application/json"),
        ("/healthz", "text/plain; charset=utf-8"),
        ("/metrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!answer.body.is_empty(), "{path}");
    }
    // One page, no outside hosts.
    for path in ["/", "/app.js", "/style.css"] {
        let text = String::from_utf8(server.get(path).body).expect("text");
        assert!(
            !text.contains("http://") && !text.contains("https://") && !text.contains("@import"),
            "{path}"
        );
    }
    let styles: Value = serde_json::from_slice(&server.get("/api/styles").body).expect("JSON");
    assert_eq!((&styles[0]["name"], &styles[1]["name"]), (&"one".into(), &"other".into()));
    let thumbnail = server.get(styles[1]["thumbnail"].as_str().expect("an address")).picture();
    assert_eq!((thumbnail.width(), thumbnail.height()), (288, 192));
}

/// What comes back is to the last bit what the library paints.
#[test]
fn a_picture_comes_back_as_the_library_paints_it() {
    let server = Running::new();
    let stylizer = Stylizer::new(&model(2), painter()).expect("a stylizer");
    let picture = Picture { alpha: Some((0..60 * 41).map(|at| at as u8).collect()), ..photo(60, 41).into() };
    let bytes = picture.encode(Format::Png, &Default::default()).expect("a PNG");
    for (query, options) in [
        ("style=other", PaintOptions::default()),
        (
            "style=other&strength=0.4&stroke_scale=1.5&keep_colors=true&size=90",
            PaintOptions {
                strength: 0.4,
                stroke_scale: 1.5,
                keep_colors: true,
                size: Some(90),
                side_by_side: false,
            },
        ),
    ] {
        let expected = paint(&stylizer, picture.clone(), &options).expect("painted");
        for format in ["png", "webp"] {
            let answer = server.post(&format!("/api/stylize?{query}&format={format}"), &bytes);
            assert_eq!(answer.header("content-type"), Some(&*format!("image/{format}")));
            assert!(answer.header("server-timing").is_some_and(|timing| timing.contains("paint;dur=")));
            assert_eq!(answer.picture(), expected, "{query}");
        }
    }
}

#[test]
fn the_format_is_the_pictures_own_unless_asked_otherwise() {
    let server = Running::new();
    let frame = photo(33, 20);
    assert_eq!(server.post("/api/stylize", &jpeg(&frame)).header("content-type"), Some("image/jpeg"));
    assert_eq!(server.post("/api/stylize", &png(&frame)).header("content-type"), Some("image/png"));
    let small = server.post("/api/stylize?format=jpeg&quality=5", &png(&frame));
    let fine = server.post("/api/stylize?format=jpg&quality=95", &png(&frame));
    assert!(small.body.len() < fine.body.len());
    // No strength: the photo itself.
    assert_eq!(server.post("/api/stylize?strength=0", &png(&frame)).picture().frame, frame);
    assert!(difference(&server.post("/api/stylize", &png(&frame)).picture().frame, &frame) > 5.0);
}

#[test]
fn mistakes_are_answered_in_json_with_a_hint() {
    let server = Running::new();
    let photo = png(&photo(20, 20));
    let whole = jpeg(&super::support::photo(64, 64));
    for (path, body, status, expected) in [
        ("/api/stylize?style=nobody", &photo[..], 404, "no style `nobody`"),
        ("/api/stylize?style=../../etc/passwd", &photo, 404, "no style `../../etc/passwd`"),
        ("/api/stylize?strength=1.5", &photo, 400, "strength: `1.5`"),
        ("/api/stylize?streng=1", &photo, 400, "unknown parameter `streng`"),
        ("/api/stylize?style=one&size=9&style=other", &photo, 400, "`style` is there twice"),
        ("/api/stylize?format=tiff", &photo, 400, "format: `tiff`"),
        ("/api/stylize?%ff=%zz", &photo, 400, "unknown parameter"),
        ("/api/stylize", b"", 415, "empty"),
        ("/api/stylize", b"GIF89a", 415, "the picture"),
        ("/api/stylize", b"hello", 415, "not a picture"),
        ("/api/stylize", &photo[..photo.len() / 2], 415, "the picture"),
        ("/api/stylize", &whole[..whole.len() - 40], 415, "truncated JPEG"),
        ("/", b"", 405, "another method"),
        ("/nothing", b"", 404, "nothing is here"),
    ] {
        let error = server.post(path, body).refusal(status);
        assert!(error.contains(expected) && error.lines().count() == 1, "{path}: {error}");
    }
    // As `curl -F` sends it.
    let form = [
        &b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n"[..],
        &photo,
        b"\r\n--x--\r\n",
    ];
    let kind = [("Content-Type", "multipart/form-data; boundary=x")];
    let error = server.request("POST", "/api/stylize", &kind, &form.concat()).refusal(415);
    assert!(error.contains("inside a form"), "{error}");
    // What does not fit in the format is refused before it is painted.
    let long = png(&super::support::photo(16_400, 1));
    for (path, expected) in [
        ("/api/stylize?format=webp", "16400x1 does not fit in webp"),
        ("/api/stylize?format=webp&size=20000", "does not fit in webp"),
    ] {
        let error = server.post(path, &long).refusal(400);
        assert!(error.contains(expected), "{path}: {error}");
    }
    assert_eq!(server.metric("impasto_painted_total{kind=\"picture\"}"), 0.0);
    server.get("/api/stylize").refusal(405);
    server.get("/live").refusal(426);
    server.get("/thumbnails/%ff").refusal(404);
    for path in
        ["/thumbnails/nobody", "/thumbnails/..%2f..%2fetc%2fpasswd", "/../etc/passwd", "/page/index.html"]
    {
        server.get(path).refusal(404);
    }
}

#[test]
fn metrics_count_what_was_done_and_what_was_refused() {
    let server = Running::new();
    server.post("/api/stylize", &png(&photo(20, 20))).picture();
    server.post("/api/stylize", b"nothing").refusal(415);
    server.live().paint(7, &jpeg(&photo(20, 20)));
    for (name, value) in [
        ("impasto_painted_total{kind=\"picture\"}", 1.0),
        ("impasto_painted_total{kind=\"live\"}", 1.0),
        ("impasto_paint_seconds_count{kind=\"live\"}", 1.0),
        ("impasto_refused_total{reason=\"not_a_picture\"}", 1.0),
        ("impasto_waiting", 0.0),
    ] {
        assert_eq!(server.metric(name), value, "{name}");
    }
}
