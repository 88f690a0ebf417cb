//! The pages that are built into the binary: `/`, the watch party at `/watch`, live mail at `/mail`, and the chat at `/chat`. No script, style or picture comes from
//! anywhere else; a video comes from wherever the room says.

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// File names below the root, and what is in them.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The watch party plays a video from any address (`media-src`), HLS by fetching its parts (`connect-src`) and taking them apart in
/// a worker that hls.js makes (`worker-src`).
const WATCH_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; media-src 'self' blob: https: http:; connect-src 'self' ws: wss: https: http:; worker-src blob:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the watch party's page may ask for: the microphone, for itself alone.
const WATCH_PERMISSIONS: &str = "microphone=(self), autoplay=(self), fullscreen=(self), camera=(), geolocation=(), \
     display-capture=(), payment=(), usb=()";

/// Live mail speaks with its own server only, whatever a message may try to have it do, and keeps itself in a worker for when there is no network.
const MAIL_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// The chat speaks with its own server only, shows no picture of anybody else, and sends no form: whatever a message may hold, it goes nowhere.
const CHAT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const WATCH_PAGE: &str = "watch/index.html";

const MAIL_PAGE: &str = "mail/index.html";
/// What keeps the mail page for when there is no network.
const MAIL_WORKER: &str = "mail/worker.js";
/// The part of the server that it is for: the page has no slash at its end.
const MAIL_WORKER_SCOPE: &str = "/mail";

const CHAT_PAGE: &str = "chat/index.html";

/// The clip that every room can play, with no other server to ask.
const WATCH_SAMPLE: &str = "watch/sample.webm";

/// The routes of the pages.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(|| async { file("index.html") }))
        .route(
            "/assets/{*name}",
            get(|Path(name): Path<String>| async move { file(&format!("assets/{name}")) }),
        )
        .route("/watch", get(|| async { file(WATCH_PAGE) }))
        .route("/watch/", get(|| async { file(WATCH_PAGE) }))
        // The page itself says whether there is a room with this code.
        .route("/watch/{code}", get(|| async { file(WATCH_PAGE) }))
        .route("/mail", get(|| async { file(MAIL_PAGE) }))
        .route("/mail/", get(|| async { file(MAIL_PAGE) }))
        .route("/mail/worker.js", get(|| async { file(MAIL_WORKER) }))
        .route("/chat", get(|| async { file(CHAT_PAGE) }))
        .route("/chat/", get(|| async { file(CHAT_PAGE) }))
        .route(
            "/watch/sample.webm",
            get(|headers: HeaderMap| async move { part_of_file(WATCH_SAMPLE, &headers) }),
        )
}

fn file(name: &str) -> Response {
    let Some(content) = content_of(name) else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    // Assets carry a checksum of their content in their names.
    let cache = match name.starts_with("assets/") {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let watch = name == WATCH_PAGE;
    let mut headers = HeaderMap::new();
    for (header, value) in [
        (header::CONTENT_TYPE, content_type(name)),
        (header::CACHE_CONTROL, cache),
        (header::CONTENT_SECURITY_POLICY, policy_of(name)),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(header, HeaderValue::from_static(value));
    }
    if watch {
        let permissions = HeaderValue::from_static(WATCH_PERMISSIONS);
        headers.insert("permissions-policy", permissions);
    }
    if name == MAIL_WORKER {
        let scope = HeaderValue::from_static(MAIL_WORKER_SCOPE);
        headers.insert("service-worker-allowed", scope);
    }
    (headers, content).into_response()
}

fn policy_of(name: &str) -> &'static str {
    match name {
        WATCH_PAGE => WATCH_SECURITY_POLICY,
        MAIL_PAGE | MAIL_WORKER => MAIL_SECURITY_POLICY,
        CHAT_PAGE => CHAT_SECURITY_POLICY,
        _ => CONTENT_SECURITY_POLICY,
    }
}

/// A file of which a browser may ask for a part: it cannot jump in a video otherwise.
fn part_of_file(name: &str, asked: &HeaderMap) -> Response {
    let mut response = file(name);
    response
        .headers_mut()
        .insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let (Some(content), Some(range)) = (content_of(name), asked.get(header::RANGE)) else {
        return response;
    };
    let size = content.len();
    match range.to_str().ok().map(|range| part(range, size)) {
        Some(Part::Of(first, last)) => {
            let range = format!("bytes {first}-{last}/{size}");
            let mut headers = response.headers().clone();
            if let Ok(range) = HeaderValue::from_str(&range) {
                headers.insert(header::CONTENT_RANGE, range);
            }
            let body = content.get(first..=last).unwrap_or_default();
            (StatusCode::PARTIAL_CONTENT, headers, body).into_response()
        }
        Some(Part::Outside) => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            (StatusCode::RANGE_NOT_SATISFIABLE, range).into_response()
        }
        Some(Part::Whole) | None => response,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// From the first to the last byte, both included.
    Of(usize, usize),
    /// What is asked for begins behind the end.
    Outside,
    /// Several parts, or what cannot be understood: the answer is the whole file, as the standard allows.
    Whole,
}

