//! A way to a server that a test can cut or clog, for one client of it while others go on.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections stay, and nothing passes.
    Clogged,
    /// What the client sends arrives; what the server answers is lost, and so is the connection in the end.
    Mute,
    /// Connections are reset, and new ones are closed at once.
    Cut,
}

/// A TCP proxy on a port of its own. Ends with the test.
pub struct Proxy {
    port: u16,
    way: watch::Sender<Way>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let (way, ways) = watch::channel(Way::Open);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, ways.clone()));
            }
        });
        Self { port: own, way, task }
    }

    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn cut(&self) {
        self.way.send_replace(Way::Cut);
    }

    pub fn clog(&self) {
        self.way.send_replace(Way::Clogged);
    }

    pub fn mute(&self) {
        self.way.send_replace(Way::Mute);
    }

    pub fn open(&self) {
        self.way.send_replace(Way::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn carry(client: TcpStream, port: u16, mut ways: watch::Receiver<Way>) {
    if *ways.borrow() == Way::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = pump(from_client, to_server, ways.clone(), true);
    let back = pump(from_server, to_client, ways.clone(), false);
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = ways.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut ways: watch::Receiver<Way>, is_asking: bool) {
    let mut piece = vec![0; 16 * 1024];
    let mut has_lost = false;
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        // What was sent into a clogged way arrives when it is open again, however late.
        let Ok(way) = ways.wait_for(|way| matches!(way, Way::Open | Way::Mute)).await.map(|way| *way) else { return };
        // After a lost answer the others would be taken for it.
        has_lost |= way == Way::Mute && !is_asking;
        if has_lost {
            continue;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
    // The other half may have something to say still.
    tokio::time::sleep(Duration::from_millis(50)).await;
}
