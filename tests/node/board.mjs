// bull-board over queues, and a Chromium that looks at it. Commands are lines on stdin, one after the other:
//   {"ask": n, "open": "/queue/mail?status=failed"}            opens a page of the board, or any page by its address
//   {"ask": n, "press": "Retry", "of": "/queue/mail/2", "on": "/queue/mail?status=failed"}
//                                                              presses a job's button on that page, and confirms
//   {"ask": n, "add": {"name", "data"}, "to": "/queue/mail"}   adds a job by the board's form
//   {"ask": n, "tab": "Logs"}                                  opens a tab of the job that is shown
//   {"ask": n, "picture": "file.png"}
// With "words", the answer waits until the page shows all of them. It is {"answer": n, ok, value: {links}} or
// {"answer": n, ok: false, error}; what went wrong meanwhile in any page is in `complaints`: errors on the console,
// requests that failed or were refused, notices of errors, words that did not appear.
// Nothing outside this machine is asked for: fonts from elsewhere come back empty.
// Environment: REDIS_URL, PREFIX, QUEUES (with commas), CHROMIUM, PROFILE (a folder).

import { createInterface } from 'node:readline';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import { Queue } from 'bullmq';
import express from 'express';
import { chromium } from 'playwright-core';
import { peer, say, survive } from './lines.mjs';

const PATIENCE = 30_000;
const { options } = peer();
const queues = process.env.QUEUES.split(',').map((name) => new Queue(name, options));
survive(...queues);
const serverAdapter = new ExpressAdapter();
createBullBoard({ queues: queues.map((queue) => new BullMQAdapter(queue)), serverAdapter });
const app = express().use('/', serverAdapter.getRouter());
const listener = app.listen(0, '127.0.0.1');
await new Promise((resolve) => listener.once('listening', resolve));
const board = `http://127.0.0.1:${listener.address().port}`;

const browser = await chromium.launchPersistentContext(process.env.PROFILE, {
  executablePath: process.env.CHROMIUM,
  headless: true,
  viewport: { width: 1500, height: 1100 },
  args: [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
browser.setDefaultTimeout(PATIENCE);
await browser.route(
  (url) => !['127.0.0.1', 'localhost'].includes(url.hostname) && url.protocol.startsWith('http'),
  (route) => route.fulfill({ status: 200, contentType: 'text/css', body: '' }),
);
const page = browser.pages()[0] ?? (await browser.newPage());

let complaints = [];
const complain = (what) => complaints.push(what);
page.on('console', (message) => message.type() === 'error' && complain(`console: ${message.text()}`));
page.on('pageerror', (error) => complain(`page: ${error}`));
// A page that is left takes its open requests along.
const left = (request) => request.failure()?.errorText === 'net::ERR_ABORTED';
page.on('requestfailed', (request) => left(request) || complain(`failed: ${request.method()} ${request.url()}`));
page.on('response', (response) => {
  if (response.status() >= 400) complain(`${response.status()}: ${response.request().method()} ${response.url()}`);
});

async function shown(words = []) {
  await page.waitForLoadState('networkidle');
  await page.waitForFunction(() => !document.body.innerText.includes('Loading...'));
  const visible = (word) => page.waitForFunction((word) => document.body.innerText.includes(word), word);
  for (const word of words) {
    await visible(word).catch(() => complain(`"${word}" is not shown`));
  }
  const [links, notices] = await page.evaluate(() => [
    [...document.querySelectorAll('a[href^="/"]')].map((link) => link.getAttribute('href')),
    [...document.querySelectorAll('[class*=toast][data-type=error]')].map((notice) => notice.innerText),
  ]);
  for (const notice of notices) complain(`notice: ${notice}`);
  return { links: [...new Set(links)] };
}

async function open(path, words) {
  await page.goto(path.startsWith('http') ? path : board + path);
  return shown(words);
}

/** The button of a job under which this tip appears: they have no text of their own. */
async function button(tip, job) {
  const link = page.locator(`a[href^="${job}?"]`);
  const buttons = page.locator('[class*=card]').filter({ has: link }).locator('[class*=jobActions] button');
  await buttons.first().waitFor();
  for (const candidate of await buttons.all()) {
    await candidate.hover();
    const tips = page.locator('[class*=popup]:visible, [role=tooltip]:visible').filter({ hasText: new RegExp(`^${tip}$`) });
    try {
      await tips.first().waitFor({ timeout: 1500 });
      return candidate;
    } catch {
      await page.mouse.move(0, 0);
    }
  }
  throw new Error(`no button says ${tip}`);
}

/** Waits until what was sent to change something is answered. */
async function sending(act) {
  const answered = page.waitForResponse((response) => response.request().method() !== 'GET');
  await act();
  await answered;
  return shown();
}

async function press(tip, job, path) {
  await open(path);
  const pressed = await button(tip, job);
  return sending(async () => {
    await pressed.click();
    await page.getByRole('button', { name: 'Confirm' }).click();
  });
}

async function add({ name, data }, path) {
  await open(path);
  await page.locator('button[aria-haspopup=menu]').last().click();
  await page.getByRole('menuitem', { name: 'Add job' }).click();
  const form = page.getByRole('dialog');
  await form.locator('#job-name').fill(name);
  await form.locator('.cm-content').first().fill(JSON.stringify(data));
  // The editor hands its text to the form when it has looked for mistakes in it.
  const taken = (wanted) => {
    const compact = (text) => JSON.stringify(JSON.parse(text || 'null'));
    const fields = [...document.querySelectorAll('#add-job-form [name]')].map((field) => field.value);
    return fields.some((value) => /^[[{]/.test(value) && compact(value) === wanted);
  };
  await page.waitForFunction(taken, JSON.stringify(data));
  return sending(() => form.getByRole('button', { name: 'Add' }).click());
}

async function obey({ open: path, press: tip, of, on, add: job, to, tab, picture, words }) {
  if (path) return open(path, words);
  if (tip) return press(tip, of, on);
  if (job) return add(job, to);
  if (tab) {
    await page.getByRole('tab', { name: tab }).first().click();
    return shown(words);
  }
  await page.screenshot({ path: picture });
  return {};
}

say({ event: 'ready' });
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  complaints = [];
  try {
    const value = await obey(command);
    say({ answer: command.ask, ok: true, value, complaints });
  } catch (error) {
    say({ answer: command.ask, ok: false, error: `${error.message} at ${page.url()}`, complaints });
  }
}
await browser.close();
process.exit(0);
