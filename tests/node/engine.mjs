// Works a queue off with a processor that does nothing, until it is killed, for the benchmark to measure beside ours.
// Environment: REDIS_URL, QUEUE, PREFIX, VERSION, CONCURRENCY.

import { bullmq, peer, survive } from './lines.mjs';

const { Worker } = await bullmq();
const { queue, options } = peer();
survive(new Worker(queue, async () => null, { ...options, concurrency: Number(process.env.CONCURRENCY) }));
