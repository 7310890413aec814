//! The command line of `impasto serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use impasto::serve::DEFAULT_PORT;

use crate::args::EngineArgs;

#[derive(Args)]
pub struct ServeArgs {
    /// Where to listen: an address, a port, or both. Beyond loopback callers must know a token
    #[arg(long, value_name = "[ADDRESS:]PORT", default_value = "127.0.0.1:7878", value_parser = listen_address)]
    pub listen: SocketAddr,
    /// The token that callers must know, 16 characters or more [default: a fresh one beyond loopback or with --allow-host, else none;
    /// the variable IMPASTO_TOKEN sets it too, unseen by other users of the machine]
    #[arg(long)]
    pub token: Option<String>,
    /// A further name by which browsers may call this server: that of a proxy before it, say. Callers must know a
    /// token then
    #[arg(long, value_name = "NAME")]
    pub allow_host: Vec<String>,
    /// Certificate chain for HTTPS, which browsers want before they give the camera to a page from elsewhere
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A style model file to offer beside the shipped styles; may be given several times
    #[arg(long, value_name = "FILE")]
    pub model: Vec<PathBuf>,
    /// The style that is chosen when the page opens [default: the first --model, else starry_night]
    #[arg(long, value_name = "NAME")]
    pub style: Option<String>,
    /// Clients that may paint live at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_clients: u16,
    /// Largest picture that is taken, in megabytes
    #[arg(long, value_name = "MB", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_body: u16,
    /// Refuse pictures that declare more pixels than this, or would have more when painted
    #[arg(long, value_name = "N", default_value_t = 30_000_000)]
    pub max_pixels: u64,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// `127.0.0.1:7878`, `[::1]:80`, `0.0.0.0`, `::`, `8080`.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse();
    text.parse()
        .ok()
        .or_else(|| text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| (ip, DEFAULT_PORT).into()))
        .or_else(|| port.ok().map(|port: u16| (Ipv4Addr::LOCALHOST, port).into()))
        .ok_or_else(|| "expected ADDRESS:PORT, an address or a port, such as 0.0.0.0:7878".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ports_may_stand_alone() {
        for (text, expected) in [
            ("127.0.0.1:7878", "127.0.0.1:7878"),
            ("0.0.0.0", "0.0.0.0:7878"),
            ("::1", "[::1]:7878"),
            ("[::]:80", "[::]:80"),
            ("8080", "127.0.0.1:8080"),
            (":0", "127.0.0.1:0"),
        ] {
            assert_eq!(listen_address(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "localhost:80", "1.2.3", "99999", "127.0.0.1:", "-1"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }
}
