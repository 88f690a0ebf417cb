//! Which web pages may connect. Browsers do not protect WebSockets as they protect other requests, so the server looks at
//! the origin itself. Programs that are not browsers send none and are judged by their tokens alone.

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};

/// Origins of web pages that may connect, besides the server's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Every page.
    Any,
    /// These, as browsers write them: `https://app.example.com`.
    These(Vec<String>),
}

impl AllowedOrigins {
    /// Whether a request with these headers may connect.
    #[must_use]
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return true;
        };
        self.lists(origin) || is_own(origin, headers.get(header::HOST))
    }

    /// Lets listed pages of other origins read the answer to a request with these headers.
    pub(crate) fn tell(&self, headers: &HeaderMap, mut response: Response) -> Response {
        if let Some(origin) = headers.get(header::ORIGIN)
            && self.lists(origin)
        {
            let answer = response.headers_mut();
            answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            answer.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        response
    }

    /// Whether the origin is another page's that may connect.
    #[must_use]
    pub fn lists(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::These(origins) => origins
                .iter()
                .any(|allowed| allowed.as_bytes() == origin.as_bytes()),
        }
    }
}

/// Whether a `Host` header names this machine as seen from itself.
pub(crate) fn is_local_host(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "[::1]")
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn is_own(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let origin = origin.as_bytes();
    let rest = origin
        .strip_prefix(b"http://")
        .or_else(|| origin.strip_prefix(b"https://"));
    matches!((rest, host), (Some(rest), Some(host)) if rest.eq_ignore_ascii_case(host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(allowed: &AllowedOrigins, origin: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("app.test:8000"));
        headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        allowed.allow(&headers)
    }

    #[test]
    fn own_and_listed_pages_may_connect() {
        let listed = AllowedOrigins::These(vec!["https://other.test".to_owned()]);
        assert!(allow(&listed, "http://app.test:8000"));
        assert!(allow(&listed, "https://other.test"));
        assert!(!allow(&listed, "https://other.test.evil.example"));
        assert!(!allow(&listed, "http://app.test"));
        assert!(!allow(&listed, "null"));
        assert!(allow(&AllowedOrigins::Any, "https://anything.example"));
        assert!(listed.allow(&HeaderMap::new()));
    }

    #[test]
    fn local_names_are_known() {
        let check = |host: &'static str, expected| {
            assert_eq!(
                is_local_host(Some(&HeaderValue::from_static(host))),
                expected,
                "{host}"
            );
        };
        for host in [
            "localhost",
            "localhost:8000",
            "127.0.0.1:8000",
            "127.8.0.1",
            "[::1]:80",
            "[::1]",
        ] {
            check(host, true);
        }
        for host in [
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "127.0.0.1.evil.example",
        ] {
            check(host, false);
        }
        assert!(!is_local_host(None));
    }
}
