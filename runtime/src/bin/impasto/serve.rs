//! `impasto serve`: the arguments become a configuration; the server does the rest.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use impasto::checkpoints::StyleModel;
use impasto::serve::{Level, ServeConfig, Server, TlsFiles};

use crate::choice::engine_options;
use crate::say::Say;
use crate::serve_args::ServeArgs;

/// The variable that holds the token, where other users could read the arguments.
const TOKEN_VARIABLE: &str = "IMPASTO_TOKEN";

pub fn run(args: ServeArgs, say: Say) -> Result<ExitCode> {
    let log = move |level, line: &str| match level {
        Level::Detail => say.detail(line),
        Level::Trouble => say.note(line),
    };
    let server = Server::bind_with_log(config(args)?, log)?;
    server.stop_on_signals();
    let url = server.url();
    {
        // The one line on standard output: whoever starts this from a program wants to know where it is.
        let mut out = std::io::stdout().lock();
        writeln!(out, "{url}").and_then(|()| out.flush()).context("standard output: cannot write")?;
    }
    let address = server.address();
    if !address.ip().is_loopback() {
        if let Some(outside) = outside_address(address) {
            say.note(&format!("from other devices: {}", server.url_at(&outside)));
        }
        if url.starts_with("http:") {
            say.note(
                "without HTTPS everything, the token too, can be read on the way, and browsers keep the camera from \
                 the page; hint: --tls-cert and --tls-key",
            );
        }
    }
    say.note("Ctrl-C ends it");
    server.run();
    Ok(ExitCode::SUCCESS)
}

fn config(args: ServeArgs) -> Result<ServeConfig> {
    let mut config = ServeConfig::shipped()?;
    for path in &args.model {
        let model = StyleModel::load(path)?;
        let name = model.metadata().name.clone();
        config.add_style(&name, model);
    }
    let first = match &args.style {
        Some(name) => config.styles.iter().position(|style| style.name == *name).with_context(|| {
            let names: Vec<&str> = config.styles.iter().map(|style| style.name.as_str()).collect();
            format!("--style {name}: no such style here; expected one of {}", names.join(", "))
        })?,
        // Who brings a model wants to see it.
        None if !args.model.is_empty() => config.styles.len() - args.model.len(),
        None => 0,
    };
    config.styles[..=first].rotate_right(1);
    config.listen = args.listen;
    config.allow_hosts = args.allow_host;
    config.token = match (args.token, std::env::var(TOKEN_VARIABLE)) {
        (Some(token), _) | (None, Ok(token)) => Some(token),
        (None, Err(std::env::VarError::NotPresent)) => None,
        (None, Err(error)) => bail!("{TOKEN_VARIABLE}: {error}"),
    };
    config.tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles { certificate, key });
    config.painter = engine_options(&args.engine);
    config.limits.clients = usize::from(args.max_clients);
    config.limits.connections = config.limits.connections.max(usize::from(args.max_clients) * 2 + 64);
    config.limits.body_bytes = usize::from(args.max_body) * 1_000_000;
    config.limits.pixels = args.max_pixels;
    Ok(config)
}

/// This machine's address as its neighbours see it, where the server listens on all of them.
fn outside_address(listen: SocketAddr) -> Option<String> {
    if !listen.ip().is_unspecified() {
        return None; // the link says it
    }
    // Connecting a datagram socket sends nothing; it only asks which way packets would leave.
    let socket = UdpSocket::bind(if listen.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).ok()?;
    socket.connect(if listen.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" }).ok()?;
    match socket.local_addr().ok()?.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => None,
        IpAddr::V6(ip) => Some(format!("[{ip}]")),
        ip => Some(ip.to_string()),
    }
}
