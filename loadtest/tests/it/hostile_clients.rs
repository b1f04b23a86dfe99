//! Clients of the Postgres listener that are broken, hostile or gone: each is turned away, and nobody else notices.

use std::net::SocketAddr;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stage::{PATIENCE, Stage};

async fn connect(at: SocketAddr) -> TcpStream {
    TcpStream::connect(at).await.expect("the listener takes connections")
}

/// Sends `bytes` and reads until the server closes, or for a moment where it waits for more.
async fn send(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(at).await;
    let mut answer = Vec::new();
    // The server may close before all of it is written.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server closes what makes no sense");
    answer
}

fn startup() -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    body.extend_from_slice(b"user\0me\0database\0plimsoll\0\0");
    let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
    message.extend_from_slice(&body);
    message
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(body);
    message
}

/// Reads messages of the server until one of `kind`; gives its body.
async fn until(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    loop {
        let mut head = [0; 5];
        timeout(PATIENCE, stream.read_exact(&mut head)).await.expect("the server answers").expect("a message");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("a body");
        if head[0] == kind {
            return body;
        }
        assert_ne!(head[0], b'E', "{}", String::from_utf8_lossy(&body));
    }
}

async fn session(at: SocketAddr) -> TcpStream {
    let mut stream = connect(at).await;
    stream.write_all(&startup()).await.expect("taken");
    until(&mut stream, b'Z').await;
    stream
}

async fn answers(at: SocketAddr) {
    let mut stream = session(at).await;
    stream.write_all(&message(b'Q', b"SELECT 42\0")).await.expect("taken");
    let row = until(&mut stream, b'D').await;
    assert!(row.ends_with(b"42"), "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_make_no_sense_are_refused_and_others_are_served_meanwhile() {
    let stage = Stage::start().await;
    let at = stage.server.addresses().postgres;
    let seed = 20_261_121;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for round in 0..200 {
        let mut bytes = vec![0; random.random_range(0..2_000)];
        random.fill(&mut bytes[..]);
        // Some get past the start, and are nonsense only then.
        let bytes = match round % 4 {
            0 => bytes,
            1 => [startup(), bytes].concat(),
            2 => {
                let kind = b"QPBDECHSXpdcfF"[random.random_range(0..14)];
                [startup(), message(kind, &bytes)].concat()
            }
            _ => {
                let mut whole = [startup(), message(b'P', b"s\0SELECT $1\0\0\0"), message(b'B', &bytes)].concat();
                let at = random.random_range(0..whole.len());
                whole[at] ^= 1 << random.random_range(0..8);
                whole
            }
        };
        send(at, &bytes).await;
    }
    // Half a start, and the client waits: it must not keep anyone.
    let mut halves = Vec::new();
    for cut in 1..startup().len() {
        let mut stream = connect(at).await;
        stream.write_all(&startup()[..cut]).await.expect("taken");
        halves.push(stream);
        answers(at).await;
    }
    let told = send(at, &[&startup()[..], b"Q\x7f\xff\xff\xff"].concat()).await;
    assert!(String::from_utf8_lossy(&told).contains("08P01"), "{}", String::from_utf8_lossy(&told));
    assert!(send(at, b"\x7f\xff\xff\xff").await.windows(5).any(|window| window == b"08P01"));
    assert!(send(at, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.windows(5).any(|window| window == b"08P01"));
    answers(at).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_sessions_are_turned_away_in_words_and_leave_room_once_they_go() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let file = directory.path().join("plimsoll.yaml");
    std::fs::write(&file, "postgres:\n  connections_max: 20\n").expect("the directory is writable");
    let stage = Stage::start_with(|options| {
        options.arguments.extend(["--config".to_owned(), file.display().to_string()]);
    })
    .await;
    let at = stage.server.addresses().postgres;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(session(at).await);
    }
    let told = send(at, &startup()).await;
    assert!(String::from_utf8_lossy(&told).contains("53300"), "{}", String::from_utf8_lossy(&told));
    // A thousand more that never say a word.
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        idle.push(connect(at).await);
    }
    // Those that are in go on.
    let first = &mut sessions[0];
    first.write_all(&message(b'Q', b"SELECT 42\0")).await.expect("taken");
    assert!(until(first, b'D').await.ends_with(b"42"));
    drop(idle);
    drop(sessions);
    // The server notices that they have gone when it reads from them.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut stream = connect(at).await;
        let _ = stream.write_all(&startup()).await;
        let mut head = [0; 1];
        if stream.read_exact(&mut head).await.is_ok() && head[0] == b'R' {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "sessions that have gone still count");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_ends_its_query_and_frees_its_slot() {
    let stage = Stage::start().await;
    let at = stage.server.addresses().postgres;
    let heavy = message(
        b'Q',
        b"SELECT count(*) FROM (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) a(x), (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) b(x), \
          (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) c(x), (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) d(x), \
          (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) e(x), (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) f(x), \
          (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) g(x), (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) h(x), \
          (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) i(x), (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) j(x), \
          (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) k(x), (VALUES (1),(2),(3),(4),(5),(6),(7),(8),(9),(10)) l(x) \
          WHERE a.x + b.x + c.x + d.x + e.x + f.x + g.x + h.x + i.x + j.x + k.x + l.x < 0\0",
    );
    // More than there are slots, all of which would be taken for as long as queries may run.
    for _ in 0..12 {
        let mut stream = session(at).await;
        stream.write_all(&heavy).await.expect("taken");
        drop(stream);
    }
    timeout(Duration::from_secs(20), answers(at)).await.expect("slots are free long before queries would have ended");
    // And in the middle of an answer.
    for _ in 0..6 {
        let mut stream = session(at).await;
        let sql =
            b"SELECT a.column_name, b.column_name FROM information_schema.columns a, information_schema.columns b\0";
        stream.write_all(&message(b'Q', sql)).await.expect("taken");
        let mut some = [0; 100];
        let _ = timeout(PATIENCE, stream.read(&mut some)).await;
        drop(stream);
    }
    timeout(Duration::from_secs(20), answers(at)).await.expect("slots are free");
}
