/** What is kept of policies that were loaded before, and what is never taken from there. */
import { generateKeyPairSync } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { buildBundle } from '../../src/control/bundles-build.ts'
import { defaultLimits } from '../../src/core/core.ts'
import { KnownPolicies, Policy, readBundle, type SigningOptions } from '../../src/policy/policy.ts'
import { realOpa } from './pack.ts'

let scratch: string
let known: KnownPolicies
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-known-test-'))
  known = new KnownPolicies()
})
afterAll(() => {
  known.close()
  rmSync(scratch, { recursive: true, force: true })
})

const pem = (name: string): { readonly key: string; readonly open: string } => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = join(scratch, `${name}.pem`)
  writeFileSync(key, privateKey.export({ type: 'pkcs8', format: 'pem' }))
  return { key, open: publicKey.export({ type: 'spki', format: 'pem' }) as string }
}

/** A bundle of one statement rule and its data, built by OPA. */
async function build(
  revision: string,
  rule: string,
  data: object,
  signing?: { readonly key: string },
): Promise<Buffer> {
  const directory = mkdtempSync(join(scratch, 'policy-'))
  mkdirSync(join(directory, 'more'))
  writeFileSync(
    join(directory, 'connect.rego'),
    'package regate.connect\n\ndecision := {"action": "allow"}\n',
  )
  writeFileSync(join(directory, 'statement.rego'), `package regate.statement\n\n${rule}\n`)
  writeFileSync(join(directory, 'data.json'), JSON.stringify(data))
  return buildBundle({
    ...{ opa: await realOpa(), directory, revision, cacheDirectory: null },
    ...(signing === undefined ? {} : { signing: { key: signing.key, algorithm: 'ES256' } }),
  })
}

async function load(
  packed: Buffer,
  over: { readonly signing?: SigningOptions; readonly evaluationMsMax?: number } = {},
): Promise<Policy> {
  const limits = { ...defaultLimits, evaluationMsMax: over.evaluationMsMax ?? 5_000 }
  const options = { limits, name: 'test', signing: over.signing ?? null, nowMs: Date.now() }
  return Policy.load(await readBundle(packed, options), { limits, known })
}

const allow = 'decision := {"action": "allow", "rule": data.name}'

it('comes back to known content without compiling or checking, with its own instance', async () => {
  const [one, two] = await Promise.all([
    build('one', allow, { name: 'one' }),
    build('two', allow, { name: 'two' }),
  ])
  const first = await load(one)
  const second = await load(two)
  const third = await load(one)
  expect(second.module, 'a change of data compiles nothing').toBe(first.module)
  expect(second.cost).not.toBe(first.cost)
  expect(third.cost, 'measured once').toBe(first.cost)
  expect(third).not.toBe(first)
  expect(third.revision).toBe('one')
  const answer = third.evaluate('regate/statement/decision', '{}')
  expect(answer).toContain('"rule":"one"')
})

it('verifies a signature however well it knows what was signed', async () => {
  const [ours, theirs] = [pem('ours'), pem('theirs')]
  const signing: SigningOptions = { keys: { main: { algorithm: 'ES256', key: ours.open } } }
  await load(await build('good', allow, { name: 'signed' }, ours), { signing })
  const forged = await build('good', allow, { name: 'signed' }, theirs)
  await expect(load(forged, { signing })).rejects.toThrow('does not verify')
})

it('does not remember what failed, nor that its revision was named', async () => {
  const smoke = [{ name: 'nobody', input: {}, action: 'deny' }]
  const bad = await build('nine', allow, { name: 'nine', regate: { smoke } })
  for (let round = 0; round < 2; round++) {
    await expect(load(bad)).rejects.toThrow('expects deny and gets allow')
  }
  const mended = await build('nine', allow, { name: 'nine' })
  expect((await load(mended)).revision).toBe('nine')
})

it('calls other content under a revision that was loaded by another name', async () => {
  await load(await build('same', allow, { name: 'first' }))
  const other = await load(await build('same', allow, { name: 'second' }))
  expect(other.revision).toMatch(/^same~/)
  const back = await load(await build('same', allow, { name: 'first' }))
  expect(back.revision).toBe('same')
})

it('a smoke input that is never answered costs its wall clock, not the event loop', async () => {
  const rule = `decision := {"action": "allow"} if not input.slow

decision := {"action": "allow"} if {
	input.slow
	count([1 | some a in numbers.range(1, 2000); some b in numbers.range(1, 2000); a * b == -1]) == 0
}`
  const smoke = [{ name: 'slow', input: { slow: true }, action: 'allow' }]
  const packed = await build('slow', rule, { regate: { smoke } })
  let turns = 0
  const timer = setInterval(() => turns++, 10)
  await expect(load(packed, { evaluationMsMax: 700 })).rejects.toThrow('limits.evaluationMsMax')
  clearInterval(timer)
  expect(turns).toBeGreaterThan(10)
})
