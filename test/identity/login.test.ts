/** `regate login` and `regate user add`, with a real provider and a person who types. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  demoClientId,
  startDemoProvider,
  type DemoProvider,
} from '../../src/commands/demo/oidc-provider.ts'
import {
  browserLogin,
  deviceLogin,
  discover,
  refreshLogin,
  type LoginOptions,
} from '../../src/commands/login-flows.ts'
import {
  forgetLogin,
  loadLogin,
  parsePgpassTarget,
  saveLogin,
  writePgpass,
} from '../../src/commands/login-store.ts'
import { parseUsers, parseVerifier, writeUser } from '../../src/identity/identity.ts'
import { browse } from './support/person.ts'

let provider: DemoProvider
let directory: string
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'regate-login-'))
  provider = await startDemoProvider({
    accounts: [{ id: 'ann', name: 'Ann', email: 'ann@shop.example', groups: ['engineers'] }],
    machines: [],
    audience: 'regate',
  })
})
afterAll(async () => {
  await provider.stop()
  rmSync(directory, { recursive: true, force: true })
})

/** Options whose person opens the address that is told and logs in as Ann. */
function options(over: Partial<LoginOptions> = {}): LoginOptions & { readonly told: string[] } {
  const told: string[] = []
  return {
    issuer: provider.issuer,
    clientId: demoClientId,
    clientSecret: null,
    scope: 'openid offline_access',
    resource: null,
    audience: null,
    token: 'access',
    told,
    tell: (line) => {
      told.push(line)
      const address = /^(?:or open|Open) (\S+)$/.exec(line)?.[1]
      if (address !== undefined) void browse(address, { login: 'ann', password: 'x' })
    },
    openBrowser: false,
    signal: AbortSignal.timeout(20_000),
    ...over,
  }
}

describe('regate login', () => {
  it('gets a token by device flow and refreshes it', async () => {
    const mine = options()
    const configuration = await discover(mine)
    const login = await deviceLogin(configuration, mine)
    expect(decodeJwt(login.token)).toMatchObject({
      sub: 'ann',
      aud: 'regate',
      groups: ['engineers'],
    })
    expect(mine.told[0]).toMatch(/enter the code [A-Z]{4}-[A-Z]{4}/)
    expect(login.expiresAtMs).toBeGreaterThan(Date.now())
    expect(login.refreshToken).not.toBeNull()
    const again = await refreshLogin(configuration, login.refreshToken ?? '', mine)
    expect(decodeJwt(again?.token ?? '')).toMatchObject({ sub: 'ann' })
    expect(again?.token).not.toBe(login.token)
    expect(await refreshLogin(configuration, 'stolen', mine)).toBeNull()
  })

  it('gets a token in the browser, with PKCE', async () => {
    const mine = options()
    const login = await browserLogin(await discover(mine), mine)
    expect(decodeJwt(login.token)).toMatchObject({ sub: 'ann' })
    const url = new URL(mine.told[0]?.slice('Open '.length) ?? '')
    expect(url.searchParams.get('code_challenge_method')).toBe('S256')
    expect(url.searchParams.get('state')).not.toBeNull()
  })

  it('can take the ID token', async () => {
    const mine = options({ token: 'id' })
    const login = await deviceLogin(await discover(mine), mine)
    expect(decodeJwt(login.token)).toMatchObject({ sub: 'ann', aud: demoClientId })
  })

  it('does not take a callback of somebody else', async () => {
    const mine = options({
      tell: (line) => {
        const redirect = new URL(line.slice(5)).searchParams.get('redirect_uri') ?? ''
        void fetch(`${redirect}?code=stolen&state=guessed`)
      },
    })
    await expect(browserLogin(await discover(mine), mine)).rejects.toThrow('browser failed')
  })

  it('gives up in time', async () => {
    const mine = options({ tell: () => undefined, signal: AbortSignal.timeout(300) })
    const configuration = await discover(mine)
    await expect(browserLogin(configuration, mine)).rejects.toThrow('nobody logged in')
  })

  it.each(['http://192.0.2.1', 'ftp://x', 'nonsense'])('does not ask %s', async (issuer) => {
    await expect(discover(options({ issuer }))).rejects.toThrow('neither https')
  })
})