/// Reads one range of bytes: `bytes=5-9`, `bytes=5-`, `bytes=-5`.
fn part(range: &str, size: usize) -> Part {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Part::Whole;
    };
    match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
        (Ok(first), Ok(last)) if first > last => Part::Whole,
        (Ok(first), _) if first >= size => Part::Outside,
        (Ok(first), Ok(last)) => Part::Of(first, last.min(size - 1)),
        (Ok(first), Err(_)) if last.trim().is_empty() => Part::Of(first, size - 1),
        (Err(_), Ok(0)) if first.trim().is_empty() => Part::Outside,
        (Err(_), Ok(count)) if first.trim().is_empty() && size > 0 => {
            Part::Of(size.saturating_sub(count), size - 1)
        }
        _ => Part::Whole,
    }
}

fn content_of(name: &str) -> Option<&'static [u8]> {
    let (_, content) = FILES.iter().find(|(known, _)| *known == name)?;
    Some(content)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("webmanifest") => "application/manifest+json",
        Some("webm") => "video/webm",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_page_is_there_and_nothing_else_is_served() {
        assert_eq!(file("index.html").status(), StatusCode::OK);
        assert_eq!(file("assets/../index.html").status(), StatusCode::NOT_FOUND);
        let policy = file("index.html").headers()[header::CONTENT_SECURITY_POLICY].clone();
        assert!(policy.to_str().unwrap().starts_with("default-src 'none'"));
    }

    #[test]
    fn the_watch_page_may_play_and_speak_but_runs_no_other_script() {
        let page = file(WATCH_PAGE);
        assert_eq!(page.status(), StatusCode::OK);
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(
            policy.contains("script-src 'self';")
                && policy.contains("media-src 'self' blob: https:")
        );
        let permissions = page.headers()["permissions-policy"].to_str().unwrap();
        assert!(permissions.contains("microphone=(self)") && permissions.contains("camera=()"));
        assert!(
            !file("index.html")
                .headers()
                .contains_key("permissions-policy")
        );
    }

    #[test]
    fn the_mail_page_speaks_with_its_own_server_only() {
        let policy = policy_of(MAIL_PAGE);
        assert!(policy.contains("connect-src 'self';") && policy.contains("script-src 'self';"));
        assert!(policy.contains("img-src 'self' data:;"));
        assert_eq!(policy_of(MAIL_WORKER), policy);
        assert_ne!(policy_of("index.html"), policy);
    }

    #[test]
    fn the_chat_page_speaks_with_its_own_server_only_and_makes_no_markup_of_text() {
        assert_eq!(file(CHAT_PAGE).status(), StatusCode::OK);
        let policy = policy_of(CHAT_PAGE);
        assert!(policy.contains("connect-src 'self';") && policy.contains("script-src 'self';"));
        assert!(policy.contains("img-src 'self';") && policy.contains("trusted-types 'none'"));
    }

    #[test]
    fn a_part_of_the_clip_is_given_as_asked_for() {
        let ask = |range: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(range));
            part_of_file(WATCH_SAMPLE, &headers)
        };
        let size = content_of(WATCH_SAMPLE).unwrap().len();
        let whole = part_of_file(WATCH_SAMPLE, &HeaderMap::new());
        assert_eq!(whole.status(), StatusCode::OK);
        assert_eq!(whole.headers()[header::ACCEPT_RANGES], "bytes");
        let some = ask("bytes=100-199");
        assert_eq!(some.status(), StatusCode::PARTIAL_CONTENT);
        let range = some.headers()[header::CONTENT_RANGE].to_str().unwrap();
        assert_eq!(range, format!("bytes 100-199/{size}"));
        assert_eq!(
            ask("bytes=99999999-").status(),
            StatusCode::RANGE_NOT_SATISFIABLE
        );
        assert_eq!(ask("lines=1-2").status(), StatusCode::OK);
    }

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-", Part::Of(0, 99)),
            ("bytes=10-19", Part::Of(10, 19)),
            ("bytes=90-500", Part::Of(90, 99)),
            ("bytes=-10", Part::Of(90, 99)),
            ("bytes=-500", Part::Of(0, 99)),
            ("bytes=-0", Part::Outside),
            ("bytes=100-", Part::Outside),
            ("bytes=9-3", Part::Whole),
            ("bytes=1-2,5-6", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
        ] {
            assert_eq!(part(range, 100), expected, "{range}");
        }
        assert_eq!(part("bytes=-5", 0), Part::Whole);
    }
}
