// The page: pictures and camera frames go to the server over a WebSocket, one at a time, and come back painted.

const $ = (id) => document.getElementById(id);
const frame = $("frame"), painted = $("painted"), original = $("original"), split = $("split");
const message = $("message"), figures = $("figures"), connection = $("connection");

// Longer side of a picture's preview.
const PREVIEW = 1024;
// A frame that has not come back by then is given up with its connection.
const PATIENCE = 60_000;

const settings = { style: null, strength: 1, stroke_scale: 1, keep_colors: false };
let limits = { frame_bytes: 2 << 20, frame_pixels: 1 << 20, seen_pixels: 2 << 20, body_bytes: 32 << 20, pixels: 30e6 };

// The token, if it came in the address, is a cookie now; it need not stay where it is seen and shared.
if (location.search) history.replaceState(null, "", location.pathname);

// ---------- words ----------

let topic = ""; // what the message is about

function say(text, kind = "", about = "") {
  if (message.textContent !== text) message.textContent = text;
  message.className = `message ${kind}`;
  topic = about;
}

// What it was about is well again.
function unsay(about) {
  if (topic === about) say("");
}

function connected(state, text) {
  connection.dataset.state = state;
  $("connection-text").textContent = text;
}

const megapixels = (pixels) => `${(pixels / 1e6).toFixed(1)} megapixels`;

// ---------- what is painted: a picture, or the camera ----------

let picture = null; // { bitmap, file, name, blob, key }
let camera = null; // { video, stream, facing, device, mirrored }
let loading = 0; // the last picture or camera asked for

// Few browsers read the pictures of phones; the server does.
async function decoded(file, name) {
  try {
    return { bitmap: await createImageBitmap(file), file };
  } catch (error) {
    if (!/\.(heic|heif|hif)$/i.test(name)) throw error;
    say("Opening a phone's picture …");
    const answer = await fetch("/api/stylize?strength=0&format=jpeg&quality=95", { method: "POST", body: file });
    if (!answer.ok) throw { told: `The server did not take this picture: ${(await answer.json()).error}.` };
    const jpeg = await answer.blob();
    return { bitmap: await createImageBitmap(jpeg), file: jpeg };
  }
}

async function openPicture(chosen, name) {
  const asked = ++loading;
  let bitmap, file;
  try {
    ({ bitmap, file } = await decoded(chosen, name));
  } catch ({ told }) {
    const words = told ?? "This file is not a picture that the browser can read. JPEG, PNG, WebP, HEIC and GIF work.";
    if (asked === loading) say(words, "error");
    return;
  }
  if (asked !== loading) return;
  stopCamera();
  picture?.bitmap.close();
  picture = { bitmap, file, name, blob: null, key: "" };
  const pixels = bitmap.width * bitmap.height;
  if (file.size > limits.body_bytes || pixels > limits.pixels) {
    const size = file.size > limits.body_bytes ? `${(file.size / 1e6).toFixed(0)} MB` : megapixels(pixels);
    say(`This picture is larger (${size}) than the server takes, so it is made smaller before it is sent.`);
  } else {
    say("");
  }
  figures.textContent = "";
  offerFull();
  changed();
}

async function startCamera(which = { facingMode: "user" }) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    say(
      `Browsers give the camera only to pages that come over HTTPS or from localhost, and this one came from ${location.origin}. ` +
        "Open it on the machine that it runs on, or start the server with --tls-cert and --tls-key.",
      "error",
    );
    return;
  }
  const asked = ++loading;
  let stream = null;
  try {
    say("Asking for the camera …");
    // The one camera is let go before the other is asked for: many devices give one at a time.
    stopCamera();
    stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { ...which, width: { ideal: 1280 }, height: { ideal: 720 } },
    });
    if (asked !== loading) return;
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.srcObject = stream;
    await video.play();
    if (asked !== loading) return;
    const [track] = stream.getVideoTracks();
    const { facingMode: facing, deviceId: device } = track.getSettings();
    camera = { video, stream, facing, device, mirrored: facing !== "environment" };
    track.addEventListener("ended", () => {
      if (camera?.stream === stream) {
        stopCamera();
        say("The camera was taken away. Press “Use camera” to go on.", "error");
      }
    });
    $("camera").textContent = "Stop camera";
    $("camera").setAttribute("aria-pressed", "true");
    $("detail-row").hidden = false;
    offerFull();
    say("");
    setSplit(0);
    pump();
    const devices = await listCameras();
    if (camera?.stream === stream) $("flip").hidden = devices.length < 2;
  } catch (error) {
    const words = {
      NotAllowedError: "The camera was not allowed. The browser’s address bar lets you change that.",
      NotFoundError: "There is no camera here.",
      NotReadableError: "The camera is in use by another program.",
      OverconstrainedError: "There is no such camera here.",
    };
    if (asked !== loading) return;
    say(words[error.name] ?? `The camera did not start: ${error.message}`, "error");
    changed(); // back to the picture, if there is one
  } finally {
    // A camera that nobody watches must not stay on: it was refused, or something else was asked for meanwhile.
    if (stream && camera?.stream !== stream) for (const track of stream.getTracks()) track.stop();
  }
}

