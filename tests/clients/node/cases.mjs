// What the scripts beside this file share: cases by name, and one line of JSON at the end.
import { readFileSync } from 'node:fs';

export const question = JSON.parse(readFileSync(0, 'utf8'));

/** Run all cases, each on its own, and print their answers; what a case throws is its answer. */
export async function main(cases) {
  const answers = {};
  for (const [name, run] of Object.entries(cases)) {
    try {
      answers[name] = await run();
    } catch (error) {
      answers[name] = { error: describe(error) };
    }
  }
  process.stdout.write(`${JSON.stringify(answers)}\n`);
}

/** A client's error as plain data, with the errors that led to it. */
export function describe(error) {
  const classes = [];
  for (let kind = error?.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) {
    classes.push(kind.name);
  }
  const names = ['name', 'message', 'status', 'statusCode', 'code', 'type', 'param', 'requestID'];
  const told = names.filter((name) => error?.[name] !== undefined).map((n) => [n, error[n]]);
  const more = { modelId: error?.modelId, isRetryable: error?.isRetryable, data: error?.data };
  return { classes, ...Object.fromEntries(told), ...more };
}

/** `fetch`, and how often it was called. */
export function counted() {
  const calls = [];
  return {
    calls,
    fetch(...all) {
      calls.push(String(all[0]?.url ?? all[0]));
      return fetch(...all);
    },
  };
}
