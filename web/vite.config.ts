// Builds `dist/site`, which the program embeds. Each text file also gets the compressed copies that the server sends.
/// <reference types="vitest/config" />
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const SITE = "dist/site";
/// Smaller files gain nothing.
const COMPRESSED_FROM = 600;

function compressed(): Plugin {
  return {
    name: "compressed-copies",
    apply: "build",
    closeBundle() {
      for (const entry of readdirSync(SITE, { recursive: true }) as string[]) {
        if (!/\.(js|css|html|svg)$/.test(entry)) continue;
        const path = join(SITE, entry);
        const content = readFileSync(path);
        if (content.length < COMPRESSED_FROM) continue;
        writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
        writeFileSync(`${path}.br`, brotliCompressSync(content));
      }
    },
  };
}

const SERVER = process.env.SOMA_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [compressed()],
  build: {
    outDir: SITE,
    emptyOutDir: true,
    target: "es2022",
    // A data: font or script would need more from the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
  },
  server: { proxy: { "/api": SERVER, "/v1": SERVER, "/ws": { target: SERVER, ws: true } } },
  test: { include: ["unit/**/*.test.ts"], environment: "jsdom" },
});