const listCameras = async () => (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");

// A telephone's cameras say where they look, and the other side's is wanted; others come one after the other.
async function otherCamera() {
  const { facing, device } = camera ?? {};
  if (facing) return startCamera({ facingMode: facing === "user" ? "environment" : "user" });
  const devices = await listCameras();
  const next = devices[(devices.findIndex(({ deviceId }) => deviceId === device) + 1) % devices.length];
  if (next) startCamera({ deviceId: { exact: next.deviceId } });
}

function stopCamera() {
  if (!camera) return;
  for (const track of camera.stream.getTracks()) track.stop();
  camera.video.srcObject = null;
  camera = null;
  painting = [];
  figures.textContent = "";
  $("camera").textContent = "Use camera";
  $("camera").setAttribute("aria-pressed", "false");
  $("detail-row").hidden = true;
  $("flip").hidden = true;
  offerFull();
}

// A picture larger than its preview can be painted whole.
function offerFull() {
  $("full").hidden = camera !== null || !picture || Math.max(picture.bitmap.width, picture.bitmap.height) <= PREVIEW;
}

// ---------- frames: one in flight ----------

let socket = null;
let flight = null; // { id, at, canvas }
let busy = false; // a frame is being made
let dirty = false; // the picture or a setting has changed since the last frame
let number = 0;
let painting = []; // times of the last paintings, for the frame rate
const grabs = [document.createElement("canvas"), document.createElement("canvas")];

// The size at which a source goes to the server: within `longest`, and within what the server takes.
function fit(width, height, longest) {
  const seen = width * height * Math.max(1, settings.stroke_scale ** 2 * (limits.frame_pixels / limits.seen_pixels));
  const scale = Math.min(1, longest / Math.max(width, height), Math.sqrt(limits.frame_pixels / seen));
  return [Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale))];
}

function draw(canvas, source, width, height, mirrored) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  if (mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(source, 0, 0, width, height);
  context.setTransform(1, 0, 0, 1, 0, 0);
}

const toBlob = (canvas, type, quality) => new Promise((done) => canvas.toBlob(done, type, quality));

async function grab() {
  const canvas = grabs[number % 2];
  if (camera) {
    const { video, mirrored } = camera;
    // Nothing new to paint yet: others may have their turn.
    if (video.readyState < 2 || !video.videoWidth || video.currentTime === camera.seen) return null;
    camera.seen = video.currentTime;
    const [width, height] = fit(video.videoWidth, video.videoHeight, Number($("detail").value));
    draw(canvas, video, width, height, mirrored);
    return { canvas, live: true, blob: await toBlob(canvas, "image/jpeg", 0.85) };
  }
  if (!picture) return null;
  const { bitmap } = picture;
  const [width, height] = fit(bitmap.width, bitmap.height, PREVIEW);
  const key = `${width}×${height}`;
  if (picture.key !== key) {
    const mine = picture;
    const still = document.createElement("canvas");
    draw(still, bitmap, width, height, false);
    mine.still = still;
    mine.blob = await toBlob(still, "image/jpeg", 0.92);
    mine.key = key;
  }
  return picture.key === key ? { canvas: picture.still, live: false, blob: picture.blob } : null;
}

async function pump() {
  if (busy || flight || socket?.readyState !== WebSocket.OPEN) return;
  if (camera ? document.hidden : !dirty) return;
  busy = true;
  dirty = false;
  try {
    const grabbed = await grab();
    if (!grabbed?.blob) {
      if (camera || picture) setTimeout(changed, camera ? 8 : 100);
      return;
    }
    const { canvas, live, blob } = grabbed;
    if (live !== (camera !== null)) {
      setTimeout(changed); // the camera was started or stopped meanwhile
      return;
    }
    if (socket?.readyState !== WebSocket.OPEN) {
      dirty = true;
      return;
    }
    const id = number++ >>> 0;
    const head = new DataView(new ArrayBuffer(4));
    head.setUint32(0, id, true);
    flight = { id, at: performance.now(), canvas, live };
    socket.send(new Blob([head, blob]));
    // A picture that takes its time says so; a camera's frames are seen to move.
    const sent = flight;
    if (!camera) setTimeout(() => flight === sent && (figures.textContent = "painting …"), 250);
  } finally {
    busy = false;
  }
}

function changed() {
  dirty = true;
  pump();
}

