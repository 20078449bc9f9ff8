//! One page: scripts, real mouse and keyboard input, waiting, pictures.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{BrowserError, PATIENCE, POLL, cdp::Cdp, text};

/// A tab of the browser. It stays open until [`close`](Self::close) or the end of the browser.
#[derive(Debug)]
pub(crate) struct Tab {
    cdp: Cdp,
    target: String,
    session: String,
}

impl Tab {
    pub(super) fn new(cdp: Cdp, target: String, session: String) -> Self {
        Self { cdp, target, session }
    }

    pub(super) async fn open(&self, url: &str) -> Result<(), BrowserError> {
        // Only one tab of a window has the focus, but each test person has their own screen.
        self.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })).await?;
        let answer = self.call("Page.navigate", json!({ "url": url })).await?;
        if let Some(reason) = answer["errorText"].as_str() {
            return Err(BrowserError::Protocol(format!("{url}: {reason}")));
        }
        let loaded = "location.href !== 'about:blank' && document.readyState === 'complete'";
        self.wait_for(loaded, "the page is loaded").await
    }

    /// Evaluates an expression and gives its value as JSON. Promises are awaited, exceptions are errors.
    pub(crate) async fn eval(&self, js: &str) -> Result<Value, BrowserError> {
        let params = json!({
            "expression": js,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        let mut answer = self.call("Runtime.evaluate", params).await?;
        let thrown = &answer["exceptionDetails"];
        if thrown.is_null() {
            return Ok(answer["result"]["value"].take());
        }
        let what = thrown["exception"]["description"].as_str().unwrap_or_default();
        Err(BrowserError::Script(match what {
            "" => thrown.to_string(),
            _ => what.to_owned(),
        }))
    }

    /// Waits until a condition in the page is true. The description is for people, when it never gets true.
    pub(crate) async fn wait_for(&self, condition: &str, description: &str) -> Result<(), BrowserError> {
        let condition = format!("(async () => Boolean(await ({condition})))()");
        let mut failure = None;
        let come_true = async {
            loop {
                match self.eval(&condition).await {
                    Ok(Value::Bool(true)) => return,
                    Ok(_) => failure = None,
                    // Between two pages there is nothing to look at yet.
                    Err(error) => failure = Some(error),
                }
                sleep(POLL).await;
            }
        };
        if timeout(PATIENCE, come_true).await.is_ok() {
            return Ok(());
        }
        let shown = match failure {
            Some(error) => error.to_string(),
            None => self.eval("document.body.innerText").await?.to_string(),
        };
        Err(BrowserError::TimedOut(format!("{description}; the page shows {shown}")))
    }

    /// Loads the page again and waits until that is done.
    pub(crate) async fn reload(&self) -> Result<(), BrowserError> {
        // What a script puts into the window is gone when the new page is there.
        self.eval("window.isOldPage = true").await?;
        self.call("Page.reload", json!({})).await?;
        let loaded = "!window.isOldPage && document.readyState === 'complete'";
        self.wait_for(loaded, "the page is loaded again").await
    }

    /// Writes what the tab shows into a PNG file.
    pub(crate) async fn screenshot(&self, path: &Path) -> Result<(), BrowserError> {
        let answer = self.call("Page.captureScreenshot", json!({})).await?;
        fs::write(path, decode_base64(&text(&answer, "data")?)?)?;
        Ok(())
    }

    /// Sets the size of the screen in CSS pixels. A mobile one lays pages out as phones do.
    pub(crate) async fn viewport(&self, width: u32, height: u32, mobile: bool) -> Result<(), BrowserError> {
        let params = json!({
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": mobile,
        });
        self.call("Emulation.setDeviceMetricsOverride", params).await?;
        let resized = format!("innerWidth === {width}");
        self.wait_for(&resized, "the page has its new size").await
    }

    /// Focuses a field and types a text into it, in place of what it holds.
    pub(crate) async fn type_text(&self, selector: &str, text: &str) -> Result<(), BrowserError> {
        let focus = format!(
            "(() => {{
                const field = document.querySelector({});
                field?.focus();
                field?.select();
                return field !== null && document.activeElement === field;
            }})()",
            json!(selector)
        );
        self.wait_for(&focus, &format!("{selector} has the focus")).await?;
        self.call("Input.insertText", json!({ "text": text })).await?;
        Ok(())
    }

    /// Presses the Enter key, wherever the focus is.
    pub(crate) async fn press_enter(&self) -> Result<(), BrowserError> {
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({
                "type": kind,
                "key": "Enter",
                "code": "Enter",
                "windowsVirtualKeyCode": 13,
            });
            if kind == "keyDown" {
                params["text"] = "\r".into();
            }
            self.call("Input.dispatchKeyEvent", params).await?;
        }
        Ok(())
    }

    /// Clicks into the middle of an element, as a person would: it has to be in sight, at rest and not covered.
    pub(crate) async fn click(&self, selector: &str) -> Result<(), BrowserError> {
        let point = self.place_of(selector).await?;
        for (kind, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let params = json!({
                "type": kind,
                "x": point[0],
                "y": point[1],
                "button": if kind == "mouseMoved" { "none" } else { "left" },
                "buttons": buttons,
                "clickCount": 1,
            });
            self.call("Input.dispatchMouseEvent", params).await?;
        }
        Ok(())
    }

    /// Waits until an element can be clicked, and tells where.
    async fn place_of(&self, selector: &str) -> Result<Value, BrowserError> {
        let place = format!(
            "(() => {{
                const target = document.querySelector({});
                if (!target || target.disabled) return null;
                target.scrollIntoView({{ block: 'nearest', inline: 'nearest' }});
                const {{ x, y, width, height }} = target.getBoundingClientRect();
                const middle = [x + width / 2, y + height / 2];
                return target.contains(document.elementFromPoint(...middle)) ? middle : null;
            }})()",
            json!(selector)
        );
        let found = async {
            let mut before = Value::Null;
            loop {
                let now = self.eval(&place).await?;
                if !now.is_null() && now == before {
                    return Ok(now);
                }
                before = now;
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| Err(BrowserError::TimedOut(format!("{selector} can be clicked"))))
    }

    /// Closes the tab.
    pub(crate) async fn close(self) -> Result<(), BrowserError> {
        let params = json!({ "targetId": self.target });
        self.cdp.call(None, "Target.closeTarget", params).await?;
        Ok(())
    }

    async fn call(&self, method: &'static str, params: Value) -> Result<Value, BrowserError> {
        self.cdp.call(Some(&self.session), method, params).await
    }
}

/// Decodes standard base64, in which the browser sends pictures.
fn decode_base64(text: &str) -> Result<Vec<u8>, BrowserError> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(BrowserError::Protocol("a picture in bad base64".into())),
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(bytes)
}