describe('the command', () => {
  interface Ran {
    readonly code: number | null
    readonly out: string
    readonly err: string
  }

  function regate(
    args: readonly string[],
    onError: (text: string) => void,
    input = '',
  ): Promise<Ran> {
    const child = spawn(process.execPath, ['dist/main.js', ...args], {
      env: { ...process.env, REGATE_TOKENS: join(directory, 'cli', 'tokens.json') },
    })
    let out = ''
    let err = ''
    child.stdin.end(input)
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString()
      onError(err)
    })
    return new Promise((resolve) => {
      child.on('close', (code) => {
        resolve({ code, out, err })
      })
    })
  }

  it('prints the token alone, asks a person once, and refreshes', async () => {
    const args = ['login', '--issuer', provider.issuer, '--client-id', demoClientId]
    const quiet = ['--print', '--no-browser']
    let asked = 0
    const first = await regate([...args, ...quiet], (err) => {
      const address = /or open (\S+)\n/.exec(err)?.[1]
      if (address === undefined || asked > 0) return
      asked++
      void browse(address, { login: 'ann', password: 'x' })
    })
    expect(first.code).toBe(0)
    expect(first.out).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/)
    expect(decodeJwt(first.out.trim())).toMatchObject({ sub: 'ann' })
    expect(first.err).not.toContain(first.out.trim())
    const again = await regate([...args, ...quiet], () => undefined)
    expect(again.out).toBe(first.out)
    // As if its time had come: the refresh token is taken, nobody is asked.
    const path = join(directory, 'cli', 'tokens.json')
    const store = JSON.parse(readFileSync(path, 'utf8')) as Record<string, { expiresAtMs: number }>
    for (const login of Object.values(store)) login.expiresAtMs = Date.now()
    writeFileSync(path, JSON.stringify(store), { mode: 0o600 })
    const refreshed = await regate([...args, ...quiet], () => undefined)
    expect(refreshed.code).toBe(0)
    expect(refreshed.out).not.toBe(first.out)
    expect(refreshed.err).toBe('')
  }, 90_000)

  it('says what is missing, as misuse', async () => {
    const { code, err } = await regate(['login'], () => undefined)
    expect(code).toBe(2)
    expect(err).toContain('--issuer and --client-id')
  })

  it('adds a user from a pipe, and prints only a password that it made', async () => {
    const users = join(directory, 'cli-users.yaml')
    const add = ['user', 'add', 'ann', '-g', 'engineers', '--users', users]
    const piped = await regate(add, () => undefined, 'pencil\n')
    expect(piped).toMatchObject({ code: 0, out: '' })
    const before = parseUsers(readFileSync(users, 'utf8'), users).get('ann')
    const made = await regate([...add, '--generate'], () => undefined)
    expect(made.out).toMatch(/^[\w-]{32}\n$/)
    const after = parseUsers(readFileSync(users, 'utf8'), users).get('ann')
    expect(after?.verifier).not.toEqual(before?.verifier)
    expect(after?.groups).toEqual(['engineers'])
    expect((await regate(add, () => undefined, '\n')).code).toBe(1)
  }, 60_000)
})

