/** Bundles that the real OPA made and signed, and what an attacker would make of them. */
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { create as createTar, Header } from 'tar'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits, ProxyError } from '../../src/core/core.ts'
import { buildBundle } from '../../src/control/bundles-build.ts'
import { Policy, readBundle, unpackBundle, type SigningOptions } from '../../src/policy/policy.ts'
import { packDirectory, realOpa } from './pack.ts'

let scratch: string
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-bundle-test-'))
})
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true })
})

function keysOf(type: 'rsa' | 'ec'): { readonly publicKey: string; readonly privateKey: string } {
  const publicKeyEncoding = { type: 'spki', format: 'pem' } as const
  const privateKeyEncoding = { type: 'pkcs8', format: 'pem' } as const
  if (type === 'rsa') {
    return generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding,
      privateKeyEncoding,
    })
  }
  return generateKeyPairSync('ec', { namedCurve: 'P-256', publicKeyEncoding, privateKeyEncoding })
}

async function signed(algorithm: string, key: string, scope?: string): Promise<Buffer> {
  return buildBundle({
    opa: await realOpa(),
    directory: packDirectory,
    revision: 'signed',
    signing: { key, algorithm, scope },
    cacheDirectory: null,
  })
}

const read = (packed: Uint8Array, signing: SigningOptions | null, nowMs = Date.now()) =>
  readBundle(packed, { limits: defaultLimits, name: 'test', signing, nowMs })

async function faultOf(work: Promise<unknown>): Promise<ProxyError> {
  const error: unknown = await work.then(
    () => new Error('nothing was thrown'),
    (reason: unknown) => reason,
  )
  if (error instanceof ProxyError) return error
  throw error as Error
}

/** Unpacks, lets a change happen, packs again. */
async function tampered(packed: Buffer, change: (directory: string) => void): Promise<Buffer> {
  const directory = mkdtempSync(join(scratch, 'tampered-'))
  const archive = join(directory, 'in.tar.gz')
  writeFileSync(archive, packed)
  const inner = mkdtempSync(join(directory, 'content-'))
  execFileSync('tar', ['xzf', archive, '-C', inner], { stdio: 'ignore' })
  change(inner)
  const output = join(directory, 'out.tar.gz')
  await createTar({ gzip: true, file: output, cwd: inner }, ['.'])
  return readFileSync(output)
}

describe('signatures made by OPA', () => {
  it.each(['RS256', 'ES256', 'HS256'] as const)('verifies %s', async (algorithm) => {
    const pair = algorithm === 'HS256' ? null : keysOf(algorithm === 'ES256' ? 'ec' : 'rsa')
    const path = join(scratch, `${algorithm}.pem`)
    if (pair !== null) writeFileSync(path, pair.privateKey)
    const packed = await signed(algorithm, pair === null ? 'a shared secret' : path)
    const key = pair === null ? 'a shared secret' : pair.publicKey
    const bundle = await read(packed, { keys: { main: { algorithm, key } } })
    expect(bundle.manifest.revision).toBe('signed')
    const policy = await Policy.load(bundle, { limits: defaultLimits })
    expect(policy.revision).toBe('signed')
  })

  it('refuses another key, another algorithm, no key, and a missing signature', async () => {
    const [pair, other] = [keysOf('rsa'), keysOf('rsa')]
    const path = join(scratch, 'one.pem')
    writeFileSync(path, pair.privateKey)
    const packed = await signed('RS256', path)
    const withKey = (key: string, algorithm: 'RS256' | 'HS256' = 'RS256') =>
      read(packed, { keys: { main: { algorithm, key } } })
    expect((await faultOf(withKey(other.publicKey))).message).toContain('does not verify')
    // The public key as an HMAC secret: the classic confusion of algorithms.
    expect((await faultOf(withKey(pair.publicKey, 'HS256'))).message).toContain('does not verify')
    expect((await faultOf(read(packed, null))).message).toContain('no verification key')
    const unsigned = await tampered(packed, (directory) => {
      rmSync(join(directory, '.signatures.json'))
    })
    const missing = read(unsigned, { keys: { main: { algorithm: 'RS256', key: pair.publicKey } } })
    expect((await faultOf(missing)).message).toContain('is not signed')
  })

  it('refuses a wrong scope', async () => {
    const packed = await signed('HS256', 'secret', 'write')
    const options = (scope: string): SigningOptions => ({
      scope,
      keys: { main: { algorithm: 'HS256', key: 'secret' } },
    })
    await read(packed, options('write'))
    expect((await faultOf(read(packed, options('read')))).message).toContain('scope')
  })

  it('refuses files that were changed, added or removed', async () => {
    const packed = await signed('HS256', 'secret')
    const signing: SigningOptions = { keys: { main: { algorithm: 'HS256', key: 'secret' } } }
    const changes: readonly [string, (directory: string) => void][] = [
      [
        'is not what was signed',
        (at) => {
          writeFileSync(
            join(at, 'data.json'),
            '{"regate":{"groups":{"agents":{"read":["*"],"unmask":["*"]}}}}',
          )
        },
      ],
      [
        'was not signed',
        (at) => {
          writeFileSync(join(at, 'extra.txt'), 'x')
        },
      ],
      [
        'not in the bundle',
        (at) => {
          rmSync(join(at, 'data.json'))
        },
      ],
      [
        'is not what was signed',
        (at) => {
          writeFileSync(join(at, 'policy.wasm'), Buffer.from([0]))
        },
      ],
    ]
    for (const [words, change] of changes) {
      const fault = await faultOf(read(await tampered(packed, change), signing))
      expect(fault.message).toContain(words)
    }
  })

  it('takes data that is written differently but says the same, as OPA does', async () => {
    const packed = await signed('HS256', 'secret')
    const same = await tampered(packed, (at) => {
      const path = join(at, 'data.json')
      writeFileSync(path, JSON.stringify(JSON.parse(readFileSync(path, 'utf8')), null, 4))
    })
    await read(same, { keys: { main: { algorithm: 'HS256', key: 'secret' } } })
  })

  it('signs what `opa sign` signs', async () => {
    const opa = await realOpa()
    const directory = mkdtempSync(join(scratch, 'opa-sign-'))
    writeFileSync(
      join(directory, 'unsigned.tar.gz'),
      await buildBundle({ opa, directory: packDirectory, cacheDirectory: null }),
    )
    const content = join(directory, 'content')
    execFileSync('mkdir', [content])
    execFileSync('tar', ['xzf', join(directory, 'unsigned.tar.gz'), '-C', content], {
      stdio: 'ignore',
    })
    execFileSync(
      opa.path,
      [
        'sign',
        '--signing-alg=HS256',
        '--signing-key=secret',
        '--output-file-path',
        content,
        '--bundle',
        '.',
      ],
      { cwd: content },
    )
    const output = join(directory, 'signed.tar.gz')
    await createTar({ gzip: true, file: output, cwd: content }, ['.'])
    await read(readFileSync(output), { keys: { main: { algorithm: 'HS256', key: 'secret' } } })
  })
})

