//! A registry that misbehaves by a script, over real connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What is done after the bytes are sent.
enum Then {
    Close,
    Hang,
}

/// Serves one request per connection, each by the script; gives its address and the heads of all requests.
async fn serve(script: fn(&str) -> (String, Then)) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let host = listener.local_addr().expect("an address").to_string();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = Arc::clone(&told);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a byte"));
                }
                let head = String::from_utf8(head).expect("text");
                told.lock().await.push(head.clone());
                let (answer, then) = script(&head);
                stream.write_all(answer.as_bytes()).await.expect("sends");
                if let Then::Hang = then {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    (host, heads)
}

fn registry<'a>(http: &'a HttpClient, host: &'a str) -> Registry<'a> {
    Registry {
        http,
        host,
        repository: "team/app",
        scheme: "http",
        credentials: None,
        authorization: Mutex::default(),
    }
}

fn descriptor(content: &[u8]) -> Descriptor {
    Descriptor {
        media_type: String::new(),
        digest: Digest::of(content),
        size: u64::try_from(content.len()).expect("fits"),
        platform: None,
        annotations: Default::default(),
    }
}

const CONTENT: &str = "0123456789";

#[tokio::test]
async fn a_layer_that_breaks_off_goes_on_where_it_ended() {
    let (host, heads) = serve(|head| match head.contains("range: bytes=4-") {
        true => (
            "HTTP/1.1 206 Partial Content\r\ncontent-length: 6\r\n\r\n456789".to_owned(),
            Then::Close,
        ),
        false => (
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123".to_owned(),
            Then::Close,
        ),
    })
    .await;
    let http = HttpClient::new(Duration::from_secs(60));
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("layer");
    let registry = registry(&http, &host);
    registry
        .layer(&descriptor(CONTENT.as_bytes()), &file, &Progress::default())
        .await
        .expect("whole");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), CONTENT);
    assert_eq!(heads.lock().await.len(), 2);
    // What is whole is not asked for.
    registry
        .layer(&descriptor(CONTENT.as_bytes()), &file, &Progress::default())
        .await
        .expect("whole");
    assert_eq!(heads.lock().await.len(), 2);
}

#[tokio::test]
async fn a_registry_that_ignores_ranges_begins_anew() {
    let (host, _) = serve(|_| {
        (
            format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{CONTENT}"),
            Then::Close,
        )
    })
    .await;
    let http = HttpClient::new(Duration::from_secs(60));
    let dir = tempfile::tempdir().expect("tempdir");
    let file = dir.path().join("layer");
    std::fs::write(&file, "half").expect("writes");
    registry(&http, &host)
        .layer(&descriptor(CONTENT.as_bytes()), &file, &Progress::default())
        .await
        .expect("whole");
    assert_eq!(std::fs::read_to_string(&file).expect("there"), CONTENT);
}

#[tokio::test]
async fn a_silent_registry_is_given_up() {
    let (host, heads) = serve(|_| ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".to_owned(), Then::Hang)).await;
    let http = HttpClient::new(Duration::from_millis(20));
    let dir = tempfile::tempdir().expect("tempdir");
    let registry = registry(&http, &host);
    let done = registry
        .layer(
            &descriptor(CONTENT.as_bytes()),
            &dir.path().join("layer"),
            &Progress::default(),
        )
        .await;
    let error = done.expect_err("silent").to_string();
    assert!(error.contains("has sent nothing for 20ms"), "{error}");
    assert_eq!(heads.lock().await.len(), 4, "it was tried again before");
}

#[tokio::test]
async fn a_token_is_fetched_and_shown() {
    let (host, heads) = serve(|head| {
        let body = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let answer = if head.starts_with("GET /token?service=s&scope=repository:team/app:pull ") {
            assert!(head.contains("authorization: Basic dTpw"), "{head}");
            body("{\"token\":\"t0\"}")
        } else if head.contains("authorization: Bearer t0") {
            body("{\"schemaVersion\":2}")
        } else {
            format!(
                "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"http://{host}/token\",service=\"s\"\r\ncontent-length: 0\r\n\r\n"
            )
        };
        (answer, Then::Close)
    })
    .await;
    let dir = tempfile::tempdir().expect("tempdir");
    let file = format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"dTpw\"}}}}}}");
    std::fs::write(dir.path().join("config.json"), file).expect("writes");
    let http = HttpClient::new(Duration::from_secs(60));
    let mut registry = registry(&http, &host);
    registry.credentials = super::super::credentials::find(dir.path(), None, &host).expect("reads");
    assert_eq!(
        registry.manifest("1").await.expect("is given"),
        b"{\"schemaVersion\":2}"
    );
    registry.manifest("1").await.expect("is given");
    assert_eq!(heads.lock().await.len(), 4, "the token is kept");
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_has_a_sentence() {
    let (host, _) = serve(|head| {
        let status = if head.contains("/missing ") {
            "404 Not Found"
        } else {
            "403 Forbidden"
        };
        (format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"), Then::Close)
    })
    .await;
    let http = HttpClient::new(Duration::from_secs(60));
    let registry = registry(&http, &host);
    let missing = registry.manifest("missing").await.expect_err("missing").to_string();
    assert_eq!(missing, format!("the registry {host} has no image team/app:missing"));
    let refused = registry.manifest("secret").await.expect_err("refused").to_string();
    assert!(refused.contains("node.image_credentials"), "{refused}");
    let (host, _) = serve(|_| {
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".to_owned(),
            Then::Close,
        )
    })
    .await;
    let digest = Digest::of(b"good").to_string();
    let forged = self::registry(&http, &host)
        .manifest(&digest)
        .await
        .expect_err("forged")
        .to_string();
    assert!(forged.contains("is not what it should be"), "{forged}");
}