describe('the store of logins', () => {
  const login = { token: 'secret.token', refreshToken: 'r', expiresAtMs: 5 }

  it('is private, keeps logins apart and forgets', async () => {
    const path = join(directory, 'a', 'tokens.json')
    expect(await loadLogin(path, 'one')).toBeNull()
    await saveLogin(path, 'one', login)
    await saveLogin(path, 'two', { ...login, token: 'other' })
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(await loadLogin(path, 'one')).toEqual(login)
    expect(await forgetLogin(path, 'one')).toBe(true)
    expect(await loadLogin(path, 'one')).toBeNull()
    expect(await loadLogin(path, 'two')).not.toBeNull()
    expect(await forgetLogin(path, 'one')).toBe(false)
  })

  it('that others can read, or that is broken, is not used', async () => {
    const path = join(directory, 'open.json')
    writeFileSync(path, '{}', { mode: 0o644 })
    await expect(loadLogin(path, 'one')).rejects.toThrow('can be read by others')
    const broken = join(directory, 'broken.json')
    writeFileSync(broken, '[', { mode: 0o600 })
    await expect(loadLogin(broken, 'one')).rejects.toThrow('no file of regate login')
  })

  it('writes pgpass lines that libpq reads', async () => {
    const path = join(directory, 'pgpass')
    writeFileSync(path, '# mine\n*:*:*:ann:old\nother:5432:*:bob:pw\n', { mode: 0o600 })
    const target = parsePgpassTarget('db-proxy:6432:*:ann')
    if (target === null) throw new Error('no target')
    await writePgpass(path, target, 'a:b\\c')
    await writePgpass(path, target, 'token.two')
    expect(readFileSync(path, 'utf8')).toBe(
      'db-proxy:6432:*:ann:token.two\n# mine\n*:*:*:ann:old\nother:5432:*:bob:pw\n',
    )
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(parsePgpassTarget('a:b:c')).toBeNull()
    expect(parsePgpassTarget('a:b:c:d:e')).toBeNull()
    expect(parsePgpassTarget('[\\:\\:1]:5432:*:ann')?.fields[0]).toBe('[\\:\\:1]')
  })
})

describe('users.yaml', () => {
  const verifier = parseVerifier(
    `SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=`,
  )
  if (verifier === null) throw new Error('no verifier')

  it('keeps comments, order and what is not said', async () => {
    const path = join(directory, 'users.yaml')
    const user = { name: 'ann', verifier, groups: ['engineers'], email: 'a@x.example', type: null }
    expect(await writeUser(path, user)).toBe('added')
    writeFileSync(path, `# our people\n${readFileSync(path, 'utf8')}`)
    expect(await writeUser(path, { ...user, name: 'bob', groups: [], email: null })).toBe('added')
    expect(await writeUser(path, { ...user, groups: null, email: null, type: 'machine' })).toBe(
      'changed',
    )
    const text = readFileSync(path, 'utf8')
    expect(text).toMatch(/^# our people\nann:/)
    expect(parseUsers(text, path).get('ann')).toMatchObject({
      groups: ['engineers'],
      email: 'a@x.example',
      type: 'machine',
    })
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it.each([
    ['- ann', /a map from user/],
    ['ann: {}', /ann.verifier/],
    ['ann: { verifier: plaintext }', /ann.verifier: no SCRAM-SHA-256 verifier/],
    ['ann: { password: x }', /ann/],
    ['ann: { verifier: x }\nann: { verifier: y }', /unique/],
    ['ann: [', /flow/i],
  ])('%j is an error that names what is wrong, and never the value', (text, pattern) => {
    expect(() => parseUsers(text, 'users.yaml')).toThrow(pattern)
    try {
      parseUsers(text, 'users.yaml')
    } catch (error) {
      expect(String(error)).not.toContain('plaintext')
    }
  })

  it('does not take a name of JavaScript for a user', () => {
    expect(parseUsers('', 'users.yaml').get('constructor')).toBeUndefined()
    expect(() => parseUsers('__proto__: { verifier: x }', 'users.yaml')).toThrow('__proto__')
  })
})

describe('the password of regate user add', () => {
  it('comes from a pipe and never is an argument', async () => {
    const { readSecretLine } = await import('../../src/commands/ask.ts')
    const child = spawn('printf', ['pencil\\nmore\\n'])
    expect(await readSecretLine(child.stdout)).toBe('pencil')
  })
})
