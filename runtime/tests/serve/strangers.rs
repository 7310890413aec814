//! Whom the server does not let in.

use super::support::{Running, config, photo, png, start};

const TOKEN: &str = "a-token-of-the-tests";

#[test]
fn a_foreign_name_is_not_answered_to() {
    let server = Running::new();
    for host in ["evil.example", "evil.example:80", "192.168.1.1", "", "localhost.evil.example"] {
        for path in ["/", "/healthz", "/api/styles", "/metrics"] {
            let error = server.request("GET", path, &[("Host", host)], b"").refusal(421);
            assert!(error.contains("not called"), "{error}");
        }
    }
    let port = server.address.port();
    for host in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), "localhost".to_string()] {
        assert_eq!(server.request("GET", "/", &[("Host", &host)], b"").status, 200, "{host}");
    }
}

#[test]
fn another_website_cannot_use_it() {
    let server = Running::new();
    let own = format!("http://localhost:{}", server.address.port());
    let picture = png(&photo(12, 12));
    for origin in ["http://evil.example", "null", "http://localhost:1", "https://localhost"] {
        let headers = [("Origin", origin)];
        server.request("POST", "/api/stylize", &headers, &picture).refusal(403);
        server.request("GET", "/api/styles", &headers, b"").refusal(403);
        let error = server.live_with(&headers).map(|_| ()).expect_err("no handshake");
        assert!(error.contains("403"), "{error}");
    }
    let image = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
    server.request("GET", "/thumbnails/one", &image, b"").refusal(403);

    assert_eq!(server.request("POST", "/api/stylize", &[("Origin", &own)], &picture).status, 200);
    assert!(server.live_with(&[("Origin", &own)]).is_ok());
    assert_eq!(server.metric("impasto_refused_total{reason=\"foreign_origin\"}"), 13.0);
}

#[test]
fn a_server_with_a_token_wants_it_everywhere_but_for_its_pulse() {
    let mut config = config();
    config.token = Some(TOKEN.to_string());
    let server = start(config);
    assert_eq!(server.token.as_deref(), Some(TOKEN));
    let picture = png(&photo(12, 12));
    let bearer = format!("Bearer {TOKEN}");
    let cookie = format!("impasto_{}={TOKEN}", server.address.port());
    for (name, right, wrong) in [
        ("Authorization", &*bearer, "Bearer a-token-of-the-testz"),
        ("Cookie", &*cookie, "impasto=a-token-of-the-tests"),
    ] {
        for (path, method, body) in
            [("/api/styles", "GET", &b""[..]), ("/api/stylize", "POST", &picture), ("/metrics", "GET", b"")]
        {
            server.request(method, path, &[], body).refusal(401);
            server.request(method, path, &[(name, wrong)], body).refusal(401);
            assert_eq!(server.request(method, path, &[(name, right)], body).status, 200, "{path}");
        }
        assert!(server.live_with(&[]).map(|_| ()).expect_err("no handshake").contains("401"));
        assert!(server.live_with(&[(name, wrong)]).is_err());
        assert!(server.live_with(&[(name, right)]).is_ok());
    }
    assert_eq!(server.get("/healthz").status, 200);

    // The page asks for it, in words; with it in the address it opens and hands out the cookie.
    let locked = server.get("/");
    assert_eq!((locked.status, locked.header("set-cookie")), (401, None));
    assert!(String::from_utf8_lossy(&locked.body).contains("This server asks for a token"));
    assert!(!String::from_utf8_lossy(&locked.body).contains("not this server"));
    let wrong = server.get("/?token=wrong");
    assert_eq!(wrong.status, 401);
    assert!(String::from_utf8_lossy(&wrong.body).contains("not this server’s token"));
    assert_eq!(server.get(&format!("/?token=+{TOKEN}+")).status, 200);
    let open = server.get(&format!("/?token={TOKEN}"));
    assert_eq!(open.status, 200);
    let set = open.header("set-cookie").expect("a cookie");
    assert!(set.starts_with(&cookie) && set.contains("httponly; samesite=strict"), "{set}");
    // Not anywhere else: addresses are logged.
    server.get(&format!("/api/styles?token={TOKEN}")).refusal(401);
}

#[test]
fn beyond_loopback_there_is_always_a_token() {
    let mut config = config();
    config.listen = "0.0.0.0:0".parse().expect("an address");
    let server = start(config);
    let token = server.token.clone().expect("a token");
    assert_eq!(token.len(), 32);
    server.get("/api/styles").refusal(401);
    let bearer = format!("Bearer {token}");
    // Addresses in figures are names of its own there, other names still are not.
    let ask =
        |host: &str| server.request("GET", "/api/styles", &[("Host", host), ("Authorization", &bearer)], b"");
    assert_eq!(ask("192.168.1.7:7878").status, 200);
    ask("evil.example").refusal(421);
}
