//! One call: a place among those at once, a request, an answer in time.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use tokio::{runtime::Handle, sync::Semaphore, task::AbortHandle, time::timeout};
use tracing::warn;

use super::{Asked, Endpoint, Event, Verdict};
use crate::{https::Client, unix_seconds};

/// The endpoints of a node.
pub(crate) struct Proxies {
    lines: [Option<Arc<Line>>; Event::ALL.len()],
    runtime: Handle,
}

/// One endpoint, and what goes on there.
struct Line {
    event: Event,
    endpoint: Endpoint,
    client: Client,
    places: Semaphore,
    ended: [AtomicU64; Verdict::ENDS.len()],
    /// The second of the last warning.
    warned: AtomicI64,
}

/// A call under way. Dropped, it is given up.
#[derive(Debug)]
pub(crate) struct Call(AbortHandle);

impl Call {
    /// The call that a task is.
    pub(crate) fn of(task: AbortHandle) -> Self {
        Self(task)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Proxies {
    pub(super) fn new(endpoints: [Option<Endpoint>; Event::ALL.len()], client: Client) -> Self {
        let mut events = Event::ALL.into_iter();
        let lines = endpoints.map(|endpoint| {
            let (event, endpoint) = events.next().zip(endpoint)?;
            Some(Arc::new(Line {
                event,
                places: Semaphore::new(endpoint.calls_max),
                endpoint,
                client: client.clone(),
                ended: Default::default(),
                warned: AtomicI64::new(0),
            }))
        });
        Self {
            lines,
            runtime: Handle::current(),
        }
    }

    /// Whether there is an endpoint for it.
    pub(crate) fn has(&self, event: Event) -> bool {
        self.lines[event as usize].is_some()
    }

    /// Of the headers of a client's request those that some endpoint is passed on.
    pub(crate) fn forwarded(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for line in self.lines.iter().flatten() {
            for name in &line.endpoint.http_headers {
                if !kept.contains_key(name) {
                    pass_on(name, headers, &mut kept);
                }
            }
        }
        kept
    }

    /// Asks. `done` is called with the answer on another thread, unless the call is dropped before. `None`: nobody is there to be
    /// asked, or the question cannot be written down.
    pub(crate) fn ask(
        &self,
        event: Event,
        asked: &Asked<'_>,
        headers: &HeaderMap,
        done: impl FnOnce(Verdict) + Send + 'static,
    ) -> Option<Call> {
        let line = Arc::clone(self.lines[event as usize].as_ref()?);
        let meta = asked.meta.filter(|_| line.endpoint.include_connection_meta);
        let asked = Asked {
            meta,
            ..asked.clone()
        };
        let body = serde_json::to_vec(&asked).ok()?;
        let mut of_request = HeaderMap::new();
        for name in &line.endpoint.http_headers {
            pass_on(name, headers, &mut of_request);
        }
        let task = self.runtime.spawn(async move {
            let verdict = line.call(of_request, body).await;
            line.ended[verdict.end()].fetch_add(1, Relaxed);
            done(verdict);
        });
        Some(Call(task.abort_handle()))
    }

    /// How many calls ended how.
    pub(super) fn counted(&self) -> impl Iterator<Item = (Event, &'static str, u64)> {
        let lines = self.lines.iter().flatten();
        lines.flat_map(|line| {
            let ends = Verdict::ENDS.iter().zip(&line.ended);
            ends.map(|(end, count)| (line.event, *end, count.load(Relaxed)))
        })
    }
}

fn pass_on(name: &HeaderName, from: &HeaderMap, to: &mut HeaderMap) {
    for value in from.get_all(name) {
        to.append(name, value.clone());
    }
}

impl Line {
    async fn call(&self, headers: HeaderMap, body: Vec<u8>) -> Verdict {
        match timeout(self.endpoint.timeout, self.exchange(headers, body)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(problem)) => self.failed(&problem),
            Err(_) => self.failed("it did not answer in time"),
        }
    }

    /// Says so in the log, once a second at most: when a backend is away every client hears of it.
    fn failed(&self, problem: &str) -> Verdict {
        let now = unix_seconds();
        if self.warned.swap(now, Relaxed) != now {
            warn!(
                event = self.event.name(),
                problem, "the backend gives no answer that could be used"
            );
        }
        Verdict::Failed
    }

    async fn exchange(&self, headers: HeaderMap, body: Vec<u8>) -> Result<Verdict, String> {
        // It fails only if it is closed, and nobody closes it.
        let _place = self.places.acquire().await.map_err(|it| it.to_string())?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.endpoint.url.uri().clone())
            .body(Full::new(Bytes::from(body)))
            .map_err(|it| it.to_string())?;
        *request.headers_mut() = headers;
        for (name, value) in &self.endpoint.static_headers {
            // Whatever a client says: what the operator says of a header holds.
            request.headers_mut().insert(name, value.clone());
        }
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let answer = self
            .client
            .ask(request)
            .await
            .map_err(|it| it.to_string())?;
        if answer.status != 200 {
            return Err(format!("it answers with status {}", answer.status));
        }
        Verdict::read(&answer.body).map_err(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Duration,
    };

    use fanfare_wire::centrifuge::{Codec, Dialect};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        sync::mpsc,
    };
    use uuid::Uuid;

