//! Who this node says it is to a registry: Docker's own file of credentials, and the tokens that registries give for them.

use std::collections::BTreeMap;
use std::path::Path;

use data_encoding::{BASE64, BASE64_NOPAD};
use serde::Deserialize;

/// The file for images that name no credentials.
const DEFAULT: &str = "config.json";

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("this node has no credentials named `{0}`: put them into node.image_credentials as a file of that name")]
    Missing(String),
    #[error("the credentials `{0}` are not in the form of Docker's config.json: {1}")]
    Damaged(String, String),
}

/// A user's name and password, as sent.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// `user:password` in base64.
    basic: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl Credentials {
    /// The header's value.
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", self.basic)
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// Those for a registry, from the file of that name, or from the default one, which need not be there.
pub(crate) fn find(dir: &Path, name: Option<&str>, host: &str) -> Result<Option<Credentials>, CredentialsError> {
    let shown = name.unwrap_or(DEFAULT);
    let text = match (std::fs::read(dir.join(shown)), name) {
        (Ok(text), _) => text,
        (Err(_), None) => return Ok(None),
        (Err(_), Some(name)) => return Err(CredentialsError::Missing(name.to_owned())),
    };
    parse(&text, host).map_err(|error| CredentialsError::Damaged(shown.to_owned(), error))
}

fn parse(text: &[u8], host: &str) -> Result<Option<Credentials>, String> {
    let file: File = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let plain = |key: &str| {
        let key = key.trim_start_matches("https://").trim_start_matches("http://");
        let key = key.split('/').next().unwrap_or_default();
        let hub = ["index.docker.io", "docker.io"].contains(&key) && host == "registry-1.docker.io";
        hub || key == host
    };
    let Some((_, auth)) = file.auths.iter().find(|(key, _)| plain(key)) else {
        return Ok(None);
    };
    let basic = match (&auth.auth, &auth.username, &auth.password) {
        (Some(auth), ..) if !auth.is_empty() => {
            let bytes = BASE64_NOPAD
                .decode(auth.trim_end_matches('=').as_bytes())
                .map_err(|_| "`auth` is no base64".to_owned())?;
            BASE64.encode(&bytes)
        }
        (_, Some(user), Some(password)) => BASE64.encode(format!("{user}:{password}").as_bytes()),
        _ => {
            return Err(format!(
                "the entry of {host} has neither `auth` nor `username` and `password`"
            ));
        }
    };
    Ok(Some(Credentials { basic }))
}

/// What a registry asks for with status 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    /// A token from there.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut values = parameters(rest);
        Some(Self::Bearer {
            realm: values.remove("realm")?,
            service: values.remove("service"),
            scope: values.remove("scope"),
        })
    }

    /// Where a token is asked for, with what is needed to pull from the repository if the registry did not say.
    pub(crate) fn token_url(&self, repository: &str) -> Option<String> {
        let Self::Bearer { realm, service, scope } = self else {
            return None;
        };
        let scope = scope.clone().unwrap_or_else(|| format!("repository:{repository}:pull"));
        let join = if realm.contains('?') { '&' } else { '?' };
        let service = service
            .as_ref()
            .map(|service| format!("service={}&", escaped(service)))
            .unwrap_or_default();
        Some(format!("{realm}{join}{service}scope={}", escaped(&scope)))
    }
}

/// `a="b",c="d"`; commas may stand inside of quotes.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        out.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        rest = left.trim_start_matches([',', ' ']);
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_commas_in_quotes() {
        let header =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let challenge = Challenge::parse(header).expect("a challenge");
        assert_eq!(
            challenge.token_url("a/b").as_deref(),
            Some("https://auth.example/token?service=registry.example&scope=repository:a/b:pull,push")
        );
        let bare = Challenge::parse("bearer realm=http://t.example/?k=1").expect("a challenge");
        assert_eq!(
            bare.token_url("x").as_deref(),
            Some("http://t.example/?k=1&scope=repository:x:pull")
        );
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Digest realm=\"x\""), None);
        assert_eq!(Challenge::parse("Bearer service=\"x\""), None);
    }

    #[test]
    fn dockers_file_is_read() {
        let text = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}, "r:5000": {"username": "u", "password": "q"}}}"#;
        let basic = |host: &str| parse(text, host).expect("reads").map(|found| found.basic());
        assert_eq!(basic("registry-1.docker.io").as_deref(), Some("Basic dTpw"));
        assert_eq!(basic("r:5000").as_deref(), Some("Basic dTpx"));
        assert_eq!(basic("other"), None);
        assert!(parse(b"{\"auths\": {\"r\": {}}}", "r").is_err() && parse(b"x", "r").is_err());
        assert!(!format!("{:?}", parse(text, "r:5000")).contains("dTpx"), "not in logs");
    }

    #[test]
    fn only_named_credentials_must_be_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        assert_eq!(find(dir.path(), None, "r").expect("none needed"), None);
        let error = find(dir.path(), Some("team"), "r").expect_err("missing").to_string();
        assert!(error.contains("`team`"), "{error}");
    }
}
