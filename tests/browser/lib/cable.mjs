/** A cable between a browser and the server that can be pulled: a TCP forwarder on loopback. */

import { createServer, connect } from 'node:net';

/** Forwards one port of its own to the server; `cut` breaks what is connected. */
export class Cable {
  static async to(url) {
    const { hostname, port } = new URL(url);
    const cable = new Cable();
    cable.server = createServer((near) => cable.#join(near, connect(Number(port || 80), hostname)));
    await new Promise((resolve, reject) => {
      cable.server.once('error', reject);
      cable.server.listen(0, '127.0.0.1', resolve);
    });
    cable.url = `http://127.0.0.1:${cable.server.address().port}`;
    return cable;
  }

  constructor() {
    this.sockets = new Set();
    this.pulled = false;
  }

  /** Breaks all connections, and refuses new ones until `mend`. */
  cut() {
    this.pulled = true;
    for (const socket of this.sockets) {
      socket.destroy();
    }
  }

  /** Lets connections through again. */
  mend() {
    this.pulled = false;
  }

  async close() {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }

  #join(near, far) {
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ]) {
      this.sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        this.sockets.delete(socket);
        other.destroy();
      });
    }
    if (this.pulled) {
      near.destroy();
      far.destroy();
      return;
    }
    near.pipe(far);
    far.pipe(near);
  }
}
