//! Who may come in: by which name, from which page, with which token.
//!
//! - `Host` must be a name of this server, so that a foreign name that is made to point here (DNS rebinding) is
//!   refused. An address in figures cannot be rebound.
//! - `Origin`, where a browser sends one, must be the page's own, so that another website cannot use the server
//!   through its visitors. Programs send none.
//! - The token, where there is one, comes as `Authorization: Bearer`, as a cookie, or once as `?token=` in the
//!   page's address, which sets the cookie. It is compared in constant time.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use subtle::ConstantTimeEq;

use super::answer::Refusal;
use super::config::ServeConfig;
use super::settings::shorten;
use crate::RuntimeError;

/// Fewest characters of a token: 16 of 64 kinds are 96 bits.
const MIN_TOKEN: usize = 16;
const MAX_TOKEN: usize = 256;

/// Why somebody is refused who gave a token, but not this server's; who gave none: `no_token`.
pub const WRONG_TOKEN: &str = "wrong_token";

/// The doorkeeper.
pub struct Guard {
    /// Names beside addresses in figures, in lower case.
    names: Vec<String>,
    /// Addresses in figures: loopback's only, or any.
    any_address: bool,
    token: Option<String>,
    cookie: String,
    secure: bool,
}

/// How somebody may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pass {
    /// As they are.
    Free,
    /// With this `Set-Cookie`.
    WithCookie(String),
}

impl Guard {
    /// Checks the configuration, and makes a token where one is needed and none is given. `port` is the one that
    /// is listened on.
    ///
    /// # Errors
    /// [`RuntimeError::Serve`] for a token that is too short or does not fit a cookie, or a name that is none.
    pub fn new(config: &ServeConfig, port: u16) -> Result<Self, RuntimeError> {
        let loopback = config.listen.ip().is_loopback();
        let mut names = vec!["localhost".to_string()];
        for name in &config.allow_hosts {
            let Some(host) = host_name(name) else {
                return Err(RuntimeError::Serve(format!(
                    "--allow-host: `{}` is no host name; expected one such as studio.example.org",
                    shorten(name)
                )));
            };
            names.push(host);
        }
        let token = match &config.token {
            Some(token) => Some(checked_token(token)?),
            // A further name means a proxy before it, and behind that anybody.
            None if loopback && config.allow_hosts.is_empty() => None,
            None => Some(fresh_token()?),
        };
        Ok(Guard {
            names,
            any_address: !loopback,
            token,
            // Cookies know no ports: two servers on one machine must not overwrite each other's.
            cookie: format!("impasto_{port}"),
            secure: config.tls.is_some(),
        })
    }

