/** A balancer that sends each request to the next server, so that nothing sticks: HTTP and upgrades, on loopback. */

import { createServer, request } from 'node:http';

/** What is not for the next hop. */
const HOP_HEADERS = ['connection', 'keep-alive', 'transfer-encoding'];

/** Forwards each request to the next of its servers. */
export class Balancer {
  static async over(urls) {
    const balancer = new Balancer(urls);
    balancer.server = createServer((asked, answer) => balancer.#forward(asked, answer));
    balancer.server.on('upgrade', (asked, socket, head) => balancer.#upgrade(asked, socket, head));
    await new Promise((resolve, reject) => {
      balancer.server.once('error', reject);
      balancer.server.listen(0, '127.0.0.1', resolve);
    });
    balancer.url = `http://127.0.0.1:${balancer.server.address().port}`;
    return balancer;
  }

  constructor(urls) {
    this.urls = urls;
    /** Requests by server. */
    this.counts = urls.map(() => 0);
    this.turn = 0;
  }

  /** Breaks every connection, in whatever it is. */
  cut() {
    this.server.closeAllConnections();
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  /** As balancers do: who refuses a connection is asked no more. */
  #forget(error, url) {
    if (error.code === 'ECONNREFUSED') {
      this.urls = this.urls.filter((known) => known !== url);
    }
  }

  #next(asked) {
    const at = this.turn % this.urls.length;
    this.turn += 1;
    this.counts[at] += 1;
    const url = this.urls[at];
    const { hostname, port } = new URL(url);
    const { method, url: path, headers } = asked;
    return { url, hostname, port, method, path, headers, agent: false };
  }

  #forward(asked, answer) {
    const next = this.#next(asked);
    const passed = request(next, (answered) => {
      const headers = { ...answered.headers };
      HOP_HEADERS.forEach((name) => delete headers[name]);
      answer.writeHead(answered.statusCode, headers);
      answered.pipe(answer);
      answered.on('error', () => answer.destroy());
    });
    passed.on('error', (error) => {
      this.#forget(error, next.url);
      answer.destroy();
    });
    answer.on('close', () => passed.destroy());
    asked.pipe(passed);
  }

  #upgrade(asked, socket, head) {
    const next = this.#next(asked);
    const passed = request(next);
    const end = () => {
      socket.destroy();
      passed.destroy();
    };
    passed.on('upgrade', (answered, far, first) => {
      const lines = Object.entries(answered.headers).map(([name, value]) => `${name}: ${value}`);
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('\r\n')}\r\n\r\n`);
      far.unshift(first);
      socket.unshift(head);
      far.pipe(socket).pipe(far);
      far.on('error', end);
      far.on('close', end);
    });
    passed.on('response', end);
    passed.on('error', (error) => {
      this.#forget(error, next.url);
      end();
    });
    socket.on('error', end);
    socket.on('close', end);
    passed.end();
  }
}