describe('what is no bundle', () => {
  const tarOf = (
    path: string,
    type: 'File' | 'SymbolicLink' | 'Link' | 'CharacterDevice',
    body = 'x',
  ): Buffer => {
    const header = new Header({
      path,
      type,
      size: type === 'File' ? body.length : 0,
      mode: 0o644,
      ...(type === 'File' ? {} : { linkpath: '/etc/passwd' }),
      mtime: new Date(0),
    })
    const block = Buffer.alloc(512)
    header.encode(block, 0)
    const content = Buffer.alloc(type === 'File' ? 512 : 0)
    content.write(body)
    return gzipSync(Buffer.concat([block, content, Buffer.alloc(1024)]))
  }

  it.each(['../data.json', 'a/../../data.json', 'a\\..\\b'])(
    'refuses the path %s',
    async (path) => {
      expect((await faultOf(unpackBundle(tarOf(path, 'File'), defaultLimits))).message).toContain(
        'leaves it',
      )
    },
  )

  it.each(['SymbolicLink', 'Link', 'CharacterDevice'] as const)('refuses a %s', async (type) => {
    expect((await faultOf(unpackBundle(tarOf('data.json', type), defaultLimits))).code).toBe(
      'policy_fault',
    )
  })

  it('refuses a bomb before it is unpacked', async () => {
    const bomb = gzipSync(Buffer.alloc(8 * 1024 * 1024))
    const limits = { ...defaultLimits, bundleBytesMax: 1024 * 1024 }
    expect((await faultOf(unpackBundle(bomb, limits))).message).toContain('bundleBytesMax')
  })

  it('refuses every cut-off bundle', async () => {
    const packed = await buildBundle({
      opa: await realOpa(),
      directory: packDirectory,
      cacheDirectory: null,
    })
    for (const part of [0.01, 0.1, 0.5, 0.9, 0.99]) {
      const cut = packed.subarray(0, Math.floor(packed.length * part))
      expect((await faultOf(read(cut, null))).code).toBe('policy_fault')
    }
    expect((await faultOf(read(Buffer.alloc(0), null))).code).toBe('policy_fault')
    expect((await faultOf(read(Buffer.from('not a bundle'), null))).code).toBe('policy_fault')
  })

  it('refuses data outside of the roots', async () => {
    const packed = await buildBundle({
      opa: await realOpa(),
      directory: packDirectory,
      cacheDirectory: null,
    })
    const outside = await tampered(packed, (at) => {
      writeFileSync(join(at, 'data.json'), '{"system": {"x": 1}}')
    })
    expect((await faultOf(read(outside, null))).message).toContain('outside of its roots')
  })

  it('refuses Rego that was not compiled, and says how to', async () => {
    const directory = mkdtempSync(join(scratch, 'rego-'))
    cpSync(packDirectory, directory, { recursive: true })
    const output = join(scratch, 'rego.tar.gz')
    await createTar({ gzip: true, file: output, cwd: directory }, ['.manifest', 'regate'])
    expect((await faultOf(read(readFileSync(output), null))).hint).toContain('regate policy build')
  })
})
