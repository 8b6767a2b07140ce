//! The `onetake` program.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    onetake::cli::run().await
}
