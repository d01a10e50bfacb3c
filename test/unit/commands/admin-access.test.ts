import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pino } from 'pino'
import { adminAccess } from '../../../src/commands/admin-access.ts'
import { startDemoProvider, type DemoProvider } from '../../../src/commands/demo/oidc-provider.ts'
import { parseConfiguration, type Configuration } from '../../../src/config/config.ts'
import { Health, Metrics, startAdmin, type AdminServer } from '../../../src/control/control.ts'
import { systemClock } from '../../../src/core/core.ts'
import { RevocationList } from '../../../src/identity/identity.ts'

/** The admin API behind a real OIDC provider. */
describe('who may use the admin API', () => {
  let provider: DemoProvider
  let admin: AdminServer
  let closeAccess: () => Promise<void>
  const revocations = new RevocationList(systemClock)

  function configuration(): Configuration {
    const loaded = parseConfiguration(
      `
databases: { "*": { upstream: { host: 127.0.0.1 }, roles: { default: { user: x } } } }
authentication: [{ method: trust }]
policy: { bundle: policies }
admin:
  port: 0
  groups: [admins]
  token_env: ADMIN_TOKEN
  oidc: { issuer: "${provider.issuer}", client_id: console, audience: regate }
`,
      `${process.cwd()}/regate.yaml`,
      { ADMIN_TOKEN: 'right' },
    )
    if (loaded.kind === 'errors') throw new Error(JSON.stringify(loaded.errors))
    return loaded.configuration
  }

  beforeAll(async () => {
    provider = await startDemoProvider({
      accounts: [
        { id: 'grace', name: 'Grace', email: 'g@example.com', groups: ['admins'] },
        { id: 'ada', name: 'Ada', email: 'a@example.com', groups: ['engineers'] },
      ],
      ...{ machines: [], audience: 'regate' },
    })
    const log = pino({ level: 'silent' })
    const access = adminAccess(
      configuration(),
      { ADMIN_TOKEN: 'right' },
      revocations,
      (message) => {
        log.warn(message)
      },
    )
    closeAccess = () => access.close()
    admin = await startAdmin({
      ...{ host: '127.0.0.1', port: 0, health: new Health(), metrics: new Metrics('0') },
      authenticate: access.authenticate,
    })
  })
  afterAll(async () => {
    await admin.close()
    await closeAccess()
    await provider.stop()
  })

  async function ask(token: string | null): Promise<number> {
    const headers: Record<string, string> =
      token === null ? {} : { authorization: `Bearer ${token}` }
    return (await fetch(`${admin.url}/metrics`, { headers })).status
  }

  test('the token, and people of the groups that are named', async () => {
    expect(await ask('right')).toBe(200)
    expect(await ask(await provider.tokenOf('grace'))).toBe(200)
  })

  test('nobody else: no token, a wrong one, another group, a token that was changed, one revoked', async () => {
    expect(await ask(null)).toBe(401)
    expect(await ask('wrong')).toBe(401)
    expect(await ask(await provider.tokenOf('ada'))).toBe(401)
    const token = await provider.tokenOf('grace')
    const [header = '', , signature = ''] = token.split('.')
    const forged = Buffer.from('{"sub":"grace","groups":["admins"]}').toString('base64url')
    expect(await ask(`${header}.${forged}.${signature}`)).toBe(401)
    const none = Buffer.from('{"alg":"none"}').toString('base64url')
    expect(await ask(`${none}.${forged}.`)).toBe(401)
  })
})
