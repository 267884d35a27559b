// What every TypeScript client is asked to do, at both kinds of endpoint. Each
// check prints one line, "ok NAME" or "not ok NAME: why".
//
// The environment says where: SHANNON_URL, SHANNON_TOKEN, SHANNON_BIN; INTEROP_WORK,
// a folder to which the server "gosdk" writes what happened to its calls; and
// INTEROP_GOSDK, its command. That server and "everything" must be there.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const { SHANNON_URL: base, SHANNON_TOKEN: token, SHANNON_BIN: shannon, INTEROP_WORK: work, INTEROP_GOSDK: server } = process.env;
const limit = 15_000; // ms for one check

export async function check(name, run) {
  try {
    await Promise.race([run(), sleep(limit, undefined, { ref: false }).then(() => { throw new Error(`took over ${limit} ms`); })]);
    console.log(`ok ${name}`);
  } catch (err) {
    const why = err instanceof Error ? `${err.code ?? ''} ${err.stack}` : String(err);
    console.log(`not ok ${name}: ${why.replaceAll('\n', ' ⏎ ')}`);
    process.exitCode = 1;
  }
}

export function equal(what, got, want) {
  const [g, w] = [JSON.stringify(got), JSON.stringify(want)];
  if (g !== w) throw new Error(`${what}: got ${g}, want ${w}`);
}

async function fails(promise) {
  let value;
  try {
    value = await promise;
  } catch (err) {
    return err;
  }
  throw new Error(`no error but ${JSON.stringify(value)}`);
}

async function until(what, condition) {
  for (const end = Date.now() + 5_000; Date.now() < end; await sleep(20)) {
    if (await condition()) return;
  }
  throw new Error(`never happened: ${what}`);
}

const written = async (file) => readFile(file, 'utf8').catch(() => '');

// runChecks asks an SDK for everything. connect(url, token, onTools) returns
// {client, version, call, close}: call(params, options) calls a tool, and onTools is
// called when the list of tools has changed.
export async function runChecks(label, wantVersion, connect) {
  for (const [endpoint, path, prefix, change] of [
    ['all servers', () => '/mcp', (name) => `${name}__`, addServer],
    ['one server', (name) => `/servers/${name}/mcp`, () => '', addTool],
  ]) {
    const name = (what) => `${label}, ${endpoint}: ${what}`;
    const url = (of) => new URL(path(of), base);
    await runEverything(name, url('everything'), prefix('everything'), wantVersion, connect);
    await runWatched(name, url('gosdk'), prefix('gosdk'), change, connect);
  }
}

async function runEverything(name, url, prefix, wantVersion, connect) {
  const text = (result) => result.content?.[0]?.text;
  let c;

  await check(name('refused without the token'), async () => {
    const err = await fails(connect(url, 'wrong', () => {}));
    if (!/401|[Uu]nauthorized/.test(`${err.code} ${err.status} ${err}`)) throw err;
  });
  await check(name('connect'), async () => {
    c = await connect(url, token, () => {});
    equal('version', c.version, wantVersion);
  });
  if (!c) return;
  await check(name('list tools'), async () => {
    const { tools } = await c.client.listTools();
    const mine = tools.filter((t) => t.name.startsWith(prefix));
    for (const want of ['echo', 'get-sum', 'trigger-long-running-operation']) {
      if (!mine.some((t) => t.name === prefix + want)) throw new Error(`${prefix + want} is missing in ${tools.map((t) => t.name)}`);
    }
  });
  await check(name('call'), async () => {
    const message = 'Grüße, 世界 \u{1f310} "\\/\u2028';
    equal('text', text(await c.call({ name: `${prefix}echo`, arguments: { message } })), `Echo: ${message}`);
  });
  await check(name('structured content'), async () => {
    const result = await c.call({ name: `${prefix}get-structured-content`, arguments: { location: 'Chicago' } });
    equal('keys', Object.keys(result.structuredContent).sort(), ['conditions', 'humidity', 'temperature']);
  });
  await check(name('50 calls at once'), async () => {
    const sums = await Promise.all(Array.from({ length: 50 }, (_, a) => c.call({ name: `${prefix}get-sum`, arguments: { a, b: 1 } })));
    equal('sums', sums.map(text), sums.map((_, a) => `The sum of ${a} and 1 is ${a + 1}.`));
  });
  await check(name('progress'), async () => {
    const seen = [];
    const result = await c.call(
      { name: `${prefix}trigger-long-running-operation`, arguments: { duration: 0.5, steps: 5 } },
      { onprogress: ({ progress, total }) => seen.push([progress, total]) },
    );
    equal('progress', seen, [1, 2, 3, 4, 5].map((n) => [n, 5]));
    equal('text', text(result), 'Long running operation completed. Duration: 0.5 seconds, Steps: 5.');
  });
  await check(name('error of a tool'), async () => {
    const result = await c.call({ name: `${prefix}get-sum`, arguments: { a: 'no number' } });
    equal('isError', result.isError, true);
  });
  await check(name('close'), () => c.close());
}

// A server of its own says that its tools have changed; all servers together change
// when the person at the keyboard changes one. Each returns the name of a new tool.
async function addTool(c) {
  const name = `extra-${crypto.randomUUID().slice(0, 8)}`;
  await c.call({ name: 'add_tool', arguments: { name } });
  return name;
}

async function addServer() {
  const name = `extra-${crypto.randomUUID().slice(0, 8)}`;
  await promisify(execFile)(shannon, ['add', name, '-e', 'INTEROP_SERVER=1', '--', server]);
  return `${name}__wait`;
}

async function runWatched(name, url, prefix, change, connect) {
  let c;
  let changes = 0;
  await check(name('connect to a second server'), async () => {
    c = await connect(url, token, () => changes++);
  });
  if (!c) return;
  await check(name('cancel'), async () => {
    const file = `${work}/${crypto.randomUUID()}`;
    const abort = new AbortController();
    const call = fails(c.call({ name: `${prefix}wait`, arguments: { file } }, { signal: abort.signal }));
    await until('the call reaches the server', async () => (await written(file)).includes('started'));
    abort.abort();
    await call;
    await until('the server hears that it is cancelled', async () => (await written(file)).includes('cancelled'));
    // The connection goes on.
    if ((await c.client.listTools()).tools.length === 0) throw new Error('no tools after it');
  });
  await check(name('JSON-RPC error'), async () => {
    const err = await fails(c.call({ name: `${prefix}no-such-tool`, arguments: {} }));
    equal('code', err.code, -32602);
  });
  await check(name('list_changed'), async () => {
    const before = changes;
    const tool = await change(c, prefix);
    await until('the client is told', () => changes > before);
    await until('the list is new', async () => (await c.client.listTools()).tools.some((t) => t.name === tool));
  });
  await check(name('close the second'), () => c.close());
}
