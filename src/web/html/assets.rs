//! Style sheet, script and icon, embedded: the program is one file.
//!
//! Their address holds a digest of them all, so that browsers may cache them for ever and still
//! load those of a new release.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ASSETS: [(&str, &str, &str); 7] = [
    ("app.css", CSS, include_str!("../../../templates/web/assets/app.css")),
    ("app.js", SCRIPT, include_str!("../../../templates/web/assets/app.js")),
    ("drafts.js", SCRIPT, include_str!("../../../templates/web/assets/drafts.js")),
    ("live.js", SCRIPT, include_str!("../../../templates/web/assets/live.js")),
    ("morph.js", SCRIPT, include_str!("../../../templates/web/assets/morph.js")),
    ("times.js", SCRIPT, include_str!("../../../templates/web/assets/times.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../../templates/web/assets/icon.svg")),
];

/// Part of the address of every asset.
pub static BUILD: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for (_, _, text) in ASSETS {
        digest.update(text);
    }
    digest.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
});

/// `GET /assets/{build}/{name}`
pub async fn asset(Path((build, name)): Path<(String, String)>) -> Response {
    let Some((_, kind, text)) = ASSETS.into_iter().find(|(own, _, _)| *own == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let keep = match build == *BUILD {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, keep)], text).into_response()
}
