//! The server from outside: what it paints, whom it refuses, what it does with callers who misbehave.

mod serve {
    pub mod api;
    pub mod command;
    pub mod fairness;
    pub mod limits;
    pub mod live;
    pub mod strangers;
    pub mod support;
    pub mod tls;
}
