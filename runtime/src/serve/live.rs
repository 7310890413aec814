//! Live painting over a WebSocket: frames in, paintings out, one in flight for each client, the newest wins.
//!
//! To the server: text is JSON, the settings for the frames that follow ([`Change`]); binary is a frame: its
//! number (u32, little-endian) and a picture file, JPEG for speed. To the client: binary is a painting: the
//! frame's number, microseconds in the queue, microseconds of painting (u32 each, little-endian) and a JPEG; text
//! is JSON: `{"type": "hello", …}` with the limits, or `{"type": "error", "id", "error", "hint"}`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::answer::Refusal;
use super::metrics::Kind;
use super::painter::Done;
use super::queue::LaneId;
use super::settings::{Change, Settings};
use crate::Frame;
use crate::RuntimeError;
use crate::picture::{DecodeOptions, EncodeOptions, Format, Picture};

/// Bytes before the JPEG of a frame, and of a painting.
const FRAME_HEAD: usize = 4;
const PAINTING_HEAD: usize = 12;
/// Frames are looked at for a few milliseconds each: small files matter more than the last detail.
const QUALITY: u8 = 85;
/// Broken frames in a row after which a client is not taken for one any more.
const BROKEN_FRAMES: u32 = 10;
/// What a client may send without being slowed down: a burst, then so many messages and bytes a second.
const BURST: Duration = Duration::from_millis(500);
const MESSAGES_PER_SECOND: f64 = 120.0;
const BYTES_PER_SECOND: f64 = 40e6;
/// For the client to take note of its being closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// A frame that came, with the settings in force then.
struct Incoming {
    id: u32,
    message: Bytes,
    settings: Settings,
}

/// A frame's number; the message with its painting, and the painting.
type Painted = (u32, Result<(Vec<u8>, Frame), Refusal>);

type InFlight<'a> = Pin<Box<dyn Future<Output = Painted> + Send + 'a>>;

/// Why a client is let go.
struct Leave {
    code: u16,
    reason: String,
}

impl Leave {
    fn new(code: u16, reason: impl Into<String>) -> Option<Self> {
        Some(Leave { code, reason: reason.into() })
    }
}

/// Refuses a client in a way that its page can read: a failed handshake would tell it nothing.
pub async fn turn_away(mut socket: WebSocket, reason: &str) {
    close(&mut socket, Leave { code: close_code::AGAIN, reason: reason.to_string() }).await;
}

/// Serves a client until it leaves, misbehaves, falls silent, or the server ends.
pub async fn serve(mut socket: WebSocket, shared: Arc<Shared>, lane: LaneId) {
    shared.metrics.clients.inc();
    let leave = talk(&mut socket, &shared, lane).await;
    shared.metrics.clients.dec();
    if let Some(leave) = leave {
        close(&mut socket, leave).await;
    }
}

/// Returns how to close, or `None` when the socket is gone already.
async fn talk(socket: &mut WebSocket, shared: &Shared, lane: LaneId) -> Option<Leave> {
    let limits = &shared.limits;
    let mut settings = Settings::default();
    let mut newest: Option<Incoming> = None;
    let mut in_flight: Option<InFlight<'_>> = None;
    // The frame that is painted into, one after the other; it is away with the painting in flight.
    let mut canvas = Frame::black(1, 1);
    let mut broken = 0;
    // The leaky bucket: a message moves this on, and while it is ahead of now nothing is read.
    let mut allowed = Instant::now();
    let mut heard = Instant::now();
    let mut ping = Instant::now() + limits.idle_time / 3;

    let hello = json!({
        "type": "hello",
        "frame_bytes": limits.frame_bytes,
        "frame_pixels": limits.frame_pixels,
        "seen_pixels": limits.seen_pixels,
        "body_bytes": limits.body_bytes,
        "pixels": limits.pixels,
    });
    send(socket, shared, text(hello.to_string())).await?;
    loop {
        if in_flight.is_none()
            && let Some(frame) = newest.take()
        {
            let canvas = std::mem::replace(&mut canvas, Frame::black(1, 1));
            in_flight = Some(Box::pin(paint(shared, lane, frame, canvas)));
        }
        let painting = async {
            match &mut in_flight {
                Some(painting) => painting.await,
                None => std::future::pending().await,
            }
        };
        let message = async {
            sleep_until(allowed).await;
            socket.recv().await
        };
        tokio::select! {
            (id, painted) = painting => {
                in_flight = None;
                let reply = match painted {
                    Ok((painting, painted)) => {
                        (broken, canvas) = (0, painted);
                        Message::Binary(painting.into())
                    }
                    Err(refusal) => {
                        broken += u32::from(refusal.status.is_client_error());
                        shared.metrics.refused(refusal.reason);
                        text(error(Some(id), &refusal))
                    }
                };
                send(socket, shared, reply).await?;
                if broken >= BROKEN_FRAMES {
                    return Leave::new(close_code::POLICY, "too many broken frames");
                }
            }
            message = message => {
                heard = Instant::now();
                let message = match message {
                    Some(Ok(message)) => message,
                    // Its type is that of a crate below axum's; its words are all there is to go by.
                    Some(Err(error)) if error.to_string().contains("too long") => {
                        shared.metrics.refused("too_large");
                        return Leave::new(close_code::SIZE, "a message over the limit");
                    }
                    Some(Err(_)) | None => return None,
                };
                let cost = (1.0 / MESSAGES_PER_SECOND).max(size(&message) as f64 / BYTES_PER_SECOND);
                allowed = allowed.max(heard.checked_sub(BURST).unwrap_or(heard)) + Duration::from_secs_f64(cost);
                match message {
                    Message::Binary(message) => {
                        let Some(id) = message.first_chunk().map(|id| u32::from_le_bytes(*id)) else {
                            return Leave::new(close_code::INVALID, "a frame without its number");
                        };
                        if newest.replace(Incoming { id, message, settings }).is_some() {
                            shared.metrics.dropped.inc();
                        }
                    }
                    Message::Text(change) => {
                        if let Err(refusal) = update(&mut settings, change.as_str(), shared) {
                            shared.metrics.refused(refusal.reason);
                            send(socket, shared, text(error(None, &refusal))).await?;
                        }
                    }
                    Message::Ping(_) | Message::Pong(_) => {}
                    Message::Close(_) => return None,
                }
            }
            () = sleep_until(ping) => {
                // Asleep for a while, or slowed down by us: no reason to think it gone.
                if allowed < Instant::now() && heard.elapsed() > limits.idle_time {
                    shared.metrics.refused("idle");
                    return Leave::new(close_code::AWAY, "no sign of life");
                }
                ping = Instant::now() + limits.idle_time / 3;
                send(socket, shared, Message::Ping(Bytes::new())).await?;
            }
            () = shared.stop.cancelled() => {
                return Leave::new(close_code::AWAY, "the server is shutting down");
            }
        }
    }
}

