// Reads cron patterns as BullMQ does: with the cron-parser that each of its versions brings. A line on stdin is
// {pattern, tz, after, count}; its answer is {five, six}, each a list of times in milliseconds or {error}.

import { createRequire } from 'node:module';
import { obey, say } from './lines.mjs';

const parserOf = (bullmq) => createRequire(createRequire(import.meta.url).resolve(bullmq))('cron-parser');
const five = parserOf('bullmq5').parseExpression;
const six = parserOf('bullmq6').CronExpressionParser;

// Each time is asked for anew, as workers do.
function times(parse, { pattern, tz, after, count }) {
  try {
    let currentDate = new Date(after);
    return Array.from({ length: count }, () => {
      currentDate = new Date(parse(pattern, { tz, currentDate }).next().getTime());
      return currentDate.getTime();
    });
  } catch (error) {
    return { error: error.message };
  }
}

say({ event: 'ready' });
await obey(async (ask) => {
  say({ five: times(five, ask), six: times((...args) => six.parse(...args), ask) });
});
