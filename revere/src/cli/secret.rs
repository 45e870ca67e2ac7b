//! `revere secret ...`: values go in, paths come out.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use hyper::Method;
use hyper::body::Bytes;
use serde_json::json;

use super::app::{read, segment};
use super::client::{Client, ClientError};
use super::list::{items, text};
use super::{ClientArgs, table};

/// A secret that a JSON text cannot hold.
const NO_TEXT: &str =
    "the secret, for it is no text: send it as bytes (PUT with Content-Type: application/octet-stream)";

/// `revere secret ...`.
#[derive(Clone, Debug, Subcommand)]
pub enum SecretCommand {
    /// Make a secret. Its value is text; without --file it is read from the standard input, to the end.
    Create {
        /// Its path, such as `team/db-password`.
        path: String,
        /// Read the value from there.
        #[arg(long)]
        file: Option<PathBuf>,
        /// Change one that is there. Tasks that run keep what they have.
        #[arg(long)]
        replace: bool,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the paths of all secrets.
    List(ClientArgs),
    /// Remove a secret that no app uses.
    Remove {
        /// Its path.
        path: String,
        /// Connection.
        #[command(flatten)]
        client: ClientArgs,
    },
}

fn target(path: &str) -> String {
    let parts: Vec<String> = path.split('/').map(segment).collect();
    format!("/secrets/v1/secret/default/{}", parts.join("/"))
}

/// Carries one of them out.
pub async fn run(command: SecretCommand) -> Result<(), ClientError> {
    let mut out = std::io::stdout().lock();
    match command {
        SecretCommand::Create {
            path,
            file,
            replace,
            client,
        } => {
            let bytes = read(file.as_deref().unwrap_or(Path::new("-")))?;
            let value = String::from_utf8(bytes).map_err(|_| std::io::Error::other(NO_TEXT))?;
            let body = Bytes::from(json!({"value": value}).to_string());
            let method = if replace { Method::PATCH } else { Method::PUT };
            Client::new(&client.master)?.call(method, &target(&path), body).await?;
            writeln!(out, "{path}: kept")?;
        }
        SecretCommand::List(client) => {
            let list = "/secrets/v1/secret/default/?list=true";
            let answer = Client::new(&client.master)?.get(list).await?;
            if client.json {
                writeln!(out, "{answer:#}")?;
            } else {
                drop(out);
                let rows: Vec<Vec<String>> = items(&answer["array"]).map(|path| vec![text(path)]).collect();
                table::print(&["PATH"], &rows)?;
            }
        }
        SecretCommand::Remove { path, client } => {
            let master = Client::new(&client.master)?;
            master.call(Method::DELETE, &target(&path), Bytes::new()).await?;
            writeln!(out, "{path}: removed")?;
        }
    }
    Ok(())
}
