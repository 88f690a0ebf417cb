// A server of Socket.IO, written as its documentation writes it, to be measured beside Fanfare by `fanfare bench peers`:
// clients join a room with `subscribe`, and `POST /publish` {"channel", "data"} emits `message` to the room.
//
//   PORT=8001 REDIS_URL=redis://127.0.0.1:6379 ADAPTER=redis|streams node socketio-server.cjs
//
// CommonJS, so that NODE_PATH may say where the packages are.

'use strict';

const { createServer } = require('node:http');
const { Server } = require('socket.io');
const { createClient } = require('redis');

const BODY_BYTES_MAX = 1 << 20;

async function main() {
  const { PORT, REDIS_URL, ADAPTER } = process.env;
  const redis = createClient({ url: REDIS_URL });
  await redis.connect();
  const options = { perMessageDeflate: false, serveClient: false, transports: ['websocket'] };
  if (ADAPTER === 'streams') {
    const { createAdapter } = require('@socket.io/redis-streams-adapter');
    options.adapter = createAdapter(redis);
    options.connectionStateRecovery = { maxDisconnectionDuration: 120_000 };
  } else if (ADAPTER === 'redis') {
    const { createAdapter } = require('@socket.io/redis-adapter');
    const listener = redis.duplicate();
    await listener.connect();
    options.adapter = createAdapter(redis, listener);
  } else {
    throw new Error(`ADAPTER: '${ADAPTER}' is neither 'redis' nor 'streams'`);
  }

  const http = createServer();
  const io = new Server(http, options);
  io.on('connection', (socket) => {
    // The request of the handshake is not needed any more, says the documentation on memory.
    socket.conn.request = null;
    socket.on('subscribe', (channel, acknowledge) => {
      socket.join(channel);
      acknowledge({});
    });
  });
  http.on('request', (request, response) => {
    if (request.method !== 'POST' || request.url !== '/publish') {
      // Requests of Engine.IO are its own listener's.
      if (!request.url.startsWith('/socket.io/')) response.writeHead(404, { 'Content-Length': 0 }).end();
      return;
    }
    const parts = [];
    let size = 0;
    request.on('data', (part) => {
      size += part.length;
      if (size > BODY_BYTES_MAX) request.destroy();
      else parts.push(part);
    });
    request.on('end', () => {
      let status = 200;
      try {
        const { channel, data } = JSON.parse(Buffer.concat(parts).toString());
        io.to(channel).emit('message', data);
      } catch {
        status = 400;
      }
      response.writeHead(status, { 'Content-Length': 0 }).end();
    });
  });
  // As long as the publishers of the generator may have nothing to say.
  http.keepAliveTimeout = 120_000;
  http.listen(Number(PORT), '127.0.0.1');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
