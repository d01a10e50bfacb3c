/** What SIGHUP does not take over of regate.yaml is said, whatever key it is. */
import { expect, test } from 'vitest'
import { stringify } from 'yaml'
import { restartNeeded } from '../../../src/commands/runtime.ts'
import { parseConfiguration, type Configuration } from '../../../src/config/config.ts'

const base = {
  databases: {
    shop: {
      upstream: { host: 'db.example.com' },
      roles: { default: { user: 'app', password_env: 'PASSWORD' } },
    },
  },
  authentication: [{ method: 'trust', groups: ['a'] }],
  policy: { bundle: 'policies' },
  masking: { key_env: 'KEY_A' },
}
const environment = { PASSWORD: 'x', KEY_A: 'a'.repeat(43), KEY_B: 'b'.repeat(43) }

function read(document: object): Configuration {
  const loaded = parseConfiguration(
    stringify(document),
    `${process.cwd()}/regate.yaml`,
    environment,
  )
  if (loaded.kind === 'errors') throw new Error(JSON.stringify(loaded.errors))
  return loaded.configuration
}

test('nothing is said of a file that is the same', () => {
  expect(restartNeeded(read(base), read(structuredClone(base)))).toEqual([])
})

test.each([
  [{ listen: { port: 7000 } }, 'listen'],
  [{ workers: 2 }, 'workers'],
  [{ databases: { ...base.databases, other: base.databases.shop } }, 'databases'],
  [{ authentication: [{ method: 'trust', groups: ['b'] }] }, 'authentication'],
  [{ policy: { bundle: 'src' } }, 'policy'],
  [{ masking: { key_env: 'KEY_B' } }, 'the key of masking'],
  [{ masking: { ...base.masking, detectors: ['card'] } }, 'masking.detectors'],
  [{ approvals: { wait: '1m' } }, 'approvals'],
  [{ audit: { directory: 'other' } }, 'audit'],
  [{ traces: { url: 'https://collector.example/v1/traces' } }, 'traces'],
  [{ admin: { port: 9000 } }, 'admin'],
  [{ log: { level: 'debug' } }, 'log.level'],
  [{ limits: { connectionsMax: 7 } }, 'limits'],
])('%j needs a restart', (change, name) => {
  expect(restartNeeded(read(base), read({ ...base, ...change }))).toEqual([
    `reload: ${name} has changed, which needs a restart`,
  ])
})
