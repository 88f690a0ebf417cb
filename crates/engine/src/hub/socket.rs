//! What the kernel knows about a socket and no safe interface tells: how much it has not got rid of yet. And how to
//! make it forget that.

use std::os::fd::RawFd;

/// Bytes that were written to a connected socket and that its peer has not acknowledged yet. While nothing is written,
/// a smaller number than before means that the peer has taken something. `None` if the kernel does not say.
#[must_use]
pub fn unacknowledged_bytes(fd: RawFd) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int to the address given; on what is no socket it fails.
    let result = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    (result == 0).then(|| u64::try_from(bytes).unwrap_or(0))
}

/// Ends a connected socket so that the kernel drops what its peer has not taken, instead of keeping it for a peer that
/// takes nothing. The descriptor stays open.
pub fn abort(fd: RawFd) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // A linger is a few bytes long.
    let length = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the option is given as the type and length that SO_LINGER takes; on what is no socket both calls fail.
    unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            length,
        );
        libc::shutdown(fd, libc::SHUT_RDWR);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd,
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    fn fill(socket: &mut TcpStream) {
        socket.set_nonblocking(true).unwrap();
        while let Ok(written) = socket.write(&[0; 64 << 10]) {
            assert!(written > 0);
        }
    }

    #[test]
    fn a_peer_that_reads_is_seen_to() {
        let (mut server, mut client) = pair();
        fill(&mut server);
        let before = unacknowledged_bytes(server.as_raw_fd()).unwrap();
        assert!(before > 0);
        let mut buffer = vec![0; 64 << 10];
        while unacknowledged_bytes(server.as_raw_fd()).unwrap() == before {
            client.read_exact(&mut buffer).unwrap();
        }
        assert!(unacknowledged_bytes(server.as_raw_fd()).unwrap() < before);
    }

    #[test]
    fn an_aborted_socket_takes_its_bytes_with_it() {
        let (mut server, mut client) = pair();
        fill(&mut server);
        abort(server.as_raw_fd());
        drop(server);
        let mut buffer = vec![0; 1 << 20];
        let end = loop {
            match client.read(&mut buffer) {
                Ok(0) => panic!("a polite end"),
                Ok(_) => {}
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(end, ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_is_no_socket_has_no_answer() {
        assert_eq!(unacknowledged_bytes(-1), None);
        abort(-1);
    }
}
