// JSON lines: how the test scripts talk to the tests. One object a line on stdout, commands a line on stdin, everything
// meant for people on stderr. A script ends when its stdin ends, so that none outlives its test.

import { createInterface } from 'node:readline';
import { Cluster } from 'ioredis';

const versions = { 5: 'bullmq5', 6: 'bullmq6' };

/** The BullMQ of the version that the test asked for, unmodified. */
export async function bullmq() {
  const version = process.env.VERSION ?? '6';
  if (!versions[version]) throw new Error(`VERSION is 5 or 6, not ${version}`);
  return import(versions[version]);
}

/** Queue name and connection options from the environment. */
export function peer() {
  const url = new URL(process.env.REDIS_URL);
  const { hostname, port, password, username } = url;
  if (url.protocol === 'redis-cluster:') {
    const nodes = [url.host, ...url.searchParams.getAll('node')].map((node) => {
      const [host, port] = node.split(':');
      return { host, port: Number(port) };
    });
    const connection = new Cluster(nodes, { redisOptions: { maxRetriesPerRequest: null } });
    return { queue: process.env.QUEUE, options: { prefix: process.env.PREFIX ?? 'bull', connection } };
  }
  return {
    queue: process.env.QUEUE,
    options: {
      prefix: process.env.PREFIX ?? 'bull',
      connection: {
        host: hostname,
        port: Number(port),
        username: username || undefined,
        password: password ? decodeURIComponent(password) : undefined,
        maxRetriesPerRequest: null,
      },
    },
  };
}

export function say(object) {
  process.stdout.write(`${JSON.stringify(object)}\n`);
}

/** Connection errors are the tests' daily bread (they kill Redis): told, never fatal. */
export function survive(...emitters) {
  for (const emitter of emitters) emitter.on('error', (error) => console.error(String(error)));
}

/** Runs `act` on each command line, several at once, until stdin ends; then ends the process. */
export async function obey(act) {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim()) act(JSON.parse(line)).catch((error) => console.error(error));
  }
  process.exit(0);
}
