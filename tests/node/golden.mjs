// Does to BullMQ queues what it is told, verb by verb, under a clock that stands still: what that leaves in Redis is what
// tests/it/golden records. A line {"ask": n, "now": ms, "do": "add", ...} is one verb (a step of tests/golden/scenes); the
// answer is {"answer": n, "said": ...}: the id of the job that was added or taken (null for none), "done", or "refused"
// when BullMQ throws or says that it did not. {"do": "begin"} forgets the jobs of the scene before; the test has emptied
// Redis by then.
// Environment: REDIS_URL, PREFIX, VERSION. The queue is "q" where a step names no other.

import { bullmq, obey, peer, say, survive } from './lines.mjs';

// Before BullMQ is loaded. Redis has a clock of its own: spans of time (PX) end by that one.
const RealDate = Date;
let now = RealDate.now();
globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length > 0) super(...args);
    else super(now);
  }
  static now() {
    return now;
  }
};

const { FlowProducer, Job, Queue, UnrecoverableError, Worker } = await bullmq();
const { options } = peer();
const MINUTES = 60000;

/** One of each kind for each queue, made when it is first needed. */
const made = { queue: new Map(), worker: new Map() };

async function one(kind, name, make) {
  if (!made[kind].has(name)) {
    const it = make();
    survive(it);
    made[kind].set(name, it);
    await it.waitUntilReady();
  }
  return made[kind].get(name);
}

// Without a say in the meta hash: a version is no fact about what the scripts do.
const queueOf = ({ queue = 'q' }) => one('queue', queue, () => new Queue(queue, { ...options, skipMetasUpdate: true }));
const workerOf = ({ queue = 'q' }) =>
  one('worker', queue, () =>
    new Worker(queue, null, {
      ...options,
      autorun: false,
      name: 'w',
      lockDuration: 10 * MINUTES,
      stalledInterval: 10 * MINUTES,
      maxStalledCount: 1,
    }),
  );
let flows;

/** Jobs in hand, as whoever took them knows them. */
const held = new Map();
const place = ({ queue = 'q', id }) => `${queue} ${id}`;

async function jobOf(step) {
  const job = held.get(place(step)) ?? (await Job.fromId(await queueOf(step), step.id));
  if (!job) throw new Error(`there is no job ${step.id}`);
  return job;
}

/** Whoever takes a job whose failure was put off must fail it; then it takes the next. */
async function keep(step, taken) {
  let job = taken;
  const worker = await workerOf(step);
  while (job?.deferredFailure) {
    await job.moveToFailed(new UnrecoverableError(job.deferredFailure), 't');
    job = await worker.getNextJob('t', { block: false });
  }
  if (!job) return null;
  held.set(place({ ...step, id: job.id }), job);
  return job.id;
}

/** An end that also takes the next job answers that one's id. */
async function go(step, ended) {
  held.delete(place(step));
  if (!step.next) return 'done';
  const [data, id] = Array.isArray(ended) ? ended : [];
  return keep(step, await (await workerOf(step)).nextJobFromJobData(data || undefined, id || undefined, 't'));
}

const verbs = {
  begin: async () => {
    held.clear();
    for (const worker of made.worker.values()) worker.limitUntil = 0;
  },
  clock: async () => {},
  add: async (step) => (await (await queueOf(step)).add(step.name ?? 'n', data(step), step.opts)).id,
  addBulk: async (step) => {
    const jobs = step.jobs.map((job) => ({ name: job.name ?? 'n', data: data(job), opts: job.opts }));
    return (await (await queueOf(step)).addBulk(jobs)).map((job) => job.id);
  },
  flow: async ({ flow }) => {
    flows ??= new FlowProducer(options);
    survive(flows);
    await flows.add(flow);
  },
  take: async (step) => keep(step, await (await workerOf(step)).getNextJob('t', { block: false })),
  complete: async (step) => {
    const job = await jobOf(step);
    return go(step, await job.moveToCompleted(step.value, step.token ?? 't', step.next ?? false));
  },
  fail: async (step) => {
    const job = await jobOf(step);
    const error = new (step.final ? UnrecoverableError : Error)(step.reason);
    return go(step, await job.moveToFailed(error, step.token ?? 't', step.next ?? false));
  },
  delay: async (step) => (await jobOf(step)).moveToDelayed(now + step.ms, step.token ?? 't'),
  wait: async (step) => (await jobOf(step)).moveToWait(step.token ?? 't'),
  extend: async (step) => (await (await jobOf(step)).extendLock(step.token ?? 't', step.ms)) === 1 || 'refused',
  scan: async (step) => (await workerOf(step)).moveStalledJobsToWait(),
  progress: async (step) => (await queueOf(step)).updateJobProgress(step.id, step.value),
  log: async (step) => (await queueOf(step)).addJobLog(step.id, step.line, step.keep),
  updateData: async (step) => (await jobOf(step)).updateData(step.data),
  promote: async (step) => (await jobOf(step)).promote(),
  changeDelay: async (step) => (await jobOf(step)).changeDelay(step.ms),
  changePriority: async (step) => (await jobOf(step)).changePriority({ priority: step.priority, lifo: step.lifo }),
  retry: async (step) =>
    (await jobOf(step)).retry(step.state, { resetAttemptsMade: step.anew, resetAttemptsStarted: step.anew }),
  remove: async (step) => {
    const removed = await (await queueOf(step)).remove(step.id, { removeChildren: step.children ?? false });
    return removed === 1 || 'refused';
  },
  pause: async (step) => (await queueOf(step)).pause(),
  resume: async (step) => (await queueOf(step)).resume(),
  drain: async (step) => (await queueOf(step)).drain(step.delayed),
  clean: async (step) => {
    const state = step.state === 'waiting' ? 'wait' : step.state;
    await (await queueOf(step)).clean(step.grace, step.limit, state);
  },
  obliterate: async (step) => (await queueOf(step)).obliterate({ force: step.force }),
  retryAll: async (step) => (await queueOf(step)).retryJobs({ state: step.state }),
  promoteAll: async (step) => (await queueOf(step)).promoteJobs(),
  setConcurrency: async (step) => {
    const queue = await queueOf(step);
    await (step.limit === null ? queue.removeGlobalConcurrency() : queue.setGlobalConcurrency(step.limit));
  },
  setRateLimit: async (step) => {
    const queue = await queueOf(step);
    await (step.max === undefined ? queue.removeGlobalRateLimit() : queue.setGlobalRateLimit(step.max, step.duration));
  },
  upsertScheduler: async (step) => {
    const job = await (await queueOf(step)).upsertJobScheduler(step.id, step.repeat, step.template);
    return job.id;
  },
  removeScheduler: async (step) => (await (await queueOf(step)).removeJobScheduler(step.id)) || 'refused',
};

const data = (step) => ('data' in step ? step.data : {});

/** Verbs that answer something of their own; of the others it only counts whether they were refused. */
const telling = new Set(['add', 'addBulk', 'take', 'complete', 'fail', 'upsertScheduler']);

await workerOf({});
await queueOf({});
say({ event: 'ready' });

await obey(async ({ ask, now: time, do: verb, ...step }) => {
  now = time;
  let said;
  try {
    const answer = await verbs[verb](step);
    said = answer === 'refused' || telling.has(verb) ? (answer ?? null) : 'done';
  } catch (error) {
    console.error(`${verb} ${JSON.stringify(step)}: ${error.stack}`);
    said = 'refused';
  }
  say({ answer: ask, said });
});
