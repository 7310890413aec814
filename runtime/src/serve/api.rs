//! The interface for programs: a picture's bytes in, the painting's bytes out.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use super::answer::Refusal;
use super::config::Limits;
use super::listen::Place;
use super::metrics::Kind;
use super::settings::Wish;
use super::{Peer, Shared};
use crate::RuntimeError;
use crate::paint::paint_with;
use crate::picture::{DecodeOptions, EncodeOptions, Format, Picture, declared_size, fit_longer_side};

/// Bytes of a painting that the connection is given at once.
const PIECE: usize = 64 << 10;
/// What any picture costs beside its pixels, in megapixels: opening a style.
const MIN_COST: f64 = 0.05;

/// `POST /api/stylize`
pub async fn stylize(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let limits = &shared.limits;
    let Query(query) =
        query.map_err(|_| Refusal::bad_request("the query is not readable", "expected name=value&…"))?;
    let wish = Wish::from_query(&query, &shared.catalogue)?;
    if is_form(&headers) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not_a_picture",
            "the picture came inside a form; expected its bytes alone as the body",
            "curl --data-binary @photo.jpg in place of -F; in Python's requests, data= in place of files=",
        ));
    }
    // What is declared too large is not waited for.
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|bytes: u64| bytes > limits.body_bytes as u64) {
        return Err(Refusal::too_large("a picture", declared, limits.body_bytes));
    }
    let place = shared.places.take(peer.address)?;
    let picture = read(body, limits).await?;
    paint(&shared, peer, wish, picture, place).await
}

/// A form with files in it, as `curl -F` and many libraries send one. (Other types say nothing: `curl --data-binary`
/// calls a picture a form of another kind.)
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    kind.to_ascii_lowercase().starts_with(b"multipart/")
}

/// Reads a body, chunk by chunk into one piece: chunks kept for later cost many times their size when they are small.
async fn read(body: Body, limits: &Limits) -> Result<Vec<u8>, Refusal> {
    let begun = Instant::now();
    let mut body = Limited::new(body, limits.body_bytes);
    let mut bytes = Vec::new();
    // Time by what has arrived: a large photo may come over a slow line, and a caller who drips holds no place.
    let until = |arrived: usize| {
        let seconds = arrived as f64 / limits.body_rate.max(1) as f64;
        begun + limits.body_time + Duration::from_secs_f64(seconds)
    };
    while let Some(frame) = timeout_at(until(bytes.len()), body.frame()).await.map_err(|_| {
        Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "slow_body",
            "the picture did not arrive in time",
            "send it faster, or a smaller one",
        )
    })? {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Refusal::too_large("a picture", None, limits.body_bytes)
            } else {
                Refusal::bad_request("the picture did not arrive whole", "send it again")
            }
        })?;
        // Trailers say nothing about a picture.
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

async fn paint(
    shared: &Arc<Shared>,
    peer: Peer,
    wish: Wish,
    bytes: Vec<u8>,
    place: Place,
) -> Result<Response, Refusal> {
    let pixels = shared.limits.pixels;
    let cost = cost(&bytes, &wish).min(pixels as f64 / 1e6);
    let received = bytes.len();
    let format = wish.format.unwrap_or_else(|| own_format(&bytes));
    let settings = wish.settings;
    let work = move |easel: &mut super::painter::Easel<'_>, progress: &crate::Progress<'_>| {
        // Nobody waits any more: the next step is not begun.
        let go_on = || if progress.is_stopped() { Err(RuntimeError::Stopped) } else { Ok(()) };
        // Here and not before: one picture is in memory at a time, however many wait.
        let picture = Picture::from_bytes(&bytes, "the picture", &DecodeOptions { max_pixels: pixels })?;
        drop(bytes);
        go_on()?;
        let options = settings.options(wish.size);
        let (width, height) = match wish.size {
            Some(size) => fit_longer_side(picture.width(), picture.height(), size),
            None => (picture.width(), picture.height()),
        };
        let painted = width as u64 * height as u64;
        let most = painted.max(options.seen_pixels(picture.width(), picture.height()));
        if most > pixels {
            return Ok(Err(Refusal::too_many_pixels(most as f64, pixels)));
        }
        // Before the painting, not after it.
        if let Some(refusal) = too_long(format, width, height) {
            return Ok(Err(refusal));
        }
        let stylizer = easel.stylizer()?;
        let painted = paint_with(stylizer, picture, &options, progress)?;
        go_on()?;
        painted.encode(format, &EncodeOptions { quality: wish.quality }).map(Ok)
    };
    let done =
        shared.pictures.submit(peer.lane(), settings.style, cost, shared.limits.paint_time, work).await?;
    let painting = done.result.map_err(|error| shared.report(&error, pixels))??;
    shared.metrics.painted(Kind::Picture, done.waited, done.worked, received, painting.len());
    let headers = [
        (header::CONTENT_TYPE, content_type(format).to_string()),
        (header::CACHE_CONTROL, "no-store".to_string()),
        (
            header::HeaderName::from_static("server-timing"),
            format!(
                "wait;dur={:.1}, paint;dur={:.1}",
                done.waited.as_secs_f64() * 1e3,
                done.worked.as_secs_f64() * 1e3
            ),
        ),
    ];
    Ok((headers, Body::new(Painting { rest: painting.into(), _place: place })).into_response())
}

/// What a picture takes of the painter, in megapixels that the network sees. What declares no size is refused soon.
fn cost(bytes: &[u8], wish: &Wish) -> f64 {
    let (width, height) = declared_size(bytes).unwrap_or((1, 1));
    MIN_COST + wish.settings.options(wish.size).seen_pixels(width, height) as f64 / 1e6
}

/// A painting on its way. It keeps its place until the last piece is taken over by the connection, so that callers
/// who take nothing cannot have ever more paintings kept for them.
struct Painting {
    rest: Bytes,
    _place: Place,
}

impl HttpBody for Painting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// Refuses a painting that its format cannot hold.
fn too_long(format: Format, width: usize, height: usize) -> Option<Refusal> {
    let longest = format.longest_side();
    (width.max(height) > longest).then(|| {
        Refusal::bad_request(
            format!("format: {width}x{height} does not fit in {}", format.extension()),
            format!("expected at most {longest} pixels a side; ask for format=png, or a smaller size"),
        )
    })
}

/// A JPEG and a phone's HEIC are given back as a JPEG, a WebP as a WebP, all else as PNG.
fn own_format(bytes: &[u8]) -> Format {
    match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => Format::Jpeg,
        [0xff, 0xd8, 0xff, ..] => Format::Jpeg,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Format::WebP,
        _ => Format::Png,
    }
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Png => "image/png",
        Format::Jpeg => "image/jpeg",
        Format::WebP => "image/webp",
        Format::Tiff => "image/tiff",
    }
}
