// A plain BullMQ worker. Says {event: "ready"}, {event: "taken", id, data}, {event: "completed", id} and
// {event: "failed", id, error}. The line {"stop": true} closes it gracefully and is answered by {event: "closed"}.
// Environment: REDIS_URL, QUEUE, PREFIX, VERSION, CONCURRENCY, NAME, LEASE (ms; jobs of silent workers are looked for twice
// in it), OPTIONS (more worker options, as JSON) and BEHAVIOUR, which is
//   echo  the job's data is its value         fail           every attempt fails
//   hang  a job never ends                    unrecoverable  the first attempt fails for good
//   nap   the same as echo, after 30 ms

import { bullmq, obey, peer, say, survive } from './lines.mjs';

const { Worker, UnrecoverableError } = await bullmq();
const { queue, options } = peer();

const behaviours = {
  echo: async (job) => {
    await job.updateProgress(50);
    return job.data;
  },
  fail: async () => {
    throw new Error('told to fail');
  },
  hang: () => new Promise(() => {}),
  nap: async (job) => {
    await new Promise((resolve) => setTimeout(resolve, 30));
    return job.data;
  },
  unrecoverable: async () => {
    throw new UnrecoverableError('told to fail for good');
  },
};
const behave = behaviours[process.env.BEHAVIOUR ?? 'echo'];
const lease = Number(process.env.LEASE ?? 30000);

const worker = new Worker(
  queue,
  (job) => {
    say({ event: 'taken', id: job.id, data: job.data });
    return behave(job);
  },
  {
    ...options,
    concurrency: Number(process.env.CONCURRENCY ?? 1),
    name: process.env.NAME,
    lockDuration: lease,
    stalledInterval: lease / 2,
    ...JSON.parse(process.env.OPTIONS ?? '{}'),
  },
);
survive(worker);
worker.on('completed', (job) => say({ event: 'completed', id: job.id }));
worker.on('failed', (job, error) => say({ event: 'failed', id: job?.id ?? null, error: error.message }));
await worker.waitUntilReady();
say({ event: 'ready' });

await obey(async ({ stop }) => {
  if (!stop) return;
  await worker.close();
  say({ event: 'closed' });
});
