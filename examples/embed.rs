//! A server of NATS Streaming inside a program: started, watched and stopped in a few lines.
//!
//!     cargo run --example embed -- postgres://stanby@localhost/stan nats://127.0.0.1:4222 test-cluster

use std::process::ExitCode;

use stanby::server::Error;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [database_url, nats_server, cluster_id] = args.as_slice() else {
        eprintln!("usage: embed DATABASE_URL NATS_SERVER CLUSTER_ID");
        return ExitCode::from(2);
    };
    let interrupt = async {
        tokio::signal::ctrl_c().await.ok();
    };
    match serve(database_url, nats_server, cluster_id, interrupt).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until `enough`; a standby of the same database takes over then.
pub(crate) async fn serve(
    database_url: &str,
    nats_server: &str,
    cluster_id: &str,
    enough: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut server = stanby::Server::builder()
        .database_url(database_url)
        .nats_server(nats_server)
        .cluster_id(cluster_id)
        .setting("max-msgs", 100_000)
        .start()
        .await?;
    eprintln!("it is {:?}", server.role());
    tokio::select! {
        () = enough => server.stop().await,
        ended = server.ended() => ended,
    }
}
