//! Precedence, unknown keys and wrong types.

use super::layer::Layers;
use super::{Config, ConfigError};

fn layers() -> Layers {
    Layers::new(&Config::default()).expect("defaults")
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), text).expect("written");
    let mut layers = layers();
    layers.file(file.path())?;
    layers.finish()
}

#[test]
fn later_layers_win() {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(
        file.path(),
        "[master]\nlisten = \"1.1.1.1:1\"\ncluster = \"file\"\nframework = \"file\"\n",
    )
    .expect("written");
    let mut layers = layers();
    layers.file(file.path()).expect("file");
    let env = [
        ("REVERE_MASTER_CLUSTER", "env"),
        ("REVERE_MASTER_FRAMEWORK", "env"),
        ("REVERE_MASTER", "http://x"),
        ("PATH", ""),
    ];
    layers
        .environment(env.into_iter().map(|(k, v)| (k.to_owned(), v.into())))
        .expect("environment");
    layers.text("--set", "master.framework", "flag").expect("flag");
    let config = layers.finish().expect("valid");
    assert_eq!(
        (
            config.master.listen.as_str(),
            config.master.cluster.as_str(),
            config.master.framework.as_str()
        ),
        ("1.1.1.1:1", "env", "flag")
    );
}

#[test]
fn unknown_keys_name_the_nearest() {
    let error = from_file("[master]\nlisen = \"x\"\n").expect_err("refused").to_string();
    assert!(
        error.contains("`master.lisen`") && error.contains("did you mean `master.listen`?"),
        "{error}"
    );
    let error = from_file("[mastr]\nlisten = \"x\"\n").expect_err("refused").to_string();
    assert!(error.contains("no key `mastr`; did you mean `master`?"), "{error}");
    let error = layers().text("--set", "listen", "x").expect_err("refused").to_string();
    assert!(error.contains("did you mean `master.listen`?"), "{error}");
    let env = [("REVERE_MASTER_LISTN".to_owned(), "x".into())];
    let error = layers().environment(env.into_iter()).expect_err("refused").to_string();
    assert!(error.contains("REVERE_MASTER_LISTEN"), "{error}");
    let error = layers()
        .text("--set", "master.state_dirs", "x")
        .expect_err("refused")
        .to_string();
    assert!(error.contains("master.state_dir"), "{error}");
}

#[test]
fn wrong_types_name_key_and_type() {
    let error = from_file("[master]\nlisten = 5050\n").expect_err("refused").to_string();
    assert!(error.ends_with("`master.listen` must be a string, not 5050"), "{error}");
    let error = from_file("[master]\nagent_timeout_seconds = \"x\"\n")
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("`master.agent_timeout_seconds` must be an integer"),
        "{error}"
    );
    let error = layers()
        .text("--set", "master.agent_timeout_seconds", "soon")
        .expect_err("refused")
        .to_string();
    assert!(error.contains("must be an integer, not \"soon\""), "{error}");
    assert!(matches!(from_file("[master\n"), Err(ConfigError::Syntax { .. })));
}

#[test]
fn a_section_is_a_table() {
    let error = from_file("master = 3\n").expect_err("refused").to_string();
    assert!(error.ends_with("`master` must be a table, not 3"), "{error}");
}

#[test]
fn variables_that_are_no_text_are_refused_by_name() {
    use std::os::unix::ffi::OsStringExt as _;
    let broken = || std::ffi::OsString::from_vec(vec![0xff]);
    let env = [("REVERE_MASTER_CLUSTER".to_owned(), broken())];
    let error = layers().environment(env.into_iter()).expect_err("refused").to_string();
    assert!(
        error.contains("REVERE_MASTER_CLUSTER") && error.contains("valid UTF-8"),
        "{error}"
    );
    let foreign = [("LS_COLORS".to_owned(), broken())];
    assert!(layers().environment(foreign.into_iter()).is_ok());
}

#[test]
fn what_is_printed_can_be_read() {
    let text = super::to_toml(&Config::default()).expect("printed");
    assert_eq!(
        super::to_toml(&from_file(&text).expect("valid")).expect("printed"),
        text
    );
}
