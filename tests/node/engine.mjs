// Works a queue off with a processor that does nothing, until it is killed; or adds jobs to it and tells the seconds: for the
// benchmark to measure beside ours. Environment: REDIS_URL, QUEUE, PREFIX, VERSION, TASK (work | add | bulk), JOBS, and at
// once: CONCURRENCY.

import { bullmq, peer, survive } from './lines.mjs';

const { Queue, Worker } = await bullmq();
const { queue: name, options } = peer();
const jobs = Number(process.env.JOBS);
const concurrency = Number(process.env.CONCURRENCY);

/** 200 bytes of JSON. */
function data(number) {
  const bare = JSON.stringify({ number, name: 'Anna', padding: '' });
  return { number, name: 'Anna', padding: 'x'.repeat(200 - bare.length) };
}

async function add(queue) {
  let next = 0;
  const adder = async () => {
    while (next < jobs) await queue.add('noop', data(next++));
  };
  await Promise.all(Array.from({ length: concurrency }, adder));
}

async function bulk(queue) {
  for (let first = 0; first < jobs; first += 1000) {
    const length = Math.min(1000, jobs - first);
    await queue.addBulk(Array.from({ length }, (_, i) => ({ name: 'noop', data: data(first + i) })));
  }
}

if (process.env.TASK === 'work') {
  survive(new Worker(name, async () => null, { ...options, concurrency }));
} else {
  const queue = new Queue(name, options);
  await queue.waitUntilReady();
  const started = performance.now();
  await (process.env.TASK === 'add' ? add(queue) : bulk(queue));
  console.log((performance.now() - started) / 1000);
  await queue.close();
}
