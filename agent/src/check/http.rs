//! The smallest HTTP/1.1 client that a check needs: one GET, the head of the answer, the beginning of its body.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Reply;

/// Most bytes of an answer's head; more is no HTTP that anybody meant.
const MAX_HEAD: usize = 16 * 1024;

/// Most bytes kept of a body.
const MAX_BODY: usize = 4 * 1024;

/// Whether the body matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Skip,
    Keep,
}

/// Asks for a path. Informational answers are passed over if another follows; if none does, the last of them counts.
pub(super) async fn get<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    host: &str,
    path: &str,
    body: Body,
) -> io::Result<Reply> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: revere-check/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut read = Vec::new();
    let mut informational = None;
    loop {
        let Some(end) = head(stream, &mut read).await? else {
            return informational.ok_or_else(|| wrong("it closed the connection without an answer"));
        };
        let rest = read.split_off(end);
        let (mut reply, chunked) = parse(&read)?;
        read = rest;
        if reply.status >= 200 || reply.status == 101 {
            if body == Body::Keep {
                reply.body = take_body(stream, read, chunked).await;
            }
            return Ok(reply);
        }
        informational = Some(reply);
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads until a head is complete; where it ends, or none at the end of the stream.
async fn head<S: AsyncRead + Unpin>(stream: &mut S, read: &mut Vec<u8>) -> io::Result<Option<usize>> {
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Some(end + 4));
        }
        if read.len() > MAX_HEAD {
            return Err(wrong("the head of its answer is longer than 16 KiB"));
        }
        let mut part = [0; 2048];
        let count = stream.read(&mut part).await?;
        if count == 0 {
            return Ok(None);
        }
        read.extend_from_slice(part.get(..count).unwrap_or_default());
    }
}

/// A head, and whether the body comes in chunks.
fn parse(head: &[u8]) -> io::Result<(Reply, bool)> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let no_http = || wrong("what it answers is no HTTP/1");
    let (version, rest) = lines.next().and_then(|line| line.split_once(' ')).ok_or_else(no_http)?;
    if !version.starts_with("HTTP/1.") {
        return Err(no_http());
    }
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let code = Some(code)
        .filter(|code| code.len() == 3)
        .and_then(|code| code.parse().ok());
    let mut reply = Reply {
        status: code.filter(|code| *code >= 100).ok_or_else(no_http)?,
        reason: reason.chars().filter(|c| !c.is_control()).take(64).collect(),
        content_type: String::new(),
        body: Vec::new(),
    };
    let mut chunked = false;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-type" => reply.content_type = value.trim().chars().take(128).collect(),
            "transfer-encoding" => chunked = value.to_ascii_lowercase().contains("chunked"),
            _ => {}
        }
    }
    Ok((reply, chunked))
}

/// The beginning of the body; whatever goes wrong with it takes nothing from the answer.
async fn take_body<S: AsyncRead + Unpin>(stream: &mut S, mut read: Vec<u8>, chunked: bool) -> Vec<u8> {
    while read.len() < MAX_BODY {
        let mut part = [0; 2048];
        match stream.read(&mut part).await {
            Ok(count) if count > 0 => read.extend_from_slice(part.get(..count).unwrap_or_default()),
            _ => break,
        }
    }
    let mut body = if chunked { unchunk(&read) } else { read };
    body.truncate(MAX_BODY);
    body
}

/// Puts chunks together, as far as they are there.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
        let (size, after) = rest.split_at(line);
        let size = size.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size)
            .ok()
            .and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else {
            break;
        };
        let after = after.get(2..).unwrap_or_default();
        let here = size.min(after.len());
        out.extend_from_slice(after.get(..here).unwrap_or_default());
        rest = after.get(here.saturating_add(2)..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reply to an answer that comes in pieces of that size.
    fn reply(answer: &[u8], piece: usize, body: Body) -> io::Result<Reply> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (mut here, mut there) = tokio::io::duplex(piece);
            let serve = async move {
                let mut asked = [0; 4096];
                let mut all = Vec::new();
                while !all.ends_with(b"\r\n\r\n") {
                    let count = there.read(&mut asked).await.expect("a request");
                    all.extend_from_slice(&asked[..count]);
                }
                // The client may have seen enough before the end.
                let _ = there.write_all(answer).await;
                all
            };
            let ask = async {
                let got = get(&mut here, "h:1", "/up", body).await;
                drop(here);
                got
            };
            let (asked, got) = tokio::join!(serve, ask);
            assert!(asked.starts_with(b"GET /up HTTP/1.1\r\nHost: h:1\r\n"));
            got
        })
    }

    #[test]
    fn answers_are_read_however_they_are_cut() {
        for piece in [1, 7, 4096] {
            let plain = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\nwarming";
            let got = reply(plain, piece, Body::Keep).expect("an answer");
            assert_eq!((got.status, got.reason.as_str()), (503, "Service Unavailable"));
            assert_eq!(
                (got.content_type.as_str(), got.body.as_slice()),
                ("text/plain", &b"warming"[..])
            );
            let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x\r\nwarm\r\n3\r\ning\r\n0\r\n\r\n";
            assert_eq!(reply(chunks, piece, Body::Keep).expect("an answer").body, b"warming");
        }
    }

    #[test]
    fn informational_answers_are_passed_over_if_another_follows() {
        let both = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204\r\n\r\n";
        assert_eq!(reply(both, 4096, Body::Skip).expect("an answer").status, 204);
        let alone = b"HTTP/1.1 102 Processing\r\n\r\n";
        assert_eq!(reply(alone, 4096, Body::Skip).expect("an answer").status, 102);
    }

    #[test]
    fn what_is_no_http_is_an_error() {
        let long = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 20_000]].concat();
        for answer in [
            &b""[..],
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            &long,
        ] {
            assert!(
                reply(answer, 65_536, Body::Keep).is_err(),
                "{:?}",
                String::from_utf8_lossy(answer)
            );
        }
    }
}
