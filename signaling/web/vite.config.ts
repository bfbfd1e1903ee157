import { defineConfig } from 'vite';

// `npm run dev` serves the page alone and passes the rest on to a running `lectern`.
const server = 'http://localhost:7880';

export default defineConfig({
  build: {
    target: 'es2022',
    // Our views are small beside livekit-client. It gets a file of its own, which stays in a browser's cache
    // when only the page changes.
    chunkSizeWarningLimit: 600,
    rollupOptions: {
      output: {
        manualChunks: (id: string) => (id.includes('/node_modules/') ? 'livekit' : undefined),
      },
    },
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: { '/api': server, '/rtc': { target: server, ws: true } },
  },
});
