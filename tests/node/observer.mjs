// Looks at a queue through BullMQ's own eyes. A line {"ask": n, "call": "getJobCounts", "args": []} calls that method
// of Queue; with "job": "17" it calls the method of that job, or dumps the job where no call is named; with "flow" it
// adds that flow, with "tree" it gets that one. The answer is {"answer": n, ok, value | error}. Every event of the queue is said too, as
// {event: "job", name, args}.
// Environment: REDIS_URL, QUEUE, PREFIX, VERSION.

import { bullmq, obey, peer, say, survive } from './lines.mjs';

const { FlowProducer, Queue, QueueEvents } = await bullmq();
const { queue: name, options } = peer();

const queue = new Queue(name, options);
// From the first event there is: "from now on" begins when the first read reaches Redis, after "ready" was said.
const events = new QueueEvents(name, { ...options, lastEventId: '0-0' });
survive(queue, events);
let flows;

const told = events.emit.bind(events);
events.emit = (event, args, ...rest) => {
  // Each event is emitted twice, the second time as "completed:17".
  if (args?.jobId && !event.includes(':')) say({ event: 'job', name: event, args });
  return told(event, args, ...rest);
};
await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
say({ event: 'ready' });

const branch = ({ job, children = [] }) => ({ id: job.id, queue: job.queueName, children: children.map(branch) });

async function look({ job: id, call, flow, tree, args = [] }) {
  if (flow || tree) {
    if (!flows) survive((flows = new FlowProducer(options)));
    if (tree) return branch(await flows.getFlow(tree));
    return (await flows.add(flow)).job.id;
  }
  if (id === undefined) return queue[call](...args);
  const job = await queue.getJob(id);
  if (!job) return null;
  return call ? job[call](...args) : job.toJSON();
}

await obey(async (command) => {
  try {
    say({ answer: command.ask, ok: true, value: (await look(command)) ?? null });
  } catch (error) {
    say({ answer: command.ask, ok: false, error: error.message });
  }
});
