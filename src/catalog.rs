//! Which queues there are, and what each is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::config;
use crate::id::QueueName;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Jobs that live in Redis alone.
    Plain,
    /// Equal jobs coalesce: each waits as a follower of one run.
    Intake,
    /// The runs of an intake queue.
    Work,
    /// Deliveries that are due.
    Delivery,
}

/// A queue that this server knows.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: QueueName,
    pub kind: Kind,
    /// As declared; a work queue shares its intake queue's declaration.
    pub settings: Arc<config::Queue>,
    /// The declared queue that this one belongs to.
    pub scope: QueueName,
}

/// All queues that this server knows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalog {
    entries: Arc<BTreeMap<String, Entry>>,
    delivery: QueueName,
    is_open: bool,
}

impl Catalog {
    pub fn new(queues: &config::Queues, delivery: &config::Delivery) -> Self {
        let mut entries = BTreeMap::new();
        for (name, settings) in &queues.declared {
            let settings = Arc::new(settings.clone());
            let mut add = |name: QueueName, kind, scope: &QueueName| {
                let entry = Entry { name: name.clone(), kind, settings: settings.clone(), scope: scope.clone() };
                entries.insert(name.as_str().to_owned(), entry);
            };
            let kind = if settings.dedupe.is_some() { Kind::Intake } else { Kind::Plain };
            add(name.clone(), kind, name);
            // A plain queue has one too: a request may bring a dedupe key of its own.
            add(name.work(), Kind::Work, name);
        }
        let name = delivery.queue.clone();
        let settings = Arc::new(config::Queue {
            concurrency: delivery.concurrency,
            backoff: delivery.backoff,
            ..config::Queue::default()
        });
        let entry = Entry { name: name.clone(), kind: Kind::Delivery, settings, scope: name.clone() };
        entries.insert(name.as_str().to_owned(), entry);
        Self { entries: Arc::new(entries), delivery: name, is_open: queues.open }
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The queue whose jobs wake us to deliver.
    pub fn delivery(&self) -> &QueueName {
        &self.delivery
    }

    /// Whether queues that are not declared are served too, as plain ones without a processor.
    pub fn is_open(&self) -> bool {
        self.is_open
    }
}
