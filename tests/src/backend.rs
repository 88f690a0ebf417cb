//! An application's own backend, as small as can be: HTTP in, JSON in and out, and everything it was asked kept.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

/// Longest body that is read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its path.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Value,
}

/// What the backend answers: a status and a body. It may take its time.
pub type Answers = dyn Fn(&Asked) -> (u16, Value) + Send + Sync;

/// A backend that runs until the process ends.
#[derive(Clone)]
pub struct Backend {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Backend {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn start(answers: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let listener = match TcpListener::bind(("127.0.0.1", 0)) {
            Ok(listener) => listener,
            Err(error) => panic!("no port for a backend: {error}"),
        };
        let address = match listener.local_addr() {
            Ok(address) => address,
            Err(error) => panic!("{error}"),
        };
        let backend = Self {
            address,
            asked: Arc::default(),
        };
        let (shared, answers): (_, Arc<Answers>) = (backend.clone(), Arc::new(answers));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, answers) = (shared.clone(), Arc::clone(&answers));
                // A connection that breaks is the other side's to notice.
                thread::spawn(move || shared.serve(stream, &*answers));
            }
        });
        backend
    }

    /// The address of one of its paths, which begins with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it was asked at a path so far, in order.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|it| it.path == path).cloned().collect()
    }

    fn serve(&self, stream: TcpStream, answers: &Answers) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(asked) = read(&mut reader)? {
            let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(asked.clone());
            drop(all);
            let (status, body) = answers(&asked);
            let body = body.to_string();
            let length = body.len();
            let head = format!("HTTP/1.1 {status} .\r\ncontent-type: application/json\r\n");
            writer.write_all(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes())?;
        }
        Ok(())
    }
}

/// The next request; `None` at the end.
fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|it| it.parse().ok());
    let mut body = vec![0; length.unwrap_or(0).min(BODY_BYTES_MAX)];
    reader.read_exact(&mut body)?;
    Ok(Some(Asked {
        path,
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }))
}
