//! The server's door: the same pictures in the body of a POST.

use super::super::same;
use super::pictures::{BAD, GOOD, MORE, Make};
use super::runner::says;
use super::serve_support::Running;

#[test]
fn pictures_by_post() {
    let server = Running::new();
    for row in GOOD {
        let answer = server.post("/api/stylize?strength=0&format=png", &(row.bytes)());
        same(&answer.picture().frame, &(row.shows)(), row.within)
            .unwrap_or_else(|reason| panic!("{:?}: {reason}", row.name));
    }
    for row in BAD {
        let Make::Bytes(bytes) = &row.make else { continue }; // a body is bytes
        // Here the hint on a picture that is too large is another one.
        let too_large = row.says.contains(&MORE);
        let (status, expected) = if too_large { (413, &["megapixels"][..]) } else { (415, row.says) };
        let error = server.post("/api/stylize", &bytes()).refusal(status);
        assert_eq!(error.lines().count(), 1, "{:?}: {error}", row.name);
        says(&error, expected).unwrap_or_else(|reason| panic!("{:?}: {reason}", row.name));
    }
    // It serves on.
    assert_eq!(server.get("/healthz").status, 200);
}