    /// The token in force.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Checks name and page of a request.
    ///
    /// # Errors
    /// 403 (421 for a foreign name) with what was expected.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = single(headers, &header::HOST).and_then(|host| Some((host, host_name(host)?)));
        let Some((authority, name)) = host.filter(|(_, name)| self.is_own(name)) else {
            let found = single(headers, &header::HOST).unwrap_or("none, or several");
            return Err(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                "foreign_host",
                format!("this server is not called `{}`", shorten(found)),
                "open it by its own address; who runs the server can allow a name with --allow-host",
            ));
        };
        if headers.contains_key(header::ORIGIN) {
            let own = single(headers, &header::ORIGIN)
                .and_then(|origin| {
                    // Behind a proxy the page may have come over HTTPS without our knowing; the other way round it
                    // is another's: anybody on the way can write a page without it.
                    let plain = || origin.strip_prefix("http://").filter(|_| !self.secure);
                    origin.strip_prefix("https://").or_else(plain)
                })
                .is_some_and(|origin| origin.eq_ignore_ascii_case(authority));
            if !own {
                return Err(foreign_page(headers));
            }
        }
        // Browsers say so too where they send no Origin: an image or a script of another page.
        let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
        let navigation = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
        if matches!(site, Some(b"cross-site" | b"same-site")) && !navigation {
            return Err(foreign_page(headers));
        }
        debug_assert!(!name.is_empty());
        Ok(())
    }

    /// Checks the token.
    ///
    /// # Errors
    /// 401 when it is missing or wrong.
    pub fn check_token(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Pass, Refusal> {
        let Some(token) = &self.token else { return Ok(Pass::Free) };
        let is_right = |given: &str| bool::from(given.as_bytes().ct_eq(token.as_bytes()));
        let bearer = single(headers, &header::AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .is_some_and(|(_, given)| is_right(given.trim()));
        let prefix = format!("{}=", self.cookie);
        let cookie = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().strip_prefix(&prefix))
            .any(is_right);
        // In an address only for the page: addresses are logged, and shown. A form writes the spaces that were
        // pasted along as `+`.
        let in_address = (method == Method::GET && uri.path() == "/")
            .then(|| uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("token=")))
            .flatten()
            .map(|given| given.trim_matches('+'));
        if in_address.is_some_and(is_right) {
            let secure = if self.secure { "; Secure" } else { "" };
            let cookie = &self.cookie;
            return Ok(Pass::WithCookie(format!(
                "{cookie}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000{secure}"
            )));
        }
        if bearer || cookie {
            return Ok(Pass::Free);
        }
        let given = in_address.is_some() || headers.contains_key(header::AUTHORIZATION);
        Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            if given { WRONG_TOKEN } else { "no_token" },
            if given { "that is not this server's token" } else { "this server asks for a token" },
            "open the link that the server printed, or send the token as `Authorization: Bearer …`",
        ))
    }

    fn is_own(&self, name: &str) -> bool {
        match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => self.any_address || address.is_loopback(),
            Err(_) => self.names.iter().any(|own| own == name) || name.ends_with(".localhost"),
        }
    }
}

fn foreign_page(headers: &HeaderMap) -> Refusal {
    let origin = single(headers, &header::ORIGIN).unwrap_or("another site");
    Refusal::new(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        format!("a page of {} may not use this server", shorten(origin)),
        "open the server's own page",
    )
}

/// A header's value when it is there exactly once and is text.
fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The name in `name`, `name:port`, `[v6]` or `[v6]:port`, in lower case and without a dot at its end.
fn host_name(authority: &str) -> Option<String> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (&authority[..address.len() + 2], rest.strip_prefix(':').or(rest.is_empty().then_some("0"))?)
        }
        None => authority.split_once(':').unwrap_or((authority, "0")),
    };
    port.parse::<u16>().ok()?;
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '[' | ']' | ':');
    (!name.is_empty() && name.len() <= 253 && name.chars().all(plain)).then_some(name)
}

fn checked_token(token: &str) -> Result<String, RuntimeError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
    if (MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) && token.chars().all(plain) {
        return Ok(token.to_string());
    }
    Err(RuntimeError::Serve(format!(
        "the token has {} characters; expected {MIN_TOKEN} to {MAX_TOKEN} of A-Z a-z 0-9 - _ . ~; hint: without one, a fresh one is made",
        token.chars().count()
    )))
}

