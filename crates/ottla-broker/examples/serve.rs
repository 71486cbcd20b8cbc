//! Runs an embedded cluster until Ctrl-C: `serve [LISTEN] [NODES] [DATA_DIR]`.

use ottla_broker::{BrokerOptions, EmbeddedCluster};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let mut arguments = std::env::args().skip(1);
    let mut options = BrokerOptions::default();
    if let Some(listen) = arguments.next() {
        options.listen = listen;
    }
    if let Some(nodes) = arguments.next() {
        options.nodes = nodes.parse()?;
    }
    options.data_dir = arguments.next().map(Into::into);
    let cluster = EmbeddedCluster::start(options).await?;
    println!("bootstrap.servers={}", cluster.bootstrap_servers());
    tokio::signal::ctrl_c().await?;
    cluster.stop().await;
    Ok(())
}
