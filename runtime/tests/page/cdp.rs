//! A browser for the page's test: headless Chromium, driven over the DevTools protocol.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A browser with one page.
pub struct Browser {
    process: Child,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: String,
    number: u64,
    /// What the page wrote to its console as an error, and exceptions nobody caught.
    pub errors: Vec<String>,
    /// Addresses that were asked for.
    pub requests: Vec<String>,
    _profile: TempDir,
}

impl Browser {
    /// Starts Chromium with a camera that shows a clip; `None` when there is no Chromium.
    pub fn start(clip: &Path) -> Option<Self> {
        let program = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
            Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
        })?;
        let profile = tempfile::tempdir().expect("a folder");
        let mut process = Command::new(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--remote-debugging-port=0", "--window-size=1280,800"])
            .args(["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
            .arg(format!("--use-file-for-fake-video-capture={}", clip.display()))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            // A name that is neither localhost nor HTTPS, to see what the page says there.
            .arg("--host-resolver-rules=MAP studio.example 127.0.0.1")
            .arg("about:blank")
            .stderr(Stdio::piped())
            .spawn()
            .expect("Chromium started");
        let mut lines = BufReader::new(process.stderr.take().expect("stderr")).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("listening on ").map(|(_, address)| address.to_string()))
            .expect("Chromium said where it listens");
        // A full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = tungstenite::connect(address).expect("connected to Chromium");
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        }
        let mut browser = Browser {
            process,
            socket,
            session: String::new(),
            number: 0,
            errors: Vec::new(),
            requests: Vec::new(),
            _profile: profile,
        };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let session =
            browser.call("Target.attachToTarget", json!({ "targetId": page["targetId"], "flatten": true }));
        browser.session = session["sessionId"].as_str().expect("a session").to_string();
        for domain in ["Page", "Runtime", "Log", "Network", "DOM"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method and gives its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut call = json!({ "id": self.number, "method": method, "params": params });
        if !self.session.is_empty() {
            call["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(call.to_string())).expect("sent");
        loop {
            let Message::Text(text) = self.socket.read().expect("an answer") else { continue };
            let told: Value = serde_json::from_str(&text).expect("JSON");
            if told["id"] == self.number {
                assert!(told["error"].is_null(), "{method}: {}", told["error"]);
                return told["result"].clone();
            }
            self.note(&told);
        }
    }

    fn note(&mut self, told: &Value) {
        let params = &told["params"];
        match told["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled")
                if matches!(params["type"].as_str(), Some("error" | "warning" | "assert")) =>
            {
                self.errors.push(params["args"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.errors.push(params["entry"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                self.requests.extend(params["request"]["url"].as_str().map(str::to_string));
            }
            Some("Network.webSocketCreated") => {
                self.requests.extend(params["url"].as_str().map(str::to_string))
            }
            _ => {}
        }
    }

    /// The value of an expression, or of what it promises.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let result = self.call("Runtime.evaluate", params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    pub fn number(&mut self, expression: &str) -> f64 {
        let value = self.value(expression);
        value.as_f64().unwrap_or_else(|| panic!("{expression} is {value}"))
    }

    pub fn text(&mut self, expression: &str) -> String {
        self.value(expression).as_str().unwrap_or_default().to_string()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.value(expression) != Value::Bool(true) {
            if begun.elapsed() > PATIENCE {
                let message = self.text("document.querySelector('#message')?.textContent ?? ''");
                panic!("never true: {expression}; the page says `{message}`; errors: {:?}", self.errors);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Goes to a page. A query is the page's own to take off again.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        let place = json!(url.split('?').next());
        self.wait(&format!("location.href.startsWith({place}) && document.readyState === 'complete'"));
    }

    /// Presses keys, one after the other: `Tab`, `ArrowLeft`, `Space`, `Enter`.
    pub fn press(&mut self, keys: &[&str]) {
        for &key in keys {
            let (name, code, text) = match key {
                "Tab" => ("Tab", 9, None),
                "ArrowLeft" => ("ArrowLeft", 37, None),
                "ArrowRight" => ("ArrowRight", 39, None),
                "Home" => ("Home", 36, None),
                "Space" => (" ", 32, Some(" ")),
                "Enter" => ("Enter", 13, Some("\r")),
                other => panic!("no key {other}"),
            };
            let mut down =
                json!({ "type": "keyDown", "key": name, "code": key, "windowsVirtualKeyCode": code });
            if let Some(text) = text {
                down["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", down);
            self.call(
                "Input.dispatchKeyEvent",
                json!({ "type": "keyUp", "key": name, "code": key, "windowsVirtualKeyCode": code }),
            );
        }
    }

    /// Chooses a file in a file input.
    pub fn choose(&mut self, selector: &str, file: &Path) {
        let root = self.call("DOM.getDocument", json!({}));
        let query = json!({ "nodeId": root["root"]["nodeId"], "selector": selector });
        let node = self.call("DOM.querySelector", query);
        self.call("DOM.setFileInputFiles", json!({ "files": [file], "nodeId": node["nodeId"] }));
    }

    /// The size of the page, as a screen would show it.
    pub fn screen(&mut self, width: u32, height: u32, mobile: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// A canvas's pixels at 64×48, RGB.
    pub fn canvas(&mut self, id: &str) -> Vec<f64> {
        let expression = format!(
            "(() => {{ const small = new OffscreenCanvas(64, 48).getContext('2d'); \
             small.drawImage(document.getElementById('{id}'), 0, 0, 64, 48); \
             return [...small.getImageData(0, 0, 64, 48).data].filter((_, at) => at % 4 < 3); }})()"
        );
        let values = self.value(&expression);
        values.as_array().expect("pixels").iter().map(|value| value.as_f64().expect("a number")).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to close, it takes its own processes with it.
        let close = json!({ "id": self.number + 1, "method": "Browser.close" });
        let _ = self.socket.send(Message::text(close.to_string()));
        let begun = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill(); // it has ended, as a rule
        let _ = self.process.wait();
    }
}
