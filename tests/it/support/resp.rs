//! Just enough of Redis's protocol to ask raw questions, independent of the client that is under test.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// An answer of Redis.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Nil,
    Number(i64),
    Text(String),
    List(Vec<Reply>),
    Error(String),
}

impl Reply {
    /// # Panics
    /// If it is no number.
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("Redis answered {other:?} instead of a number"),
        }
    }

    /// `None` for nil.
    ///
    /// # Panics
    /// If it is neither text nor nil.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Nil => None,
            other => panic!("Redis answered {other:?} instead of text"),
        }
    }

    /// # Panics
    /// If it is no list of texts.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::List(items) => items.iter().map(|item| item.text().expect("a text")).collect(),
            other => panic!("Redis answered {other:?} instead of a list"),
        }
    }
}

/// Sends one command on a connection of its own.
///
/// # Errors
/// If Redis cannot be reached or hangs up. What Redis itself refuses is [`Reply::Error`].
pub async fn ask(port: u16, command: &[&str]) -> std::io::Result<Reply> {
    let mut connection = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
    let mut request = format!("*{}\r\n", command.len());
    for part in command {
        request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    connection.write_all(request.as_bytes()).await?;
    read(&mut connection).await
}

async fn read(connection: &mut BufReader<TcpStream>) -> std::io::Result<Reply> {
    let mut line = String::new();
    connection.read_line(&mut line).await?;
    let line = line.trim_end();
    let (Some(kind), Some(rest)) = (line.get(..1), line.get(1..)) else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let number = || rest.parse::<i64>().map_err(std::io::Error::other);
    Ok(match kind {
        "+" => Reply::Text(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(number()?),
        "$" => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                connection.read_exact(&mut bytes).await?;
                Reply::Text(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
        },
        "*" => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(length) => {
                let mut items = Vec::new();
                for _ in 0..length {
                    items.push(Box::pin(read(connection)).await?);
                }
                Reply::List(items)
            }
        },
        _ => return Err(std::io::Error::other(format!("no RESP: {line}"))),
    })
}
