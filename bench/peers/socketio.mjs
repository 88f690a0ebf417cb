// Puts the same load on any server of Socket.IO that answers `subscribe` and `POST /api/publish`, and says what it costs:
// memory per idle subscribed connection, and deliveries per second of the server's CPU.
//
//   node socketio.mjs --url http://127.0.0.1:8000 --pid PID [--clients 2000] [--rates 10,50,200] [--seconds 5]
//
// Plain sockets, so that the load costs little: frames are not parsed, a mark in the payload is counted.

import { readFileSync } from 'node:fs';
import net from 'node:net';
import { parseArgs } from 'node:util';
import { execFileSync } from 'node:child_process';

const MARK = Buffer.from('~m~');
const PING = Buffer.from([0x81, 1, 0x32]);
const CHANNEL = 'bench';
const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK']));
const PAGE_BYTES = Number(execFileSync('getconf', ['PAGESIZE']));

const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    pid: { type: 'string' },
    clients: { type: 'string', default: '2000' },
    rates: { type: 'string', default: '10,50,200' },
    seconds: { type: 'string', default: '5' },
    key: { type: 'string' },
  },
});
const url = new URL(values.url);
const clients = Number(values.clients);
const seconds = Number(values.seconds);

/** A text frame of a client, with a mask of zeros. */
function frame(text) {
  const payload = Buffer.from(text);
  const head = payload.length < 126 ? [0x81, 0x80 | payload.length] : [0x81, 0xfe, payload.length >> 8, payload.length & 255];
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload]);
}

let received = 0;

class Client {
  constructor() {
    this.tail = Buffer.alloc(0);
    this.ready = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.socket = net.connect(Number(url.port), url.hostname);
      this.socket.setNoDelay(true);
      this.socket.on('error', reject);
      this.socket.on('close', () => reject(new Error('closed')));
      this.socket.on('connect', () => {
        this.socket.write(
          `GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: ${url.host}\r\nConnection: Upgrade\r\n` +
            'Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
        );
      });
      this.socket.on('data', (bytes) => this.onData(bytes));
    });
  }

  onData(bytes) {
    if (this.subscribed) {
      this.count(bytes);
      return;
    }
    this.tail = Buffer.concat([this.tail, bytes]);
    if (bytes.includes(PING)) this.socket.write(frame('3'));
    const text = this.tail.toString('latin1');
    if (!this.opened && text.includes('pingInterval')) {
      this.opened = true;
      this.socket.write(frame('40'));
    }
    if (this.opened && !this.connected && text.includes('40{')) {
      this.connected = true;
      this.socket.write(frame(`420["subscribe","${CHANNEL}"]`));
    }
    if (this.connected && text.includes('430[')) {
      this.subscribed = true;
      this.tail = Buffer.alloc(0);
      this.resolve();
    }
  }

  count(bytes) {
    // A ping is a frame of one byte; it comes seldom enough to be looked for in small chunks only.
    if (bytes.length === 3 && bytes[2] === 0x32) {
      this.socket.write(frame('3'));
      return;
    }
    const all = this.tail.length > 0 ? Buffer.concat([this.tail, bytes]) : bytes;
    let from = 0;
    for (let at = all.indexOf(MARK); at >= 0; at = all.indexOf(MARK, from)) {
      received += 1;
      from = at + MARK.length;
    }
    this.tail = Buffer.from(all.subarray(Math.max(from, all.length - MARK.length + 1)));
  }
}

function cpuSeconds() {
  const stat = readFileSync(`/proc/${values.pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function residentBytes() {
  return Number(readFileSync(`/proc/${values.pid}/statm`, 'latin1').split(' ')[1]) * PAGE_BYTES;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function publish() {
  const headers = { 'content-type': 'application/json' };
  if (values.key) headers['x-api-key'] = values.key;
  const data = { mark: MARK.toString(), text: 'x'.repeat(150) };
  const answer = await fetch(new URL('/api/publish', url), {
    method: 'POST',
    headers,
    body: JSON.stringify({ channel: CHANNEL, data }),
  });
  await answer.arrayBuffer();
  if (!answer.ok) throw new Error(`publish: ${answer.status}`);
}

async function connectAll() {
  const all = [];
  for (let begun = 0; begun < clients; begun += 100) {
    const some = Array.from({ length: Math.min(100, clients - begun) }, () => new Client());
    await Promise.all(some.map((client) => client.ready));
    all.push(...some);
  }
  return all;
}

async function measure(rate) {
  received = 0;
  const cpu = cpuSeconds();
  const begin = performance.now();
  const count = rate * seconds;
  const sent = [];
  for (let at = 0; at < count; at += 1) {
    const wait = begin + (at * 1000) / rate - performance.now();
    if (wait > 1) await sleep(wait);
    sent.push(publish());
  }
  await Promise.all(sent);
  const expected = count * clients;
  const end = performance.now() + 30_000;
  while (received < expected && performance.now() < end) await sleep(20);
  const used = cpuSeconds() - cpu;
  return { rate, delivered: received, expected, cpu_seconds: used, deliveries_per_cpu_second: Math.round(received / used) };
}

await publish();
const before = residentBytes();
await connectAll();
await sleep(1_000);
const bytesPerClient = Math.round((residentBytes() - before) / clients);
const rates = [];
for (const rate of values.rates.split(',').map(Number)) rates.push(await measure(rate));
console.log(JSON.stringify({ clients, seconds, bytes_per_idle_client: bytesPerClient, rates }, null, 1));
process.exit(0);
