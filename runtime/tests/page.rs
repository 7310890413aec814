//! The page in a real browser: headless Chromium with a camera that shows a clip.

#[path = "page/cdp.rs"]
mod cdp;

use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cdp::{Browser, PATIENCE};
use impasto::picture::{DecodeOptions, EncodeOptions, Picture};
use impasto::serve::{ServeConfig, Server, Stopper};
use impasto::{Frame, StylizerOptions};
use impasto_checkpoints::shipped;
use impasto_test_support::{repository, skipped};
use serde_json::json;

/// A server with a further name asks for one.
const TOKEN: &str = "0123456789abcdef";

/// A red AVIF of 1100×16: larger than its preview, as few bytes as can be (Pillow, quality 20).
const AVIF: &str = "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUIAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAA\
     AAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAMQAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xv\
     cgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAETAAAABAAAAAQcGl4aQAAAAADCAgIAAAADGF2MUOBAAwAAAAAE2NvbHJuY2x4AAEADQAG\
     gAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAOW1kYXQSAAoJGCjiX7ZAQ0GhMiIWw8PCzuAAFgAAEKxDaQy3JHIFCaqx4nAq5JP757Nl19Mg";

/// The browser, a server with the shipped styles, and a folder with `clip.y4m` and `photo.png` in it.
struct Scene {
    browser: Browser,
    port: u16,
    stopper: Stopper,
    server: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
}

fn begin(port: u16) -> (u16, Stopper, JoinHandle<()>) {
    begin_with(port, |_| {})
}

fn begin_with(port: u16, change: impl FnOnce(&mut ServeConfig)) -> (u16, Stopper, JoinHandle<()>) {
    let mut config = ServeConfig::shipped().expect("styles");
    config.listen = ([127, 0, 0, 1], port).into();
    change(&mut config);
    config.painter = StylizerOptions::default();
    let server = Server::bind(config).expect("a server");
    let (port, stopper) = (server.address().port(), server.stopper());
    (port, stopper, std::thread::spawn(move || server.run()))
}

impl Scene {
    /// `None`, said in a line, when there is no Chromium.
    fn new(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let clip = folder.path().join("clip.y4m");
        write_clip(&clip);
        // 1500×900: larger than its preview. Red at the left, a chequerboard at the right.
        let rgb = (0..1500 * 900).flat_map(|at| match (at % 1500, at / 1500) {
            (x, _) if x < 750 => [200, 40, 30],
            (x, y) if (x / 60 + y / 60) % 2 == 0 => [240, 240, 200],
            _ => [20, 60, 140],
        });
        let photo = Picture::from(Frame::new(1500, 900, rgb.collect()).expect("a frame"));
        photo.save(folder.path().join("photo.png"), &EncodeOptions::default()).expect("saved");
        let Some(browser) = Browser::start(&clip) else {
            skipped(test, "Chromium is not installed");
            return None;
        };
        let (port, stopper, server) = begin(0);
        Some(Scene { browser, port, stopper, server: Some(server), folder })
    }

    fn url(&self) -> String {
        format!("http://localhost:{}/", self.port)
    }

    fn stop(&mut self) {
        self.stopper.stop();
        if let Some(server) = self.server.take() {
            server.join().expect("the server ended well");
        }
    }

    fn count(&mut self) -> f64 {
        self.browser.number("Number(painted.dataset.count ?? 0)")
    }

    /// Does something and waits for the painting that comes of it.
    fn repaint(&mut self, act: impl FnOnce(&mut Browser)) {
        let before = self.count();
        act(&mut self.browser);
        self.browser.wait(&format!("Number(painted.dataset.count) > {before}"));
        self.settle();
    }

