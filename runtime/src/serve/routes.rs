//! The addresses: the page, thumbnails, the interface for programs, health and metrics; the guard before them all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::PathRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::answer::{Reason, Refusal, to_json};
use super::guard::{Pass, WRONG_TOKEN};
use super::listen::Held;
use super::painter::Easel;
use super::{Level, Peer, Shared, api, live, metrics, scene};
use crate::Progress;
use crate::paint::{PaintOptions, paint_frame_with};
use crate::picture::{EncodeOptions, Format, Picture};

const PAGE: &str = include_str!("page/index.html");
const LOCKED: &str = include_str!("page/locked.html");
const WRONG: &str = r#"<p class="message error" role="alert">That is not this server’s token. A server that is started anew has another, unless it was given one.</p>"#;
const SCRIPT: &str = include_str!("page/app.js");
const LOOK: &str = include_str!("page/style.css");
const ICON: &str = include_str!("page/icon.svg");

/// Nothing from elsewhere, no script or style in the page itself, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
                      connect-src 'self'; media-src 'self' blob: mediastream:; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// The thumbnails' size, twice what the page shows, for fine screens.
const THUMBNAIL: (usize, usize) = (288, 192);
/// The size of the picture that the page opens with.
const SAMPLE: (usize, usize) = (1200, 800);
/// Thumbnails' lane: beside all callers'.
const HOUSE: u64 = u64::MAX;

/// The router.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(|| async { page("text/html; charset=utf-8", PAGE) }))
        .route("/app.js", get(|| async { page("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/style.css", get(|| async { page("text/css; charset=utf-8", LOOK) }))
        .route("/icon.svg", get(|| async { page("image/svg+xml", ICON) }))
        .route("/sample.jpg", get(sample))
        .route("/thumbnails/{name}", get(thumbnail))
        .route("/live", get(live_socket))
        .route("/api/styles", get(styles))
        .route("/api/stylize", post(api::stylize))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics_text))
        .fallback(|| async {
            Refusal::new(StatusCode::NOT_FOUND, "not_found", "nothing is here", "the page is at /")
        })
        .method_not_allowed_fallback(|| async {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this address takes another method",
                "POST for /api/stylize, GET for the others",
            )
        })
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

/// Lets in whom the guard lets in, and puts on every answer what browsers should know.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    // Watchdogs know no token, and what the page is made of is no secret.
    let open = matches!(path.as_str(), "/healthz" | "/app.js" | "/style.css" | "/icon.svg");
    let (uri, headers) = (request.uri(), request.headers());
    let held = request.extensions().get::<Arc<Held>>().cloned();
    let sends = !request.body().is_end_stream();
    let pass = shared
        .guard
        .check_origin(headers)
        .and_then(|()| if open { Ok(Pass::Free) } else { shared.guard.check_token(&method, uri, headers) });
    let mut response = match pass {
        Ok(Pass::Free) => next.run(request).await,
        Ok(Pass::WithCookie(cookie)) => {
            let mut response = next.run(request).await;
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(refusal)
            if refusal.status == StatusCode::UNAUTHORIZED && method == Method::GET && path == "/" =>
        {
            let reason = Reason(refusal.reason);
            let mut response = (refusal.status, locked(refusal.reason == WRONG_TOKEN)).into_response();
            response.extensions_mut().insert(reason);
            response
        }
        Err(refusal) => refusal.into_response(),
    };
    if let Some(Reason(reason)) = response.extensions().get() {
        shared.metrics.refused(reason);
        // What is left of a refused body is nobody's: the connection ends, once the caller has sent it.
        if sends {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            held.inspect(|held| held.unread.store(true, Ordering::Relaxed));
        }
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(self), microphone=(), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn page(kind: &'static str, text: impl IntoResponse) -> Response {
    // Another version of the program has another page at the same address.
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// The page that asks for the token, and says so when the one that was given is wrong.
fn locked(wrong: bool) -> Response {
    let said = if wrong { WRONG } else { "" };
    page("text/html; charset=utf-8", LOCKED.replace("<!-- refused -->", said))
}

fn jpeg(bytes: Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "private, max-age=3600")];
    (headers, bytes).into_response()
}

async fn styles(State(shared): State<Arc<Shared>>) -> Response {
    to_json(&shared.catalogue.to_json())
}

async fn metrics_text(State(shared): State<Arc<Shared>>) -> Response {
    let waiting = shared.live.waiting() + shared.pictures.waiting();
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], shared.metrics.text(waiting)).into_response()
}

async fn sample(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    let draw = || async {
        let bytes = shared
            .help(|| {
                let options = EncodeOptions { quality: 92 };
                Picture::from(scene::draw(SAMPLE.0, SAMPLE.1)).encode(Format::Jpeg, &options)
            })
            .await?;
        bytes.map(Bytes::from).map_err(|error| shared.report(&error, 0))
    };
    shared.sample.get_or_try_init(draw).await.cloned().map(jpeg)
}

async fn thumbnail(
    State(shared): State<Arc<Shared>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let style = shared.catalogue.find(&name.map(|Path(name)| name).unwrap_or_default())?;
    let paint = || async {
        let work = move |easel: &mut Easel<'_>, progress: &Progress<'_>| {
            // Painted at twice the size and brought down: strokes of a large picture, as in the large picture.
            let scene = scene::draw(THUMBNAIL.0 * 2, THUMBNAIL.1 * 2);
            let painted = paint_frame_with(easel.stylizer()?, &scene, &PaintOptions::default(), progress)?;
            Picture::from(painted)
                .resized(THUMBNAIL.0, THUMBNAIL.1)?
                .encode(Format::Jpeg, &EncodeOptions::default())
        };
        let done = shared.pictures.submit(HOUSE, style, 1.0, shared.limits.paint_time, work).await?;
        done.result.map(Bytes::from).map_err(|error| shared.report(&error, 0))
    };
    shared.catalogue.entries()[style].thumbnail.get_or_try_init(paint).await.cloned().map(jpeg)
}

async fn live_socket(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Extension(held): Extension<Arc<Held>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|_| {
        Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            "no_websocket",
            "this address takes WebSockets",
            "pictures go to /api/stylize",
        )
    })?;
    let begun = Instant::now();
    let most = shared.limits.frame_bytes + 4;
    let upgrade = upgrade.max_message_size(most).max_frame_size(most);
    let place = shared.clients.try_take(peer.address);
    let task = shared.tasks.token();
    Ok(upgrade.on_upgrade(async move |socket| {
        let (_task, _held) = (task, held);
        match place {
            Some(_place) => {
                let lane = shared.next_lane();
                live::serve(socket, Arc::clone(&shared), lane).await;
                let seconds = begun.elapsed().as_secs_f64();
                shared.log(Level::Detail, &format!("{peer} painted live for {seconds:.0} s"));
            }
            None => {
                shared.metrics.refused("busy");
                live::turn_away(socket, "the server is busy: as many clients as it takes paint already")
                    .await;
            }
        }
    }))
}
