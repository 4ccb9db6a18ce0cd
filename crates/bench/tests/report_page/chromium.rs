//! A browser without a window, driven through its own protocol over a pair of pipes, so that a page can be looked at
//! at any width, in light and dark, and on paper. The window of a headless Chromium is never narrower than 500 pixels;
//! the protocol's emulation is.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one page.
pub(crate) struct Chromium {
    child: Child,
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
    session: Option<String>,
    last_id: u64,
    _profile: tempfile::TempDir,
}

/// A picture of a page.
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Red, green, blue.
    pub(crate) pixels: Vec<[u8; 3]>,
}

impl Chromium {
    /// Starts one, or says why there is none.
    pub(crate) fn start() -> Result<Self, String> {
        let name = NAMES
            .into_iter()
            .find(|name| {
                let version = Command::new(name).arg("--version").output();
                version.is_ok_and(|output| output.status.success())
            })
            .ok_or("no Chromium is installed, see scripts/install-tools.sh")?;
        let profile = tempfile::tempdir().map_err(|error| error.to_string())?;
        // The protocol speaks on descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args([
                "-c",
                r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#,
                "sh",
                name,
            ])
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--hide-scrollbars",
                "--no-first-run",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let commands = child.stdin.take().unwrap();
        let replies = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self {
            child,
            commands,
            replies,
            session: None,
            last_id: 0,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached = browser.call(
            "Target.attachToTarget",
            &json!({ "targetId": target["targetId"], "flatten": true }),
        );
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        browser.call("Page.enable", &json!({}));
        Ok(browser)
    }

    /// Opens a file in a window of this width, and waits until it is drawn.
    pub(crate) fn open(&mut self, file: &Path, width: u32, scheme: &str) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", &json!({ "url": url }));
        self.wait_for("Page.loadEventFired");
    }

    /// The value of an expression in the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let mut reply = self.call("Runtime.evaluate", &parameters);
        assert!(
            reply.get("exceptionDetails").is_none(),
            "{expression}: {reply}"
        );
        reply["result"]["value"].take()
    }

    /// The whole page, also what is below the window.
    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let reply = self.call("Page.captureScreenshot", &parameters);
        BASE64_STANDARD
            .decode(reply["data"].as_str().unwrap())
            .unwrap()
    }

    /// The page on A4.
    pub(crate) fn print(&mut self) -> Vec<u8> {
        let parameters = json!({
            "paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": true, "printBackground": false,
        });
        let reply = self.call("Page.printToPDF", &parameters);
        BASE64_STANDARD
            .decode(reply["data"].as_str().unwrap())
            .unwrap()
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands
            .write_all(message.to_string().as_bytes())
            .unwrap();
        self.commands.write_all(&[0]).unwrap();
        loop {
            let mut reply = self.receive();
            if reply["id"] == self.last_id {
                assert!(reply.get("error").is_none(), "{method}: {reply}");
                return reply["result"].take();
            }
        }
    }

    fn wait_for(&mut self, event: &str) {
        while self.receive()["method"] != event {}
    }

    fn receive(&mut self) -> Value {
        let mut message = Vec::new();
        self.replies.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the browser ended");
        serde_json::from_slice(&message).unwrap()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its own way to end, which takes its other processes along.
        let close = json!({ "id": 0, "method": "Browser.close" }).to_string();
        let asked = self.commands.write_all(format!("{close}\0").as_bytes());
        if asked.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Picture {
    /// Reads a PNG of eight bits for each colour.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut buffer = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut buffer).unwrap();
        assert_eq!(info.bit_depth, png::BitDepth::Eight);
        let samples = info.color_type.samples();
        assert!(samples >= 3, "{:?} has no colours", info.color_type);
        Self {
            width: info.width,
            height: info.height,
            pixels: buffer
                .chunks_exact(samples)
                .map(|pixel| [pixel[0], pixel[1], pixel[2]])
                .collect(),
        }
    }

    /// How many pixels have about this colour, as `#rrggbb`.
    pub(crate) fn count(&self, color: &str) -> usize {
        let wanted = rgb(color);
        let near = |pixel: &&[u8; 3]| {
            let apart = pixel.iter().zip(wanted).map(|(a, b)| a.abs_diff(b));
            apart.max().unwrap() <= 6
        };
        self.pixels.iter().filter(near).count()
    }

    /// The share of pixels with about this colour.
    pub(crate) fn share(&self, color: &str) -> f64 {
        self.count(color) as f64 / self.pixels.len() as f64
    }
}

fn rgb(color: &str) -> [u8; 3] {
    let number = u32::from_str_radix(color.trim_start_matches('#'), 16).unwrap();
    let [_, red, green, blue] = number.to_be_bytes();
    [red, green, blue]
}
