//! All workers of the process: started together, asked together, stopped together.
//!
//! None comes or goes while the SFU serves: the kernel's choice of a socket for a client holds only while the
//! group of sockets is the same.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use sfu_core::command::Event;
use sfu_core::worker::{WorkerConfig, WorkerIndex};
use tokio::sync::mpsc;

use crate::handover::handovers;
use crate::sockets::Sockets;
use crate::worker_thread::{self, Order, Snapshot, WorkerLink, WorkerStopped};

/// The ways to all workers, by index. Clones lead to the same.
#[derive(Clone)]
pub(crate) struct Workers(Arc<[WorkerLink]>);

/// Starts one thread for each of `sockets`, with a worker as `config` says.
pub(crate) fn spawn(
    sockets: Vec<Sockets>,
    events: &mpsc::Sender<Event>,
    config: impl Fn(WorkerIndex) -> WorkerConfig,
) -> io::Result<(Workers, Vec<JoinHandle<()>>)> {
    let mut links = Vec::with_capacity(sockets.len());
    let mut threads = Vec::with_capacity(sockets.len());
    let handovers = handovers(sockets.len())?;
    for (sockets, handover) in sockets.into_iter().zip(handovers) {
        let config = config(handover.index());
        let (link, thread) = worker_thread::spawn(config, sockets, handover, events.clone())?;
        links.push(link);
        threads.push(thread);
    }
    Ok((Workers(links.into()), threads))
}

impl Workers {
    /// Gives an order to one of them.
    pub(crate) async fn send(&self, to: WorkerIndex, order: Order) -> Result<(), WorkerStopped> {
        self.0[usize::from(to.0)].send(order).await
    }

    /// The counters of each as they are now.
    pub(crate) async fn snapshots(&self) -> Result<Vec<Snapshot>, WorkerStopped> {
        let mut snapshots = Vec::with_capacity(self.0.len());
        for worker in self.0.iter() {
            snapshots.push(worker.snapshot().await?);
        }
        Ok(snapshots)
    }

    /// Lets all send what is ready and end.
    pub(crate) async fn stop(&self) {
        for worker in self.0.iter() {
            // An error: it has stopped already.
            worker.send(Order::Stop).await.ok();
        }
    }
}