fn size(message: &Message) -> usize {
    match message {
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Text(text) => text.len(),
        Message::Close(_) => 0,
    }
}

fn update(settings: &mut Settings, change: &str, shared: &Shared) -> Result<(), Refusal> {
    let change: Change = serde_json::from_str(change).map_err(|error| {
        Refusal::bad_request(
            format!("settings: {error}"),
            "expected JSON with style, strength, stroke_scale or keep_colors",
        )
    })?;
    settings.update(&change, &shared.catalogue)
}

/// Decode, wait for a turn, paint into `canvas`, encode.
async fn paint(shared: &Shared, lane: LaneId, incoming: Incoming, mut canvas: Frame) -> Painted {
    let Incoming { id, message, settings } = incoming;
    let painted = async {
        let limits = &shared.limits;
        let received = message.len();
        let pixels = limits.frame_pixels;
        let frame = shared
            .help(move || {
                let options = DecodeOptions { max_pixels: pixels };
                let picture = Picture::from_bytes(&message[FRAME_HEAD..], "the frame", &options)?;
                Ok::<Frame, RuntimeError>(picture.frame)
            })
            .await?
            .map_err(|error| shared.report(&error, pixels))?;
        let seen = settings.options(None).seen_pixels(frame.width(), frame.height());
        if seen > limits.seen_pixels {
            return Err(Refusal::too_many_pixels(seen as f64, limits.seen_pixels));
        }
        let cost = seen as f64 * shared.catalogue.entries()[settings.style].cost_per_pixel;
        let paint = move |easel: &mut super::painter::Easel<'_>, progress: &crate::Progress<'_>| {
            let painter = easel.painter(settings.options(None))?;
            let painted = painter.paint_into(&frame, &mut canvas, progress);
            if seen > pixels {
                easel.close();
            }
            painted.map(|()| canvas)
        };
        let Done { result, waited, worked } =
            shared.live.submit(lane, settings.style, cost, limits.paint_time, paint).await?;
        let painted = result.map_err(|error| shared.report(&error, pixels))?;
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX).to_le_bytes();
        let mut reply = Vec::with_capacity(PAINTING_HEAD);
        for field in [id.to_le_bytes(), micros(waited), micros(worked)] {
            reply.extend(field);
        }
        let (reply, painted) = shared
            .help(move || {
                let painted = Picture::from(painted);
                reply.extend(painted.encode(Format::Jpeg, &EncodeOptions { quality: QUALITY })?);
                Ok::<_, RuntimeError>((reply, painted.frame))
            })
            .await?
            .map_err(|error| shared.report(&error, pixels))?;
        shared.metrics.painted(Kind::Live, waited, worked, received, reply.len());
        Ok((reply, painted))
    };
    (id, painted.await)
}

fn text(text: String) -> Message {
    Message::Text(Utf8Bytes::from(text))
}

fn error(id: Option<u32>, refusal: &Refusal) -> String {
    json!({ "type": "error", "id": id, "error": refusal.error, "hint": refusal.hint }).to_string()
}

/// Sends, or gives the client up when it does not read.
async fn send(socket: &mut WebSocket, shared: &Shared, message: Message) -> Option<()> {
    match timeout(shared.limits.send_time, socket.send(message)).await {
        Ok(sent) => sent.ok(),
        Err(_) => {
            shared.metrics.refused("slow_reader");
            None
        }
    }
}

/// Says goodbye, and waits a moment for the other side to: what it still sends, unread when the socket goes, would
/// make the system reset the connection and drop the reason.
async fn close(socket: &mut WebSocket, leave: Leave) {
    let frame = CloseFrame { code: leave.code, reason: leave.reason.into() };
    let farewell = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = timeout(FAREWELL, farewell).await; // it has had its time
}
