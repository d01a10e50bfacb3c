import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { importJWK, SignJWT } from 'jose'
import { pino } from 'pino'
import { adminAccess, type AdminAccess } from '../../../src/commands/admin-access.ts'
import { startDemoProvider, type DemoProvider } from '../../../src/commands/demo/oidc-provider.ts'
import { parseConfiguration, type Configuration } from '../../../src/config/config.ts'
import {
  callerOf,
  Health,
  Metrics,
  startAdmin,
  type AdminCaller,
  type AdminServer,
} from '../../../src/control/control.ts'
import { systemClock } from '../../../src/core/core.ts'
import { RevocationList } from '../../../src/identity/identity.ts'

/** The admin API behind a real OIDC provider. */
describe('who may use the admin API', () => {
  let provider: DemoProvider
  let admin: AdminServer
  let closeAccess: () => Promise<void>
  let identify: AdminAccess['identify']
  let personCaller: AdminAccess['callerOf']
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
      routes: [
        (app) => {
          app.get('/whoami', (request) => callerOf(request) ?? {})
        },
      ],
    })
    identify = (claims) => access.identify(claims)
    personCaller = (person) => access.callerOf(person)
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

  test('every name of a caller is known, so that nobody decides on a request of their own', async () => {
    const [key] = provider.keys
    if (key === undefined) throw new Error('the provider has no key')
    const claims = {
      ...{ sub: 'u-17', act: { sub: 'agent-7' }, groups: ['admins'] },
      ...{ email: 'ada@example.com', email_verified: true },
    }
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', kid: String(key.kid), typ: 'at+jwt' })
      .setIssuer(provider.issuer)
      .setAudience('regate')
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(await importJWK(key, 'ES256'))
    const response = await fetch(`${admin.url}/whoami`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const names = { subject: 'agent-7', onBehalfOf: 'u-17', email: 'ada@example.com' }
    expect((await response.json()) as AdminCaller).toMatchObject(names)
    // The same by the console's cookie.
    const person = identify({ ...claims, exp: Math.floor(Date.now() / 1000) + 300 })
    if (typeof person === 'string') throw new Error(person)
    expect(personCaller(person)).toMatchObject(names)
  })
})
