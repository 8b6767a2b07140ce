// A worker that pulls jobs from Onetake over HTTP, with Node 18 and nothing else. Run it as often as you like.
//
//     ONETAKE_URL=http://localhost:7700 ONETAKE_API_KEY=otk_... node worker.mjs QUEUE
//
// Each job is held for LEASE seconds (30) and longer while this process lives. If it dies, another worker gets the job.

import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const claims = `${process.env.ONETAKE_URL ?? 'http://localhost:7700'}/v1/queues/${process.argv[2]}/claims`;
const lease = Number(process.env.LEASE ?? 30);
const name = `${hostname()}-${process.pid}`;
const headers = { 'content-type': 'application/json' };
if (process.env.ONETAKE_API_KEY) headers.authorization = `Bearer ${process.env.ONETAKE_API_KEY}`;

/** Nobody wants the job done any more; told by the answer to a heartbeat. */
class Cancelled extends Error {}

/** Yours. What it returns is the job's result, what it throws fails the attempt. */
async function work({ data }, report) {
  const { steps = 1, pause = 0, error } = data;
  for (let step = 1; step <= steps; step += 1) {
    await sleep(pause * 1000);
    await report(Math.floor((100 * step) / steps));
  }
  if (error) throw new Error(error);
  return { by: name, language: 'node', data };
}

/** POSTs until the server has an answer. Repeating is safe: a claim has a key, and the rest is refused the second time. */
async function call(path, body, key) {
  const request = { method: 'POST', headers: key ? { ...headers, 'idempotency-key': key } : headers };
  for (;;) {
    try {
      const signal = AbortSignal.timeout(90_000);
      const answer = await fetch(claims + path, { ...request, body: JSON.stringify(body), signal });
      if (answer.status < 500) return { status: answer.status, ...(await answer.json()) };
    } catch {
      // The server is away; so is every answer. It is asked again.
    }
    await sleep(1000);
  }
}

async function run(token, job) {
  const at = `/${encodeURIComponent(job.id)}`;
  const beat = (more) => call(`${at}/heartbeat`, { token, lease: `${lease}s`, ...more });
  const keeping = setInterval(beat, (lease * 1000) / 3);
  console.log('took', job.id);
  const report = async (percent) => {
    const { cancelled } = await beat({ progress: percent, logs: [`${percent} %`] });
    if (cancelled) throw new Cancelled(cancelled);
  };
  let end;
  try {
    end = ['complete', { result: await work(job, report) }];
  } catch (error) {
    end = ['fail', { reason: error.message, stack: error.stack, retry: !(error instanceof Cancelled) }];
  }
  clearInterval(keeping);
  const { status, state, code } = await call(`${at}/${end[0]}`, { token, ...end[1] });
  console.log(status === 200 ? state : code, job.id); // lease_lost: it is another's
}

for (;;) {
  const claim = await call('', { worker: name, lease: `${lease}s`, wait: '20s' }, randomUUID());
  if (claim.status !== 200) throw new Error(`${claim.code}: ${claim.detail}`);
  for (const job of claim.items) await run(claim.token, job);
}
