//! The files of the page, which are part of the program.

use pitaya::{Bytes, HttpResponse};

const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("../web/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../web/style.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("../web/app.js")),
    ("/pitaya.js", "text/javascript; charset=utf-8", include_str!("../web/pitaya.js")),
    ("/favicon.svg", "image/svg+xml", include_str!("../web/favicon.svg")),
];

/// The file at a path.
pub(crate) fn page(path: &str) -> Option<HttpResponse> {
    let (_, content_type, text) = FILES.iter().find(|(name, _, _)| *name == path)?;
    Some(HttpResponse { content_type, body: Bytes::from_static(text.as_bytes()) })
}
