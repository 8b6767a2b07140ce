// Reads cron patterns as BullMQ does: with the cron-parser that each of its versions brings. A line on stdin is
// {version, pattern, tz, after, count}; its answer is {times: [milliseconds, ...]} or {error}.

import { createRequire } from 'node:module';
import { obey, say } from './lines.mjs';

const parserOf = (bullmq) => createRequire(createRequire(import.meta.url).resolve(bullmq))('cron-parser');
const five = parserOf('bullmq5');
const six = parserOf('bullmq6').CronExpressionParser;
const parse = { 5: five.parseExpression, 6: (...args) => six.parse(...args) };

// Each time is asked for anew, as workers do.
function answer({ version, pattern, tz, after, count }) {
  try {
    let currentDate = new Date(after);
    const times = Array.from({ length: count }, () => {
      currentDate = new Date(parse[version](pattern, { tz, currentDate }).next().getTime());
      return currentDate.getTime();
    });
    return { times };
  } catch (error) {
    return { error: error.message };
  }
}

say({ event: 'ready' });
await obey(async (ask) => say({ event: 'cron', ...answer(ask) }));
