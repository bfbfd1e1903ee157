// Fails when the built page outgrows its budget: a school on a 64 kbit/s line waits 25 s for 200 kB.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const BUDGET_BYTES = 200_000;

const dist = new URL('../dist/', import.meta.url).pathname;
const files = readdirSync(dist, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
const total = files
  .map((file) => gzipSync(readFileSync(join(file.parentPath ?? file.path, file.name)), { level: 9 }).length)
  .reduce((sum, size) => sum + size, 0);

console.log(`page: ${files.length} files, ${total} of ${BUDGET_BYTES} bytes gzipped`);
if (total > BUDGET_BYTES) {
  console.error(`page: ${total - BUDGET_BYTES} bytes over its budget`);
  process.exit(1);
}
