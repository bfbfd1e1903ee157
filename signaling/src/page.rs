//! The classroom page: the files that `signaling/web` builds, part of the binary.
//!
//! They are compressed once at the start: the page's largest file is half a megabyte, and a school on a thin
//! link waits for each byte. Without a built page, one line says how to build it.
//!
//! What the page shows was typed by others: names, chat. Should a script ever get in with it, the page's policy
//! keeps the browser from running it.

use std::collections::HashMap;
use std::io::Write;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "web/dist"]
#[allow_missing = true]
struct Dist;

/// The file that every path of the page's own shows.
const INDEX: &str = "index.html";

/// Files with a hash of their content in the name: they never change.
const HASHED: &str = "assets/";

/// What the page may load and do (Content Security Policy Level 3): its own files, and blobs that it makes itself.
/// `ws:` and `wss:` are named because older Safari does not count them as `'self'`.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; \
    media-src 'self' blob: mediastream:; worker-src 'self' blob:; frame-ancestors 'self'; base-uri 'none'";

/// The page's files, ready to be sent.
#[derive(Debug)]
pub struct Page {
    files: HashMap<String, File>,
}

#[derive(Debug)]
struct File {
    plain: Bytes,
    /// None where compression gains nothing.
    gzip: Option<Bytes>,
    content_type: &'static str,
    cache_control: &'static str,
}

impl Page {
    /// The page that was built with this binary. (A debug build reads it from its folder, at this moment.)
    pub fn built() -> Self {
        let files = Dist::iter().filter_map(|path| {
            let file = File::new(&path, Dist::get(&path)?.data.into_owned());
            Some((path.into_owned(), file))
        });
        Self { files: files.collect() }
    }

    /// The page itself.
    pub fn index(&self, request: &HeaderMap) -> Response {
        match self.files.get(INDEX) {
            Some(file) => file.respond(request),
            None => {
                let words =
                    "Lectern is running. Its page is not built: run `make web`, then start it again.\n";
                (StatusCode::OK, [(header::CACHE_CONTROL, "no-cache")], words).into_response()
            }
        }
    }

    /// A file below `assets/`.
    pub fn asset(&self, name: &str, request: &HeaderMap) -> Response {
        match self.files.get(&format!("{HASHED}{name}")) {
            Some(file) => file.respond(request),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

impl File {
    fn new(path: &str, plain: Vec<u8>) -> Self {
        let gzip = compress(&plain).filter(|gzip| gzip.len() < plain.len());
        Self {
            plain: plain.into(),
            gzip: gzip.map(Bytes::from),
            content_type: content_type(path),
            cache_control: match path.starts_with(HASHED) {
                true => "public, max-age=31536000, immutable",
                false => "no-cache",
            },
        }
    }

    fn respond(&self, request: &HeaderMap) -> Response {
        let headers = [
            (header::CONTENT_TYPE, self.content_type),
            (header::CACHE_CONTROL, self.cache_control),
            (header::VARY, "accept-encoding"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            // The page's URL holds an invitation; that is nobody else's.
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        match &self.gzip {
            Some(gzip) if takes_gzip(request) => {
                (headers, [(header::CONTENT_ENCODING, "gzip")], gzip.clone()).into_response()
            }
            _ => (headers, self.plain.clone()).into_response(),
        }
    }
}

fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

/// Browsers list it plainly; one that says `gzip;q=0` wants none.
fn takes_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    accepted.split(',').any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(quality.trim(), "q=0" | "q=0.0")
    })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let file = |path: &str| (path.to_owned(), File::new(path, vec![b'a'; 1000]));
        Page { files: HashMap::from([file("index.html"), file("assets/index-1a2b.js")]) }
    }

    fn accepting(encoding: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, encoding.parse().unwrap())])
    }

    #[test]
    fn hashed_files_are_kept_for_ever_and_the_index_is_asked_for_again() {
        let cache = |response: Response| response.headers()[header::CACHE_CONTROL].clone();
        assert_eq!(cache(page().index(&HeaderMap::new())), "no-cache");
        let asset = page().asset("index-1a2b.js", &HeaderMap::new());
        assert_eq!(asset.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert_eq!(cache(asset), "public, max-age=31536000, immutable");
        assert_eq!(page().asset("other.js", &HeaderMap::new()).status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn every_file_says_what_the_browser_may_do_with_it() {
        for response in [page().index(&HeaderMap::new()), page().asset("index-1a2b.js", &accepting("gzip"))] {
            let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'self'; "), "{policy}");
            assert!(!policy.contains("unsafe") && !policy.contains("  "), "{policy}");
            assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(response.headers()[header::REFERRER_POLICY], "no-referrer");
        }
    }

    #[test]
    fn compresses_for_who_takes_it() {
        for (encoding, compressed) in [("gzip, br", true), ("br", false), ("gzip;q=0", false), ("GZIP", true)]
        {
            let response = page().index(&accepting(encoding));
            assert_eq!(response.headers().contains_key(header::CONTENT_ENCODING), compressed, "{encoding}");
        }
    }

    #[test]
    fn without_a_built_page_says_how_to_build_it() {
        let response = Page { files: HashMap::new() }.index(&HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
    }
}
