// A BullMQ producer that waits for its jobs. Each line on stdin is an array of {name?, data, opts?}; all are added at
// once. Says {event: "ready"}, for each job {event: "added", index, id} and, when the producer sees its end,
// {event: "ended", index, id, ok, value | error}. `index` counts all jobs of this process.
// Environment: REDIS_URL, QUEUE, PREFIX, VERSION (5 or 6), TTL (ms to wait for one job).

import { bullmq, obey, peer, say, survive } from './lines.mjs';

const { Queue, QueueEvents } = await bullmq();
const { queue: name, options } = peer();
const ttl = Number(process.env.TTL ?? 60000);

const queue = new Queue(name, options);
// From the first event there is: "from now on" begins when the first read reaches Redis, and a job may have ended by then.
const events = new QueueEvents(name, { ...options, lastEventId: '0-0' });
events.setMaxListeners(0);
survive(queue, events);
await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
say({ event: 'ready' });

let count = 0;

async function produce({ name = 'video', data, opts }, index) {
  let id;
  try {
    const job = await queue.add(name, data, opts);
    id = job.id;
    say({ event: 'added', index, id });
    const value = await job.waitUntilFinished(events, ttl);
    say({ event: 'ended', index, id, ok: true, value: value ?? null });
  } catch (error) {
    say({ event: 'ended', index, id: id ?? null, ok: false, error: error.message });
  }
}

await obey((jobs) => Promise.all(jobs.map((job) => produce(job, count++))));
