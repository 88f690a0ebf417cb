//! Each fault, on real sockets. Times are compared as "not before", which a slow machine cannot break.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::*;

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it is listened for what must not come.
const QUIET: Duration = Duration::from_millis(200);

/// A proxy in front of a server that sends back what it gets.
struct Scene {
    proxy: Proxy,
}

impl Scene {
    fn new() -> Self {
        Self {
            proxy: Proxy::start(echo(), Content::Bytes).unwrap(),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut bytes = [0; 4_096];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn exchange(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(QUIET)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

fn assert_reset(stream: &mut TcpStream) {
    let mut bytes = [0; 4_096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => panic!("an ordinary end"),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                return;
            }
        }
    }
}

#[test]
fn without_faults_everything_passes_and_ends_as_it_does_without_it() {
    let scene = Scene::new();
    let mut stream = scene.connect();
    let large: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    let sent = large.clone();
    let mut writer = stream.try_clone().unwrap();
    let thread = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    thread.join().unwrap();
    assert!(back == large);
    drop(stream);
    let until = Instant::now() + PATIENCE;
    while scene.proxy.passed().open > 0 {
        assert!(Instant::now() < until, "the connection was not forgotten");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(scene.proxy.passed().connections, 1);
}

#[test]
fn a_delay_holds_each_byte_that_long() {
    let scene = Scene::new();
    let mut stream = scene.connect();
    exchange(&mut stream, b"before");
    scene.proxy.set(Faults::both(PathFaults {
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(5),
        ..PathFaults::default()
    }));
    let begun = Instant::now();
    exchange(&mut stream, b"during");
    assert!(begun.elapsed() >= Duration::from_millis(80));
}

#[test]
fn a_rate_takes_its_time() {
    let scene = Scene::new();
    let mut stream = scene.connect();
    let path = PathFaults {
        rate: NonZeroU64::new(10_000),
        ..PathFaults::default()
    };
    scene.proxy.set(Faults {
        up: path,
        ..Faults::default()
    });
    let begun = Instant::now();
    for _ in 0..20 {
        exchange(&mut stream, &[7; 100]);
    }
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_black_hole_holds_one_direction_or_both_and_gives_back_what_it_held() {
    let hole = PathFaults {
        black_hole: true,
        ..PathFaults::default()
    };
    let up = Faults {
        up: hole,
        ..Faults::default()
    };
    let down = Faults {
        down: hole,
        ..Faults::default()
    };
    for faults in [up, down, Faults::black_hole()] {
        let scene = Scene::new();
        let mut stream = scene.connect();
        exchange(&mut stream, b"before");
        scene.proxy.set(faults);
        stream.write_all(b"during").unwrap();
        assert_silent(&mut stream);
        let mut fresh = scene.connect();
        fresh.write_all(b"fresh").unwrap();
        assert_silent(&mut fresh);
        scene.proxy.heal();
        let mut back = [0; 6];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"during");
        fresh.read_exact(&mut back[..5]).unwrap();
        assert_eq!(&back[..5], b"fresh");
        exchange(&mut stream, b"after");
    }
}

#[test]
fn all_connections_are_reset_at_once_and_new_ones_pass() {
    let scene = Scene::new();
    let mut streams = [scene.connect(), scene.connect()];
    for stream in &mut streams {
        exchange(stream, b"before");
    }
    scene.proxy.reset_all();
    for stream in &mut streams {
        assert_reset(stream);
    }
    exchange(&mut scene.connect(), b"after");
}

#[test]
fn refused_connections_are_reset_and_open_ones_go_on() {
    let scene = Scene::new();
    let mut open = scene.connect();
    exchange(&mut open, b"before");
    scene.proxy.set(Faults::refused());
    assert_reset(&mut scene.connect());
    exchange(&mut open, b"during");
    scene.proxy.heal();
    exchange(&mut scene.connect(), b"after");
}

#[test]
fn a_connection_is_cut_after_exactly_so_many_bytes() {
    let (address, server) = recorder();
    let proxy = Proxy::start(address, Content::Bytes).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    proxy.set(Faults {
        up: PathFaults {
            cut_after: Some(10),
            ..PathFaults::default()
        },
        ..Faults::default()
    });
    stream.write_all(b"0123456789abcdef").unwrap();
    assert_reset(&mut stream);
    assert!(b"0123456789".starts_with(&server.join().unwrap()));
}

/// A server that keeps what one connection brings until it ends. A reset may overtake bytes that are not yet read.
fn recorder() -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = Vec::new();
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            all.extend_from_slice(&bytes[..count]);
        }
        all
    });
    (address, thread)
}

#[test]
fn a_slow_accept_keeps_a_new_connection_waiting() {
    let scene = Scene::new();
    let mut open = scene.connect();
    exchange(&mut open, b"before");
    scene.proxy.set(Faults {
        accept_delay: Duration::from_millis(60),
        ..Faults::default()
    });
    let begun = Instant::now();
    exchange(&mut scene.connect(), b"during");
    assert!(begun.elapsed() >= Duration::from_millis(60));
    exchange(&mut open, b"during");
}

#[test]
fn a_server_that_is_gone_is_told_as_a_reset() {
    let gone = free_address().unwrap();
    let proxy = Proxy::start(gone, Content::Bytes).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_reset(&mut stream);
    proxy.forward_to(echo());
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(&mut stream, b"another server");
}

#[test]
fn several_servers_take_turns_and_one_that_is_gone_is_passed_over() {
    let greeter = |word: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.and_then(|mut stream| stream.write_all(word));
            }
        });
        address
    };
    let gone = free_address().unwrap();
    let proxy = Proxy::start(gone, Content::Bytes).unwrap();
    proxy.spread_over(&[greeter(b"a"), gone, greeter(b"b")]);
    let greeted: Vec<u8> = (0..6)
        .map(|_| {
            let mut stream = TcpStream::connect(proxy.address()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut word = [0];
            stream.read_exact(&mut word).unwrap();
            word[0]
        })
        .collect();
    assert_eq!(greeted, b"ababab");
}