    /// Waits until no painting has come for a moment.
    fn settle(&mut self) {
        let mut last = (self.count(), Instant::now());
        let begun = Instant::now();
        while last.1.elapsed() < Duration::from_millis(700) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.count();
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

/// 30 frames of 320×240 in which a bright bar walks over a pattern.
fn write_clip(path: &Path) {
    let mut clip = b"YUV4MPEG2 W320 H240 F15:1 Ip A1:1 C420jpeg\n".to_vec();
    for frame in 0..30usize {
        clip.extend(b"FRAME\n");
        clip.extend((0..320 * 240).map(|at| {
            let (x, y) = (at % 320, at / 320);
            let bar = (x + 320 - frame * 10) % 320 < 60;
            if bar { 235 } else { 40 + ((x / 20 + y / 20) % 2 * 90) as u8 }
        }));
        clip.extend(std::iter::repeat_n(90, 160 * 120));
        clip.extend(std::iter::repeat_n(170, 160 * 120));
    }
    std::fs::write(path, clip).expect("written");
}

fn difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64
}

#[test]
fn a_picture_the_camera_and_every_setting() {
    let Some(mut scene) = Scene::new("a_picture_the_camera_and_every_setting") else { return };
    let url = scene.url();
    scene.browser.open(&url);
    // It opens with a picture, painted.
    scene.browser.wait("painted.dataset.count >= 1");
    scene.settle();
    assert!(difference(&scene.browser.canvas("painted"), &scene.browser.canvas("original")) > 8.0);
    assert_eq!(
        scene.browser.number("document.querySelectorAll('.style').length"),
        shipped::names().count() as f64
    );
    scene
        .browser
        .wait("[...document.querySelectorAll('.style img')].every((image) => image.naturalWidth === 288)");

    // A picture of one's own.
    let photo = scene.folder.path().join("photo.png");
    scene.repaint(|browser| browser.choose("#file", &photo));
    let (first, original) = (scene.browser.canvas("painted"), scene.browser.canvas("original"));
    assert!(original[0] > 150.0 && original[2] < 80.0, "the left is red: {:?}", &original[..3]);
    assert!(difference(&first, &original) > 8.0);
    assert_eq!(scene.browser.number("painted.width"), 1024.0);

    // Each style is another painting.
    let mut paintings = vec![first];
    for style in ["wave", "the_scream", "mondrian"] {
        let click = format!("document.querySelector('input[value={style}]').click()");
        scene.repaint(|browser| {
            browser.value(&click);
        });
        let painting = scene.browser.canvas("painted");
        for other in &paintings {
            assert!(difference(&painting, other) > 8.0, "{style}");
        }
        paintings.push(painting);
    }

    // Strength, strokes, colours.
    let slide = |id: &str, value: i32| {
        format!("{id}.value = {value}; {id}.dispatchEvent(new Event('input', {{ bubbles: true }}))")
    };
    let full = scene.browser.canvas("painted");
    scene.repaint(|browser| {
        browser.value(&slide("strokes", 8));
    });
    assert!(difference(&scene.browser.canvas("painted"), &full) > 2.0);
    assert!(scene.browser.text("document.getElementById('strokes-value').textContent").contains("broader"));
    scene.repaint(|browser| {
        browser.value("keep.click()");
    });
    let kept = scene.browser.canvas("painted");
    assert!(difference(&kept, &original) < difference(&full, &original));
    scene.repaint(|browser| {
        browser.value(&slide("strength", 0));
    });
    assert!(difference(&scene.browser.canvas("painted"), &original) < 4.0);

    // What is shown, and the whole picture, as files.
    let downloads = scene.folder.path().join("downloads");
    std::fs::create_dir(&downloads).expect("a folder");
    let behaviour = json!({ "behavior": "allow", "downloadPath": downloads });
    scene.browser.call("Browser.setDownloadBehavior", behaviour);
    for (button, name, size) in [
        ("download", "photo-mondrian.jpg", (1024, 614)),
        ("full", "photo-mondrian-full.jpg", (1500, 900)),
        // What the browser can read and the server cannot.
        ("full", "flat-mondrian-full.jpg", (1100, 16)),
    ] {
        if name.starts_with("flat") {
            let drop = format!(
                "(() => {{ const bytes = Uint8Array.from(atob('{AVIF}'), (at) => at.charCodeAt(0)); \
                 const dropped = new DataTransfer(); dropped.items.add(new File([bytes], 'flat.avif', {{ type: 'image/avif' }})); \
                 dispatchEvent(new DragEvent('drop', {{ dataTransfer: dropped }})); }})()"
            );
            scene.repaint(|browser| {
                browser.value(&drop);
            });
        }
        scene.browser.value(&format!("document.getElementById('{button}').click()"));
        let (file, begun) = (downloads.join(name), Instant::now());
        let picture = loop {
            match Picture::open(&file, &DecodeOptions::default()) {
                Ok(picture) => break picture,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        assert_eq!((picture.width(), picture.height()), size, "{name}");
    }

    // The camera: it moves, and it is painted.
    scene.browser.value(&slide("strength", 100));
    scene.browser.value("camera.click()");
    let before = scene.count();
    scene.browser.wait("camera.getAttribute('aria-pressed') === 'true'");
    scene.browser.wait(&format!("painted.dataset.count > {} && painted.width <= 480", before + 5.0));
    let early = scene.browser.canvas("original");
    assert!(difference(&scene.browser.canvas("painted"), &early) > 4.0);
    scene.browser.wait(&format!("painted.dataset.count > {}", before + 15.0));
    assert!(difference(&scene.browser.canvas("original"), &early) > 1.0, "the clip moves");
    scene.browser.wait("/fps · \\d+ ms/.test(figures.textContent)");
    scene.repaint(|browser| {
        browser.value("camera.click()");
    });
    assert_eq!(scene.browser.number("painted.width"), 1024.0);

    // A larger picture can be painted whole again, once the camera is off.
    assert_eq!(scene.browser.value("full.hidden"), false);

    // No camera stays on that nobody watches: when it does not play, and when it is asked for twice.
    scene.browser.value(
        "(() => { window.streams = []; const devices = navigator.mediaDevices; \
         const ask = devices.getUserMedia.bind(devices); \
         devices.getUserMedia = async (wish) => { const stream = await ask(wish); streams.push(stream); return stream; }; \
         window.live = () => streams.flatMap((stream) => stream.getTracks()).filter((track) => track.readyState === 'live'); \
         window.play = HTMLMediaElement.prototype.play; \
         HTMLMediaElement.prototype.play = () => Promise.reject(new Error('on purpose')); })()",
    );
    scene.browser.value("camera.click()");
    scene.browser.wait("message.textContent.includes('did not start: on purpose')");
    scene.browser.wait("streams.length === 1 && live().length === 0");
    scene.browser.value("HTMLMediaElement.prototype.play = window.play; camera.click(); camera.click()");
    scene.browser.wait("camera.getAttribute('aria-pressed') === 'true'");
    scene.browser.wait("streams.length === 3 && live().length === 1");
    scene.repaint(|browser| {
        browser.value("camera.click()");
    });
    scene.browser.wait("live().length === 0");

    // Two cameras that do not say where they look: the other one is the other one.
    scene.browser.value(
        "(() => { const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices); window.asked = []; \
         const camera = (deviceId) => ({ kind: 'videoinput', deviceId }); \
         devices.enumerateDevices = async () => [camera('built in'), { kind: 'audioinput' }, camera('on the desk')]; \
         devices.getUserMedia = async (wish) => { const { deviceId } = wish.video; \
         asked.push(deviceId?.exact ?? 'any'); delete wish.video.deviceId; const stream = await ask(wish); \
         const [track] = stream.getVideoTracks(), own = track.getSettings.bind(track); \
         track.getSettings = () => ({ ...own(), facingMode: undefined, deviceId: deviceId?.exact ?? 'built in' }); \
         return stream; }; })()",
    );
    scene.browser.value("camera.click()");
    for asked in ["any", "any,on the desk", "any,on the desk,built in"] {
        scene.browser.wait(&format!("!flip.hidden && asked.join() === '{asked}'"));
        scene.browser.value("flip.click()");
    }
    scene.browser.wait("!flip.hidden && asked.length === 4");
    scene.repaint(|browser| {
        browser.value("camera.click()");
    });

    // A phone's picture: this browser cannot read it, the server does.
    let phone = scene.folder.path().join("phone.heic");
    std::fs::copy(repository("runtime/tests/fixtures/pictures/orientation_5.heic"), &phone).expect("copied");
    scene.repaint(|browser| {
        browser.choose("#file", &phone);
    });
    assert_eq!(scene.browser.number("painted.width"), 24.0);
    assert_eq!(scene.browser.number("painted.height"), 16.0);

    // What is no picture is said to be none.
    std::fs::write(scene.folder.path().join("note.png"), "hello").expect("written");
    let note = scene.folder.path().join("note.png");
    scene.browser.choose("#file", &note);
    scene.browser.wait("message.textContent.includes('not a picture')");

    // A phone's that the server cannot read either: its reason is shown. (The browser logs the refusal.)
    let half = std::fs::read(&phone).expect("read");
    std::fs::write(&phone, &half[..half.len() / 2]).expect("written");
    scene.browser.choose("#file", &phone);
    scene.browser.wait("message.textContent.includes('did not take this picture: the picture: broken')");
    scene.browser.errors.retain(|error| !error.contains("415"));

    // A link from another page, which many take for its picture.
    scene.browser.value(
        "(() => { const dropped = new DataTransfer(); dropped.setData('text/uri-list', 'https://example.org/a.jpg'); \
         dispatchEvent(new DragEvent('drop', { dataTransfer: dropped })); })()",
    );
    scene.browser.wait("message.textContent.includes('no file')");

    assert_eq!(scene.browser.errors, Vec::<String>::new());
    let own = format!("localhost:{}/", scene.port);
    let outside =
        |url: &String| !url.contains(&own) && !url.starts_with("blob:") && !url.starts_with("data:");
    assert_eq!(scene.browser.requests.iter().find(|url| outside(url)), None);
}

#[test]
fn by_keyboard_alone_and_on_a_phone() {
    let Some(mut scene) = Scene::new("by_keyboard_alone_and_on_a_phone") else { return };
    let url = scene.url();
    scene.browser.open(&url);
    let styles = shipped::names().count();
    let shown = format!("document.querySelectorAll('.style').length === {styles}");
    scene.browser.wait(&format!("painted.dataset.count >= 1 && {shown}"));
    scene.settle();
    let photo = scene.folder.path().join("photo.png");
    scene.repaint(|browser| browser.choose("#file", &photo));

    // Every control, in the order in which they are seen, with a ring around the one that has the focus.
    let mut order = Vec::new();
    for _ in 0..9 {
        scene.browser.press(&["Tab"]);
        order.push(scene.browser.text("document.activeElement.id || document.activeElement.name"));
        let ring = "(() => { let at = document.activeElement; if (!at.matches(':focus-visible')) return false; \
                    const ringed = (at) => at && getComputedStyle(at).outlineStyle === 'solid'; \
                    return [at, at.nextElementSibling, at.closest('.frame')].some(ringed); })()";
        assert!(scene.browser.value(ring) == true, "no ring around {order:?}");
        let label = "(() => { const at = document.activeElement; \
                     return at.labels?.[0]?.textContent || at.ariaLabel || at.textContent; })()";
        assert!(!scene.browser.text(label).trim().is_empty(), "no label for {order:?}");
    }
    assert_eq!(
        order,
        ["split", "style", "strength", "strokes", "keep", "file", "camera", "download", "full"]
    );

    // The seam by arrow keys.
    scene.browser.value("split.focus()");
    scene.browser.press(&["ArrowLeft", "ArrowLeft", "ArrowLeft"]);
    assert_eq!(
        scene.browser.text("document.getElementById('frame').style.getPropertyValue('--split')"),
        "47%"
    );
    assert_eq!(scene.browser.text("split.getAttribute('aria-valuetext')"), "47 % photo, 53 % painting");
    // A style, and each setting.
    let before = scene.browser.canvas("painted");
    scene.browser.value("document.querySelector('input[name=style]:checked').focus()");
    scene.repaint(|browser| browser.press(&["ArrowRight"]));
    let painted = scene.browser.canvas("painted");
    assert!(difference(&painted, &before) > 8.0);
    scene.browser.value("keep.focus()");
    scene.repaint(|browser| browser.press(&["Space"]));
    assert!(scene.browser.value("keep.checked") == true);
    scene.browser.value("strength.focus()");
    scene.repaint(|browser| browser.press(&["Home"]));
    assert!(difference(&scene.browser.canvas("painted"), &scene.browser.canvas("original")) < 4.0);
    scene.browser.value("document.getElementById('camera').focus()");
    scene.repaint(|browser| {
        browser.press(&["Enter"]);
        browser.wait("camera.getAttribute('aria-pressed') === 'true'");
        browser.press(&["Space"]);
        browser.wait("camera.getAttribute('aria-pressed') === 'false'");
    });

    // No screen scrolls sideways, and nothing that is pressed is smaller than a fingertip.
    for (width, height, mobile) in [(320, 568, true), (390, 844, true), (780, 360, true), (1280, 800, false)]
    {
        scene.browser.screen(width, height, mobile);
        let overflow = scene.browser.number("document.documentElement.scrollWidth - innerWidth");
        assert!(overflow <= 0.0, "{width}×{height}: {overflow} too wide");
        let small = scene.browser.text(
            "[...document.querySelectorAll('.button, .style, .slider input, .switch, select')] \
             .filter((at) => at.offsetParent && at.getBoundingClientRect().height < 24).map((at) => at.id).join()",
        );
        assert_eq!(small, "", "{width}×{height}");
        assert!(
            scene.browser.number("document.getElementById('frame').getBoundingClientRect().height") > 120.0
        );
    }
    // A scroll, ten times as high as wide, is seen whole and in its shape.
    let scroll = Picture::from(Frame::new(120, 1200, vec![90; 120 * 1200 * 3]).expect("a frame"));
    let path = scene.folder.path().join("scroll.png");
    scroll.save(&path, &EncodeOptions::default()).expect("saved");
    scene.repaint(|browser| browser.choose("#file", &path));
    for (width, height, mobile) in [(390, 844, true), (780, 360, true), (1280, 800, false)] {
        scene.browser.screen(width, height, mobile);
        let size = "(() => { const { width, height } = document.getElementById('frame').getBoundingClientRect(); \
                    return [width, height, height / width]; })()";
        let size: Vec<f64> =
            scene.browser.value(size).as_array().expect("three").iter().filter_map(|v| v.as_f64()).collect();
        assert!(size[1] <= f64::from(height) && (size[2] - 10.0).abs() < 0.1, "{width}×{height}: {size:?}");
    }
    for scheme in ["light", "dark"] {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        scene.browser.call("Emulation.setEmulatedMedia", media);
        // WCAG's contrast of text on its ground: 4.5 to 1.
        let contrast = scene.browser.number(
            "(() => { const light = (color) => { const c = color.match(/[\\d.]+/g).slice(0, 3) \
             .map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); \
             return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; }; \
             const ground = light(getComputedStyle(document.body).backgroundColor); \
             return Math.min(...[document.body, figures, ...document.querySelectorAll('.name, .value')].map((at) => { \
             const ink = light(getComputedStyle(at).color); \
             return (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05); })); })()",
        );
        assert!(contrast >= 4.5, "{scheme}: {contrast}");
    }
    assert_eq!(scene.browser.errors, Vec::<String>::new());
}

/// What failed is said until a painting comes, and what was changed meanwhile has its turn.
#[test]
fn after_a_failure_the_newest_wish_is_painted() {
    let Some(mut scene) = Scene::new("after_a_failure_the_newest_wish_is_painted") else { return };
    // A connection that keeps a frame to itself when told to, and then says that it failed.
    let source = "window.WebSocket = class extends WebSocket { send(data) { \
         if (!window.failing || typeof data === 'string') return super.send(data); \
         data.slice(0, 4).arrayBuffer().then((head) => { window.fail = () => { \
         const told = { type: 'error', id: new DataView(head).getUint32(0, true), error: 'it failed', hint: 'on purpose' }; \
         this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify(told) })); }; }); } }";
    scene.browser.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source }));
    let url = scene.url();
    scene.browser.open(&url);
    scene.browser.wait("painted.dataset.count >= 1 && document.querySelector('input[value=wave]') !== null");
    scene.settle();
    let before = scene.browser.canvas("painted");
    scene.browser.value("window.failing = true; document.querySelector('input[value=wave]').click()");
    scene.browser.wait("window.fail !== undefined && figures.textContent === 'painting …'");
    scene.browser.value("window.failing = false; document.querySelector('input[value=mondrian]').click()");
    scene.repaint(|browser| {
        let said = browser.text("(fail(), `${message.textContent}|${figures.textContent}`)");
        assert_eq!(said, "Not painted: it failed. Hint: on purpose.|");
    });
    assert!(difference(&scene.browser.canvas("painted"), &before) > 8.0);
    assert_eq!(scene.browser.text("message.textContent"), "");
    assert_eq!(scene.browser.errors, Vec::<String>::new());
}

