//! Clients and servers on loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use super::*;

/// A proxy in a thread; it ends when this is dropped.
struct Running {
    monitor: Option<UnixStream>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    fn start(routes: Vec<Route>) -> Self {
        let (monitor, far) = UnixStream::pair().unwrap();
        let thread = thread::spawn(move || serve(&far.into(), routes));
        Self { monitor: Some(monitor), thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.monitor.take());
        let result = self.thread.take().unwrap().join().unwrap();
        assert!(result.is_ok(), "{result:?}");
    }
}

/// A published port of loopback that leads to `to`.
fn stream_route(to: SocketAddr) -> (Route, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (Route { socket: listener.into(), datagrams: false, to }, address)
}

#[test]
fn all_bytes_of_many_connections_arrive_and_each_end_is_told() {
    const BYTES: usize = 3 << 20;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (route, published) = stream_route(server.local_addr().unwrap());
    let _proxy = Running::start(vec![route]);
    let echo = thread::spawn(move || {
        let serve = |mut stream: TcpStream| {
            let mut all = Vec::new();
            // It answers only when the client has said all: half a connection stays open meanwhile.
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        };
        let threads: Vec<_> = (0..8)
            .map(|_| server.accept().unwrap().0)
            .map(|stream| thread::spawn(move || serve(stream)))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    thread::scope(|scope| {
        for number in 0..8u8 {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(published).unwrap();
                let sent: Vec<u8> = (0..BYTES).map(|place| (place % 251) as u8 ^ number).collect();
                stream.write_all(&sent).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).unwrap();
                assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
            });
        }
    });
    echo.join().unwrap();
}

#[test]
fn a_client_of_a_closed_port_is_reset_and_the_next_one_is_served() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    drop(server);
    let (route, published) = stream_route(address);
    let _proxy = Running::start(vec![route]);
    let error = TcpStream::connect(published).unwrap().read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let server = TcpListener::bind(address).unwrap();
    let mut client = TcpStream::connect(published).unwrap();
    server.accept().unwrap().0.write_all(b"hello").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn a_reader_that_takes_its_time_loses_nothing() {
    const BYTES: usize = 8 << 20;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (route, published) = stream_route(server.local_addr().unwrap());
    let _proxy = Running::start(vec![route]);
    let mut client = TcpStream::connect(published).unwrap();
    let (mut far, _) = server.accept().unwrap();
    let writer = thread::spawn(move || far.write_all(&vec![7; BYTES]).unwrap());
    thread::sleep(Duration::from_millis(100));
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), BYTES);
    writer.join().unwrap();
}

#[test]
fn each_client_gets_the_answers_to_its_own_datagrams() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    let to = server.local_addr().unwrap();
    let _proxy = Running::start(vec![Route { socket: socket.into(), datagrams: true, to }]);
    let clients: Vec<_> = (2..6u8)
        .map(|number| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            // Each asks another of this machine's addresses, and takes answers from that one alone.
            client.connect((std::net::Ipv4Addr::new(127, 0, 0, number), port)).unwrap();
            client.send(&[number]).unwrap();
            (number, client)
        })
        .collect();
    let mut buffer = [0; 16];
    for _ in &clients {
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], from).unwrap();
    }
    for (number, client) in &clients {
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], *number);
    }
}

#[test]
fn tokens_are_told_apart() {
    for token in [
        Token::Monitor,
        Token::Route(0),
        Token::Route(70_000),
        Token::Stream(9, 1),
        Token::Stream(9, 0),
        Token::Session(3),
    ] {
        assert_eq!(Token::of(token.data()), token);
    }
}