async function show(buffer) {
  const head = new DataView(buffer);
  const done = flight;
  if (!done || done.id !== head.getUint32(0, true)) return;
  const waited = head.getUint32(4, true) / 1000, took = head.getUint32(8, true) / 1000;
  const bitmap = await createImageBitmap(new Blob([buffer.slice(12)], { type: "image/jpeg" }));
  if (flight !== done) return bitmap.close();
  draw(painted, bitmap, bitmap.width, bitmap.height, false);
  draw(original, done.canvas, bitmap.width, bitmap.height, false);
  frame.style.setProperty("--ratio", (bitmap.width / bitmap.height).toFixed(4));
  bitmap.close();
  const now = performance.now();
  flight = null;
  painted.dataset.count = Number(painted.dataset.count ?? 0) + 1;
  $("download").disabled = false;
  if (done.live && camera) {
    painting = [...painting.filter((at) => now - at < 2000), now];
    const seconds = (now - painting[0]) / 1000;
    const rate = seconds > 0.3 ? `${((painting.length - 1) / seconds).toFixed(painting.length > 20 ? 0 : 1)} fps · ` : "";
    figures.textContent = `${rate}${Math.round(now - done.at)} ms`;
  } else if (!camera) {
    figures.textContent = `painted in ${Math.round(took)} ms`;
  }
  if (waited > 1000) say(`The server is busy: this took ${(waited / 1000).toFixed(1)} s to have its turn.`, "", "painting");
  else unsay("painting");
  pump();
}

// What is in flight does not become a painting.
function failed(words) {
  flight = null;
  if (!camera) figures.textContent = "";
  say(words, "error", "painting");
  // Not at once: the next frame of a camera may fail the same way. A picture has its turn when something was changed.
  setTimeout(pump, 1000);
}

// ---------- the connection ----------

let attempts = 0;

function connect() {
  connected("", attempts ? "reconnecting" : "connecting");
  const mine = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
  mine.binaryType = "arraybuffer";
  socket = mine;
  mine.addEventListener("message", ({ data }) => {
    if (typeof data !== "string") {
      show(data).catch(() => failed("A painting came back broken."));
      return;
    }
    const told = JSON.parse(data);
    if (told.type === "hello") {
      attempts = 0;
      limits = { ...limits, ...told };
      connected("open", "connected");
      unsay("connection");
      begin(mine);
    } else if (told.type === "error") {
      const words = `Not painted: ${told.error}. Hint: ${told.hint}.`;
      if (told.id === flight?.id) failed(words);
      else say(words, "error", "painting");
    }
  });
  mine.addEventListener("close", ({ code, reason }) => {
    if (socket !== mine) return;
    flight = null;
    figures.textContent = "";
    dirty = true;
    attempts += 1;
    const wait = Math.min(15, 0.5 * 2 ** Math.min(attempts, 6)) * (0.75 + Math.random() / 2);
    connected("closed", "not connected");
    if (code === 1013) say("The server is busy with as many people as it takes. Trying again by itself.", "error", "connection");
    else if (reason) say(`The connection was closed: ${reason}. Trying again by itself.`, "error", "connection");
    else if (attempts > 1) say("The server is not there. Trying again by itself.", "error", "connection");
    setTimeout(connect, wait * 1000);
    // A server that was started anew may ask for another token: the page itself says how to go on.
    if (attempts > 1) {
      fetch("/api/styles").then((answer) => answer.status === 401 && location.reload(), () => {});
    }
  });
}

// A server that comes back may have other styles than the one before it.
async function begin(mine) {
  await listStyles();
  if (socket !== mine) return;
  sendSettings();
  changed();
}

function sendSettings() {
  if (socket?.readyState === WebSocket.OPEN && settings.style) socket.send(JSON.stringify(settings));
}

setInterval(() => {
  if (flight && performance.now() - flight.at > PATIENCE) socket?.close();
}, 5000);
document.addEventListener("visibilitychange", pump);

// ---------- controls ----------

function set(change) {
  Object.assign(settings, change);
  sendSettings();
  changed();
}

let listed = ""; // the styles that are shown, as the server told them

async function listStyles() {
  try {
    const answer = await fetch("/api/styles");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const told = await answer.text();
    if (told !== listed) showStyles(JSON.parse(told));
    listed = told;
    unsay("styles");
  } catch (error) {
    say(`The styles could not be listed: ${error.message}.`, "error", "styles");
  }
}

function showStyles(styles) {
  const labels = styles.map((style) => {
    const label = document.createElement("label");
    label.className = "style";
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "style", value: style.name });
    const image = Object.assign(document.createElement("img"), { src: style.thumbnail, alt: "", width: 144, height: 96 });
    image.addEventListener("error", () => setTimeout(() => (image.src = `${style.thumbnail}&again`), 3000), { once: true });
    const name = Object.assign(document.createElement("span"), { className: "name", textContent: style.title });
    if (style.painting) label.title = style.painting;
    radio.addEventListener("change", () => {
      set({ style: style.name });
      label.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    radio.checked = style.name === settings.style;
    label.append(radio, image, name);
    return label;
  });
  $("styles").replaceChildren(...labels);
  if (styles.some(({ name }) => name === settings.style)) return;
  labels[0].querySelector("input").checked = true;
  settings.style = styles[0].name;
}

