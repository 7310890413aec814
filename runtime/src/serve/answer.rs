//! Refusals: the status, what was wrong and what to do, as JSON.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::RuntimeError;

/// Why a request is not done, in words for whoever sent it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// What was wrong.
    pub error: String,
    /// What was expected, or what helps.
    pub hint: String,
    /// A short name of the reason, for the metrics.
    pub reason: &'static str,
}

impl Refusal {
    /// A refusal.
    pub fn new(
        status: StatusCode,
        reason: &'static str,
        error: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Refusal { status, error: error.into(), hint: hint.into(), reason }
    }

    /// 400.
    pub fn bad_request(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", error, hint)
    }

    /// 503, to be tried again.
    pub fn busy(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error, "try again in a few seconds")
    }

    /// 413 for too many bytes.
    pub fn too_large(what: &str, bytes: Option<u64>, limit: usize) -> Self {
        let size = bytes.map_or_else(String::new, |bytes| format!(" of {}", megabytes(bytes)));
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("{what}{size} is over the {} allowed", megabytes(limit as u64)),
            "send a smaller picture; who runs the server can raise --max-body",
        )
    }

    /// What the painter's or a decoder's error is to a caller. `limit` is the pixels that it may use.
    pub fn from_error(error: &RuntimeError, limit: u64) -> Self {
        match error {
            RuntimeError::TooManyPixels { width, height, .. } => {
                Self::too_many_pixels(*width as f64 * *height as f64, limit)
            }
            RuntimeError::Picture { .. } => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_a_picture", error.to_string(), {
                    format!("expected a whole {}", crate::picture::READABLE_FORMATS)
                })
            }
            RuntimeError::Stopped => Self::too_slow(),
            // A path or a system's reason is the operator's business, not a caller's.
            _ => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "failed",
                "the painter failed",
                "the server's own output says why",
            ),
        }
    }

    /// 413 for too many pixels.
    pub fn too_many_pixels(pixels: f64, limit: u64) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_many_pixels",
            format!("{:.1} megapixels, over the {:.1} allowed", pixels / 1e6, limit as f64 / 1e6),
            "send a smaller picture, or ask for a smaller size or stroke_scale; who runs the server can raise --max-pixels",
        )
    }

    /// 503: the time for a painting is over.
    pub fn too_slow() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_slow",
            "the picture was not painted in the time allowed",
            "try again when the server is less busy, or send a smaller picture",
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; hint: {}", self.error, self.hint)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = to_json(&json!({ "error": self.error, "hint": self.hint }));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(Reason(self.reason));
        response
    }
}

/// Why a response is a refusal, beside it for the metrics.
#[derive(Debug, Clone, Copy)]
pub struct Reason(pub &'static str);

/// A JSON answer.
pub fn to_json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

fn megabytes(bytes: u64) -> String {
    if bytes < 100_000 { format!("{bytes} bytes") } else { format!("{:.1} MB", bytes as f64 / 1e6) }
}
