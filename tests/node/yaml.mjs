// Reads YAML on stdin and says it as JSON: so the tests can look into files that only other tools read.

import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

process.stdout.write(JSON.stringify(parse(readFileSync(0, 'utf8'), { merge: true })));
