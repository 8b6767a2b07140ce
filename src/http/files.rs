//! Rendered files, whole or in ranges.

use std::path::PathBuf;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_RANGE, ETAG, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS};
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
    responses((status = 200, content_type = "video/mp4", body = Vec<u8>), (status = 206), (status = 404), (status = 416)),
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
    let about = tokio::fs::symlink_metadata(&path).await.map_err(|_| unknown())?;
    if !about.is_file() {
        return Err(unknown());
    }
    let response = serve(path, about.len(), request).await;
    match response.status() {
        StatusCode::NOT_FOUND => Err(unknown()),
        StatusCode::PRECONDITION_FAILED => {
            Err(Problem::new(Code::PreconditionFailed, "the file has changed since, or before"))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let problem = Problem::new(Code::RangeNotSatisfiable, format!("the file has {} bytes", about.len()));
            let length = response.headers().get(CONTENT_RANGE).map(|range| [(CONTENT_RANGE, range.clone())]);
            Ok((length, problem).into_response())
        }
        _ => Ok(([NOSNIFF], response).into_response()),
    }
}

/// As the norm (RFC 9110) has it, of which [`ServeFile`] refuses a part.
async fn serve(path: PathBuf, length: u64, mut request: Request) -> Response {
    let headers = request.headers_mut();
    let if_range = headers.remove(IF_RANGE);
    if headers.get(RANGE).is_some_and(|range| !is_one_range(range, length)) {
        headers.remove(RANGE);
    }
    let mut whole = Request::new(Body::empty());
    whole.method_mut().clone_from(request.method());
    let Ok(response) = ServeFile::new(&path).oneshot(request).await;
    let is_same = [ETAG, LAST_MODIFIED].iter().any(|name| response.headers().get(name) == if_range.as_ref());
    let is_part = matches!(response.status(), StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE);
    // A part is only of use to who has the rest of the same file.
    if if_range.is_none() || !is_part || is_same {
        return response.into_response();
    }
    let Ok(response) = ServeFile::new(path).oneshot(whole).await;
    response.into_response()
}

/// Whether `range` asks for one part of a file: what is of another unit, of several parts, or longer than the file itself is
/// answered with the whole.
fn is_one_range(range: &HeaderValue, length: u64) -> bool {
    let Some(part) = range.to_str().ok().and_then(|range| range.strip_prefix("bytes=")) else { return false };
    let is_longer = part.strip_prefix('-').and_then(|suffix| suffix.parse().ok()).is_some_and(|n: u64| n > length);
    !part.contains(',') && !is_longer
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
    fn only_one_part_of_a_file_is_a_range() {
        for (range, is_one) in [
            ("bytes=0-3", true),
            ("bytes=5-", true),
            ("bytes=-10", true),
            ("bytes=-11", false),
            ("bytes=0-1,4-5", false),
            ("items=0-9", false),
        ] {
            assert_eq!(is_one_range(&HeaderValue::from_static(range), 10), is_one, "{range}");
        }
    }

    #[test]
    fn a_name_never_leads_out_of_the_folder() {
        assert!(is_plain("anna-0f.mp4"));
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", ".onetake-files", "a\0", "ä.mp4", "a b", "%2e"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
