//! Rendered files, whole or in ranges.

use axum::extract::{Request, State};
use axum::http::header::{HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use super::AppState;
use super::auth::{Caller, Read};
use super::input::Path;
use super::problem::{Code, Problem};

const NOSNIFF: (HeaderName, HeaderValue) = (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// A file that a result names.
#[utoipa::path(get, path = "/v1/files/{name}", tag = "mailbox",
    params(("name" = String, Path), ("Range" = Option<String>, Header)),
    responses((status = 200, content_type = "video/mp4", body = Vec<u8>), (status = 206), (status = 404)),
    security(("bearer" = ["read"])))]
pub(super) async fn show(
    _: Caller<Read>,
    State(state): State<AppState>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let unknown = || Problem::new(Code::FileUnknown, "no file has this name; old ones are removed in time");
    if !is_plain(&name) {
        return Err(unknown());
    }
    let path = state.files.join(name);
    // A link or a folder in there is none of ours.
    if !tokio::fs::symlink_metadata(&path).await.is_ok_and(|about| about.is_file()) {
        return Err(unknown());
    }
    let Ok(response) = ServeFile::new(path).oneshot(request).await;
    if response.status() == StatusCode::NOT_FOUND {
        return Err(unknown());
    }
    Ok(([NOSNIFF], response).into_response())
}

/// Whether a name stays inside the folder and is none of its hidden files.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= 255
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_out_of_the_folder() {
        assert!(is_plain("anna-0f.mp4"));
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", ".onetake-files", "a\0", "ä.mp4", "a b", "%2e"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