    use super::*;
    use crate::{https::Url, proxy::ProxyConfig};

    /// A backend that answers when it is told to, and knows how many wait at once.
    struct Backend {
        go: Semaphore,
        waiting: AtomicUsize,
        most: AtomicUsize,
        came: Semaphore,
    }

    impl Backend {
        async fn start() -> (Arc<Self>, Url) {
            let backend = Arc::new(Self {
                go: Semaphore::new(0),
                waiting: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
                came: Semaphore::new(0),
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/ask", listener.local_addr().unwrap());
            let this = Arc::clone(&backend);
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(Arc::clone(&this).serve(stream));
                }
            });
            (backend, Url::parse(&url).unwrap())
        }

        async fn serve(self: Arc<Self>, mut stream: TcpStream) {
            let mut request = Vec::new();
            while !request.ends_with(b"}") {
                if stream.read_buf(&mut request).await.unwrap() == 0 {
                    return;
                }
            }
            let waiting = self.waiting.fetch_add(1, SeqCst) + 1;
            self.most.fetch_max(waiting, SeqCst);
            self.came.add_permits(1);
            self.go.acquire().await.unwrap().forget();
            self.waiting.fetch_sub(1, SeqCst);
            let answer =
                b"HTTP/1.1 200 .\r\nconnection: close\r\ncontent-length: 13\r\n\r\n{\"result\":{}}";
            let _ = stream.write_all(answer).await;
        }
    }

    fn proxies(url: Url, calls_max: usize, timeout: Duration) -> Arc<Proxies> {
        let rpc = Some(Endpoint {
            url,
            timeout,
            http_headers: vec![HeaderName::from_static("cookie")],
            static_headers: HeaderMap::new(),
            calls_max,
            include_connection_meta: false,
        });
        let config = ProxyConfig {
            rpc,
            ..ProxyConfig::default()
        };
        Proxies::start(config).unwrap()
    }

    fn ask(proxies: &Proxies, answers: &mpsc::UnboundedSender<Verdict>) -> Call {
        let answers = answers.clone();
        let asked = Asked::by(Uuid::nil(), Dialect::websocket(Codec::Json), Some("ann"));
        let done = move |verdict| drop(answers.send(verdict));
        proxies
            .ask(Event::Rpc, &asked, &HeaderMap::new(), done)
            .unwrap()
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn no_more_calls_are_made_at_once_than_are_allowed() {
        let (backend, url) = Backend::start().await;
        let proxies = proxies(url, 2, PATIENCE);
        let (answers, mut answered) = mpsc::unbounded_channel();
        let calls: Vec<Call> = (0..5).map(|_| ask(&proxies, &answers)).collect();
        for _ in 0..5 {
            backend.came.acquire().await.unwrap().forget();
            backend.go.add_permits(1);
            let verdict = answered.recv().await.unwrap();
            assert_eq!(verdict, Verdict::Granted(Box::default()));
        }
        assert!(backend.most.load(SeqCst) <= 2);
        let counted: Vec<_> = proxies
            .counted()
            .map(|(_, end, count)| (end, count))
            .collect();
        assert_eq!(
            counted,
            [
                ("granted", 5),
                ("error", 0),
                ("disconnect", 0),
                ("failed", 0)
            ]
        );
        drop(calls);
    }

    #[tokio::test]
    async fn who_goes_away_gives_the_place_up() {
        let (backend, url) = Backend::start().await;
        let proxies = proxies(url, 1, PATIENCE);
        let (answers, mut answered) = mpsc::unbounded_channel();
        let gone = ask(&proxies, &answers);
        backend.came.acquire().await.unwrap().forget();
        drop(gone);
        let _call = ask(&proxies, &answers);
        backend.came.acquire().await.unwrap().forget();
        // Both wait at the backend; only one still has somebody who listens.
        backend.go.add_permits(2);
        assert!(answered.recv().await.is_some());
        assert!(answered.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_backend_has_its_time_and_no_more() {
        let (_backend, url) = Backend::start().await;
        let slow = proxies(url, 1, Duration::from_millis(50));
        let (answers, mut answered) = mpsc::unbounded_channel();
        let _calls = [ask(&slow, &answers), ask(&slow, &answers)];
        for _ in 0..2 {
            assert_eq!(answered.recv().await, Some(Verdict::Failed));
        }
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = format!("http://{}/", nobody.local_addr().unwrap());
        let nobody = Url::parse(&nobody).unwrap();
        let away = proxies(nobody, 1, PATIENCE);
        let _call = ask(&away, &answers);
        assert_eq!(answered.recv().await, Some(Verdict::Failed));
    }

    #[tokio::test]
    async fn only_headers_that_are_named_are_kept() {
        let (_backend, url) = Backend::start().await;
        let proxies = proxies(url, 1, PATIENCE);
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("a=1"));
        headers.append("cookie", HeaderValue::from_static("b=2"));
        headers.append("authorization", HeaderValue::from_static("secret"));
        let kept = proxies.forwarded(&headers);
        assert_eq!(kept.len(), 2);
        assert_eq!(kept.get_all("cookie").iter().count(), 2);
        assert!(!proxies.has(Event::Connect) && proxies.has(Event::Rpc));
    }
}
