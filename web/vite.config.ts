import { defineConfig } from 'vite';

/** The server that the development page talks to. */
const SERVER = 'http://127.0.0.1:8000';

export default defineConfig({
  base: '/',
  build: {
    target: 'es2022',
    outDir: 'dist',
    assetsDir: 'assets',
    // The page runs under a policy without inline code: everything is a file of its own.
    assetsInlineLimit: 0,
    // Only hls.js is larger, which is loaded for the sources that need it.
    chunkSizeWarningLimit: 640,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: {
        index: 'index.html',
        watch: 'watch/index.html',
        mail: 'mail/index.html',
        chat: 'chat/index.html',
        'mail-worker': 'src/mail/worker.ts',
      },
      output: {
        // A worker is known by its address, and serves what is below it.
        entryFileNames: ({ name }) =>
          name === 'mail-worker' ? 'mail/worker.js' : 'assets/[name].[hash].js',
        chunkFileNames: 'assets/[name].[hash].js',
        assetFileNames: 'assets/[name].[hash][extname]',
      },
    },
  },
  server: {
    host: '127.0.0.1',
    proxy: {
      '/api': SERVER,
      '/events': SERVER,
      '/health': SERVER,
      '/metrics': SERVER,
      '^/mail/(login|callback|me|messages|events|token|sync|logout|disconnect|dev)': SERVER,
      '/watch/rooms': SERVER,
      '/v1': SERVER,
      '^/chat/(dev|oidc)': SERVER,
      '/socket.io': { target: SERVER, ws: true },
      '/connection': { target: SERVER, ws: true },
    },
  },
});