/// 128 random bits in hexadecimal.
fn fresh_token() -> Result<String, RuntimeError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| RuntimeError::Serve(format!("no random bits for a token: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn guard(listen: &str, token: Option<&str>) -> Guard {
        let mut config = ServeConfig::with_styles(Vec::new());
        config.listen = listen.parse().unwrap();
        config.token = token.map(str::to_string);
        config.allow_hosts = vec!["Studio.example".into()];
        Guard::new(&config, 7878).unwrap()
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_its_own_names_reach_it() {
        let (local, open) = (guard("127.0.0.1:0", None), guard("0.0.0.0:0", None));
        for (host, on_loopback, elsewhere) in [
            ("localhost:7878", true, true),
            ("LOCALHOST", true, true),
            ("impasto.localhost", true, true),
            ("127.0.0.1:1", true, true),
            ("127.9.9.9", true, true),
            ("[::1]:7878", true, true),
            ("studio.example", true, true),
            ("studio.example.:443", true, true),
            ("192.168.1.5:7878", false, true),
            ("[fe80::1]", false, true),
            ("evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("notlocalhost", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("localhost:port", false, false),
            ("localhost@evil.example", false, false),
            ("", false, false),
        ] {
            let request = headers(&[("host", host)]);
            assert_eq!(local.check_origin(&request).is_ok(), on_loopback, "{host} on loopback");
            assert_eq!(open.check_origin(&request).is_ok(), elsewhere, "{host} elsewhere");
        }
        assert!(local.check_origin(&headers(&[])).is_err());
        assert!(local.check_origin(&headers(&[("host", "localhost"), ("host", "localhost")])).is_err());
    }

    #[test]
    fn other_pages_stay_outside() {
        let guard = guard("127.0.0.1:0", None);
        for (pairs, passes) in [
            (&[("origin", "http://localhost:7878")][..], true),
            (&[("origin", "https://localhost:7878")], true),
            (&[("origin", "http://localhost:7879")], false),
            (&[("origin", "http://localhost")], false),
            (&[("origin", "http://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "")], false),
            (&[("origin", "http://localhost:7878"), ("origin", "http://evil.example")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], true),
        ] {
            let mut request = headers(pairs);
            request.insert(header::HOST, "localhost:7878".parse().unwrap());
            assert_eq!(guard.check_origin(&request).is_ok(), passes, "{pairs:?}");
        }
    }

    #[test]
    fn with_tls_a_page_without_it_is_another() {
        let mut guard = guard("127.0.0.1:0", None);
        guard.secure = true;
        let check = |origin: &str| {
            guard.check_origin(&headers(&[("host", "localhost:7878"), ("origin", origin)])).is_ok()
        };
        assert!(check("https://localhost:7878") && !check("http://localhost:7878"));
    }

    #[test]
    fn a_token_is_asked_for_where_others_may_come() {
        let alone = ServeConfig::with_styles(Vec::new());
        assert_eq!(Guard::new(&alone, 7878).unwrap().token(), None);
        assert_eq!(guard("[::1]:0", Some(TOKEN)).token(), Some(TOKEN));
        // With a further name there is a proxy, and behind it anybody.
        assert!(guard("127.0.0.1:0", None).token().is_some());
        let (one, other) = (guard("0.0.0.0:0", None), guard("0.0.0.0:0", None));
        assert!(one.token().unwrap().len() == 32 && one.token() != other.token());
    }

    #[test]
    fn a_token_passes_as_link_cookie_and_bearer() {
        let guard = guard("0.0.0.0:0", Some(TOKEN));
        let check = |path: &str, pairs: &[(&str, &str)]| {
            guard.check_token(&Method::GET, &path.parse().unwrap(), &headers(pairs))
        };
        let bearer = format!("Bearer {TOKEN}");
        let cookie = format!("a=b; impasto_7878={TOKEN}");
        assert_eq!(check("/api/styles", &[("authorization", &bearer)]).unwrap(), Pass::Free);
        assert_eq!(check("/live", &[("cookie", &cookie)]).unwrap(), Pass::Free);
        let Pass::WithCookie(set) = check(&format!("/?token={TOKEN}"), &[]).unwrap() else {
            panic!("no cookie")
        };
        assert!(set.contains("HttpOnly; SameSite=Strict") && !set.contains("Secure"), "{set}");
        for (path, pairs) in [
            ("/", &[][..]),
            ("/?token=0123456789abcdee", &[]),
            ("/?token=", &[]),
            ("/api/styles?token=0123456789abcdef", &[]),
            ("/", &[("authorization", "Basic 0123456789abcdef")]),
            ("/", &[("authorization", "Bearer 0123456789abcde")]),
            ("/", &[("cookie", "impasto_7879=0123456789abcdef")]),
        ] {
            assert_eq!(check(path, pairs).unwrap_err().status, StatusCode::UNAUTHORIZED, "{path} {pairs:?}");
        }
    }

    #[test]
    fn a_weak_token_is_refused_at_the_start() {
        let mut config = ServeConfig::with_styles(Vec::new());
        for token in ["", "short", "0123456789 abcdef", "0123456789;abcdef", &"a".repeat(257)] {
            config.token = Some(token.to_string());
            let error = Guard::new(&config, 1).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("16 to 256"), "{error}");
        }
        config.token = None;
        config.allow_hosts = vec!["http://a.example/".into()];
        assert!(Guard::new(&config, 1).is_err());
    }
}
