/**
 * `npm test`: everything named *.test.ts. Long suites are named *.long.ts and have npm scripts of
 * their own (package.json); each of them has a short version that runs here.
 */
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['**/node_modules/**', 'dist/**'],
    globalSetup: ['test/support/global-setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    maxWorkers: Number(process.env['REGATE_TEST_WORKERS'] ?? 2),
  },
})
