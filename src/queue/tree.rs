//! A job with its children and theirs, as far as one wants to look.

use futures::future::try_join_all;

use super::{Child, ChildKind, ChildrenCounts, Error, Queue, Record, State};

/// How far to look.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Generations below the first job.
    pub depth: u32,
    /// Children of one job.
    pub width: u32,
    /// Jobs in all.
    pub jobs: usize,
}

/// A job of a tree.
#[derive(Clone)]
pub struct Branch {
    /// `<prefix>:<queue>:<id>`
    pub key: String,
    /// What became of it for its parent; nothing for the first.
    pub place: Option<(ChildKind, Option<String>)>,
    /// Nothing for a job that was removed, or whose queue is not known here.
    pub job: Option<Found>,
    pub children: Vec<Branch>,
}

#[derive(Clone)]
pub struct Found {
    pub queue: Queue,
    pub record: Record,
    pub state: Option<State>,
    /// All that there are, whether they are told here or not.
    pub children: ChildrenCounts,
}

impl Queue {
    /// A job's tree; `None` if there is no such job. `queue_of` gives the queue of a child by its name, if it is known.
    ///
    /// It is read in steps, while jobs may move on: what is told of each was true when it was looked at.
    ///
    /// # Errors
    /// `Redis`.
    pub async fn tree(
        &self,
        id: &str,
        extent: Extent,
        queue_of: impl Fn(&str) -> Option<Queue>,
    ) -> Result<Option<Branch>, Error> {
        let Some(found) = find(self, id).await? else { return Ok(None) };
        // A list with the place of each one's parent; made into a tree at the end.
        let key = self.keys().job(id);
        let mut seen = vec![(0, Branch { key, place: None, job: Some(found), children: Vec::new() })];
        let mut generation = 0..1;
        for _ in 0..extent.depth {
            let room = extent.jobs.saturating_sub(seen.len());
            let width = extent.width.min(u32::try_from(room).unwrap_or(u32::MAX));
            let looks = seen[generation.clone()].iter().map(|(_, branch)| children_of(branch, width));
            let children = try_join_all(looks).await?;
            let (first, next) = (generation.start, seen.len());
            let parents = children.into_iter().enumerate().flat_map(|(i, list)| list.into_iter().map(move |c| (i, c)));
            let looks = parents.take(room).map(|(parent, (kind, child))| {
                let place = self.place_of(&child.key, &queue_of);
                async move {
                    let job = match &place {
                        Some((queue, id)) => find(queue, id).await?,
                        None => None,
                    };
                    let branch = Branch { key: child.key, place: Some((kind, child.told)), job, children: Vec::new() };
                    Ok::<_, Error>((first + parent, branch))
                }
            });
            let found = try_join_all(looks).await?;
            seen.extend(found);
            generation = next..seen.len();
            if generation.is_empty() {
                break;
            }
        }
        // Each stands behind its parent: from the last one back, every branch is whole when it is joined.
        while seen.len() > 1 {
            let Some((parent, branch)) = seen.pop() else { break };
            seen[parent].1.children.insert(0, branch);
        }
        Ok(seen.pop().map(|(_, root)| root))
    }

    /// The queue and the id in a job's key, of queues with our prefix. A queue's name has no colon; an id may have some.
    fn place_of(&self, key: &str, queue_of: impl Fn(&str) -> Option<Queue>) -> Option<(Queue, String)> {
        let prefix = self.keys().base().strip_suffix(&format!("{}:", self.name()))?;
        let (queue, id) = key.strip_prefix(prefix)?.split_once(':')?;
        let queue = queue_of(queue)?;
        queue.keys().is_job(id).then(|| (queue, id.to_owned()))
    }
}

async fn find(queue: &Queue, id: &str) -> Result<Option<Found>, Error> {
    if !queue.keys().is_job(id) {
        return Ok(None);
    }
    let (state, children) = tokio::try_join!(queue.state(id), queue.children_counts(id))?;
    let Some(record) = queue.job(id).await? else { return Ok(None) };
    Ok(Some(Found { queue: queue.clone(), record, state, children }))
}

/// The first children of a job, by what became of them.
async fn children_of(branch: &Branch, width: u32) -> Result<Vec<(ChildKind, Child)>, Error> {
    let Some(Found { queue, record, children, .. }) = &branch.job else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (kind, count) in [
        (ChildKind::Unprocessed, children.unprocessed),
        (ChildKind::Processed, children.processed),
        (ChildKind::Ignored, children.ignored),
        (ChildKind::Failed, children.failed),
    ] {
        let mut cursor = None;
        while count > 0 && found.len() < width as usize {
            let room = width - u32::try_from(found.len()).unwrap_or(width);
            let (mut page, next) = queue.children(record.id(), kind, cursor, room).await?;
            page.sort_by(|a, b| a.key.cmp(&b.key));
            found.extend(page.into_iter().map(|child| (kind, child)));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
    }
    found.truncate(width as usize);
    Ok(found)
}
