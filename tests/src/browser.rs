//! Chromium without a screen, driven over WebDriver: <https://www.w3.org/TR/webdriver2/>.
//!
//! The commands go through curl, as everything that tests say over HTTP does: a dozen of them need no library.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::http::curl;
use crate::wait::{PATIENCE, until};

/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running browser with one window. It ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    session: String,
}

/// How a browser presents itself.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// `Accept-Language`.
    pub language: &'a str,
    pub width: u32,
    pub height: u32,
    pub scheme: Scheme,
    pub scripts: Scripts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Light,
    Dark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    Run,
    Off,
}

impl Look<'_> {
    /// English, as wide as a desk.
    pub const DESKTOP: Self = Self {
        language: "en",
        width: 1280,
        height: 900,
        scheme: Scheme::Light,
        scripts: Scripts::Run,
    };
}

impl Browser {
    /// Starts one whose profile lies in `directory`.
    ///
    /// # Panics
    /// There is no chromium, or it does not start.
    pub fn start(directory: &Path, look: Look<'_>) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`make deps` installs chromium-driver");
        let said = driver.stdout.take().expect("standard output is a pipe");
        let mut lines = BufReader::new(said).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| {
                let (_, rest) = line.split_once("started successfully on port ")?;
                Some(rest.trim_end_matches('.').to_owned())
            })
            .expect("chromedriver says its port");
        thread::spawn(move || lines.for_each(drop));
        let mut browser = Self {
            driver,
            session: format!("http://127.0.0.1:{port}/session"),
        };
        let profile = directory.join(format!("profile-{port}"));
        let made = browser.post("", &wanted(&profile, look));
        let id = made["sessionId"].as_str().expect("a session").to_owned();
        browser.session = format!("{}/{id}", browser.session);
        let scheme = match look.scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
        let size = json!({ "width": look.width, "height": look.height, "deviceScaleFactor": 1, "mobile": look.width < 600 });
        browser.devtools("Emulation.setDeviceMetricsOverride", &size);
        browser
    }

    pub fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// The address of the page that is shown.
    pub fn url(&self) -> String {
        self.get("/url").as_str().unwrap_or_default().to_owned()
    }

    /// Everything that can be read on the page.
    pub fn text(&self) -> String {
        self.text_of("body").unwrap_or_default()
    }

    /// What can be read in the first element of a CSS selector.
    pub fn text_of(&self, selector: &str) -> Option<String> {
        let id = self.find(selector)?;
        let text = self.get(&format!("/element/{id}/text"));
        text.as_str().map(str::to_owned)
    }

    /// Waits until the page says something.
    #[track_caller]
    pub fn says(&self, text: &str) {
        until(&format!("`{text}` on the page"), PATIENCE, || {
            self.text().contains(text).then_some(())
        });
    }

    #[track_caller]
    pub fn click(&self, selector: &str) {
        let id = self.element(selector);
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    #[track_caller]
    pub fn fill(&self, selector: &str, text: &str) {
        let id = self.element(selector);
        self.post(&format!("/element/{id}/value"), &json!({ "text": text }));
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Signs in to the portal.
    #[track_caller]
    pub fn sign_in(&self, portal: &str, site: &str, password: &str) {
        self.go(portal);
        self.fill("#site", site);
        self.fill("#password", password);
        self.click("form[action='/sign-in'] button");
    }

    /// A PNG of the whole page, in base64.
    pub fn picture(&self) -> String {
        let asked = json!({ "format": "png", "captureBeyondViewport": true, "clip": self.whole() });
        let shot = self.devtools("Page.captureScreenshot", &asked);
        shot["data"].as_str().unwrap_or_default().to_owned()
    }

    fn whole(&self) -> Value {
        let size = self.run(
            "const e = document.documentElement; return [e.clientWidth, e.scrollHeight, e.scrollWidth]",
        );
        json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 })
    }

    fn devtools(&self, command: &str, params: &Value) -> Value {
        let asked = json!({ "cmd": command, "params": params });
        self.post("/goog/cdp/execute", &asked)
    }

    fn find(&self, selector: &str) -> Option<String> {
        let asked = json!({ "using": "css selector", "value": selector });
        let found = self.try_post("/element", &asked).ok()?;
        Some(found[ELEMENT].as_str()?.to_owned())
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        until(&format!("{selector} on the page"), PATIENCE, || {
            self.find(selector)
        })
    }

    fn get(&self, path: &str) -> Value {
        let answer = curl(&[&format!("{}{path}", self.session)]);
        value(&answer.body)
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let answered = self.try_post(path, body);
        answered.unwrap_or_else(|error| panic!("the browser refuses {path} {body}: {error}"))
    }

    fn try_post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}{path}", self.session);
        let body = body.to_string();
        let answer = curl(&["-H", "Content-Type: application/json", "-d", &body, &url]);
        match answer.status {
            200 => Ok(value(&answer.body)),
            _ => Err(answer.body),
        }
    }
}

fn value(body: &str) -> Value {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    answer["value"].clone()
}

fn wanted(profile: &Path, look: Look<'_>) -> Value {
    let scripts = match look.scripts {
        Scripts::Run => 1,
        Scripts::Off => 2,
    };
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:chromeOptions": {
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--hide-scrollbars", "--no-proxy-server",
                format!("--user-data-dir={}", profile.display()),
                format!("--window-size={},{}", look.width.max(500), look.height),
                format!("--accept-lang={}", look.language),
            ],
            "prefs": {
                "intl.accept_languages": look.language,
                "profile.managed_default_content_settings.javascript": scripts,
            },
        },
    } } })
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser with the session.
        let _ = Command::new("curl")
            .args([
                "--silent",
                "--max-time",
                "20",
                "-X",
                "DELETE",
                &self.session,
            ])
            .output();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