#[test]
fn other_sites_insecure_names_and_a_server_that_comes_back() {
    let Some(mut scene) = Scene::new("other_sites_insecure_names_and_a_server_that_comes_back") else {
        return;
    };
    let (url, port) = (scene.url(), scene.port);

    // A page from elsewhere can neither read, nor post, nor paint.
    scene.browser.open("about:blank");
    for request in ["{}", "{ method: 'POST', body: 'x' }", "{ mode: 'no-cors' }"] {
        let reached = scene
            .browser
            .value(&format!("fetch('{url}api/styles', {request}).then((answer) => answer.ok, () => false)"));
        assert!(reached == false, "{request}");
    }
    let socket = format!(
        "new Promise((done) => {{ const socket = new WebSocket('ws://localhost:{port}/live'); \
         socket.onmessage = () => done('heard'); socket.onclose = () => done('closed'); }})"
    );
    assert_eq!(scene.browser.text(&socket), "closed");

    // By a name that is neither localhost nor HTTPS the page works, and says why the camera does not.
    let (named, stopper, server) = begin_with(0, |config| {
        config.allow_hosts = vec!["studio.example".to_string()];
        config.token = Some(TOKEN.to_string());
    });
    scene.browser.open(&format!("http://studio.example:{named}/?token={TOKEN}"));
    scene.browser.wait("painted.dataset.count >= 1");
    scene.browser.value("camera.click()");
    scene.browser.wait("message.textContent.includes('HTTPS or from localhost')");
    scene.browser.wait("message.textContent.includes('--tls-cert')");
    stopper.stop();
    server.join().expect("it ended well");

    // It comes back by itself when the server does.
    scene.browser.open(&url);
    scene.browser.wait("painted.dataset.count >= 1 && connection.dataset.state === 'open'");
    scene.stop();
    scene.browser.wait("connection.dataset.state === 'closed' || message.textContent !== ''");
    scene.browser.wait("/shutting down|not there/.test(message.textContent)");
    let (_, stopper, server) = begin(port);
    (scene.stopper, scene.server) = (stopper, Some(server));
    scene.browser.wait("connection.dataset.state === 'open'");
    scene.settle();
    scene.repaint(|browser| {
        browser.value("document.querySelector('input[value=wave]').click()");
    });
    assert_eq!(scene.browser.text("message.textContent"), "");

    // It comes back with other styles: those are shown, and one of them is chosen.
    let (wave, before) = (scene.browser.canvas("painted"), scene.count());
    scene.stop();
    scene.browser.wait("connection.dataset.state === 'closed'");
    let (_, stopper, server) = begin_with(port, |config| {
        config.styles.retain(|style| ["mondrian", "udnie"].contains(&&*style.name))
    });
    (scene.stopper, scene.server) = (stopper, Some(server));
    scene.browser.wait("document.querySelectorAll('.style').length === 2");
    scene.browser.wait(&format!("connection.dataset.state === 'open' && painted.dataset.count > {before}"));
    scene.settle();
    let chosen = "[...document.querySelectorAll('input[name=style]:checked')].map((at) => at.value).join()";
    assert_eq!(scene.browser.text(chosen), "mondrian");
    assert_eq!(scene.browser.text("message.textContent"), "");
    assert!(difference(&scene.browser.canvas("painted"), &wave) > 8.0);

    // It comes back, after several attempts, with another token: the page asks for that.
    scene.stop();
    let asked = |browser: &mut Browser| {
        browser.value("null"); // what has happened is noted on the way
        browser.requests.iter().filter(|url| url.ends_with("/api/styles")).count()
    };
    let (before, begun) = (asked(&mut scene.browser), Instant::now());
    while asked(&mut scene.browser) < before + 2 {
        assert!(begun.elapsed() < PATIENCE, "it asks no more");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (_, stopper, server) = begin_with(port, |config| config.token = Some(TOKEN.to_string()));
    (scene.stopper, scene.server) = (stopper, Some(server));
    scene.browser.wait("document.getElementById('token') !== null");
}