$("strength").addEventListener("input", ({ target }) => {
  $("strength-value").textContent = `${target.value} %`;
  set({ strength: target.value / 100 });
});

// Broad strokes to the right: the network sees the picture smaller. Ten steps are a factor of 2.5.
$("strokes").addEventListener("input", ({ target }) => {
  const broad = Number(target.value);
  const text = broad === 0 ? "as painted" : `${(2.5 ** (Math.abs(broad) / 10)).toFixed(1)} × ${broad > 0 ? "broader" : "finer"}`;
  $("strokes-value").textContent = text;
  target.setAttribute("aria-valuetext", text);
  set({ stroke_scale: Number((2.5 ** (-broad / 10)).toFixed(4)) });
});

$("keep").addEventListener("change", ({ target }) => set({ keep_colors: target.checked }));

function setSplit(percent) {
  split.value = percent;
  frame.style.setProperty("--split", `${percent}%`);
  frame.dataset.split = percent === 0 ? "none" : percent === 100 ? "all" : percent < 12 ? "little" : percent > 88 ? "most" : "some";
  split.setAttribute("aria-valuetext", `${percent} % photo, ${100 - percent} % painting`);
}
split.addEventListener("input", () => setSplit(Number(split.value)));

$("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) openPicture(file, file.name);
  target.value = "";
});

$("camera").addEventListener("click", () => {
  if (!camera) return startCamera();
  stopCamera();
  changed(); // back to the picture, if there is one
});
$("flip").addEventListener("click", otherCamera);
$("detail").addEventListener("change", changed);

let dragged = 0;
const withFiles = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (!withFiles(event)) return;
  dragged += 1;
  $("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!withFiles(event)) return;
  dragged = Math.max(0, dragged - 1);
  $("drop").hidden = dragged === 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragged = 0;
  $("drop").hidden = true;
  const [file] = event.dataTransfer?.files ?? [];
  if (file) openPicture(file, file.name);
  else say("What was dropped is no file. Save the picture first, then open or drop its file.", "error");
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData?.files ?? [];
  if (file) openPicture(file, "picture");
});

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const title = () => (camera || !picture ? "camera" : picture.name.replace(/\.[^.]*$/, ""));

$("download").addEventListener("click", async () => {
  const blob = await toBlob(painted, "image/jpeg", 0.95);
  if (blob) save(blob, `${title()}-${settings.style}.jpg`);
});

// What the server reads too. A browser may read more: AVIF.
const READABLE = ["image/jpeg", "image/png", "image/webp", "image/heic", "image/heif", "image/bmp", "image/tiff", "image/gif"];

// The whole picture through the interface for programs.
$("full").addEventListener("click", async ({ target }) => {
  if (!picture) return;
  const { bitmap, file, name } = picture;
  target.disabled = true;
  say("Painting at full size …");
  try {
    let body = file;
    const scale = Math.sqrt(limits.pixels / (bitmap.width * bitmap.height * Math.max(1, settings.stroke_scale ** 2)));
    if (scale < 1 || file.size > limits.body_bytes || !READABLE.includes(file.type)) {
      const canvas = document.createElement("canvas");
      const fitting = Math.min(1, scale * 0.999);
      draw(canvas, bitmap, Math.floor(bitmap.width * fitting), Math.floor(bitmap.height * fitting), false);
      body = await toBlob(canvas, "image/jpeg", 0.9);
      if (!body || body.size > limits.body_bytes) throw new Error("the picture is too large for this server");
    }
    const answer = await fetch(`/api/stylize?${new URLSearchParams({ ...settings, format: "jpeg", quality: 92 })}`, { method: "POST", body });
    if (!answer.ok) {
      const { error, hint } = await answer.json();
      throw new Error(`${error}. Hint: ${hint}`);
    }
    save(await answer.blob(), `${name.replace(/\.[^.]*$/, "")}-${settings.style}-full.jpg`);
    say("Painted at full size. Strokes keep their size in pixels, so there they are finer.");
  } catch (error) {
    const words = error instanceof TypeError ? "the connection broke, perhaps because the picture is too large" : error.message;
    say(`Not painted at full size: ${words}.`, "error");
  } finally {
    target.disabled = false;
  }
});

// ---------- begin ----------

setSplit(50);
connect();
listStyles();
fetch("/sample.jpg")
  .then((answer) => answer.blob())
  .then((blob) => loading === 0 && openPicture(blob, "lake.jpg"))
  .catch(() => {});
