/** The search that every proxy of the suite ends with finds what it looks for. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPairSync } from 'node:crypto'
import { SignJWT } from 'jose'
import { expect, it } from 'vitest'
import { deriveVerifier, formatVerifier } from '../../../src/identity/scram.ts'
import { expectNoSecrets, secretIn } from '../../support/secrets.ts'

it('finds tokens, keys, verifiers and headers, and says none of them', async () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const token = await new SignJWT({ sub: 'ann' })
    .setProtectedHeader({ alg: 'ES256' })
    .sign(privateKey)
  const secrets = [
    token,
    privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    formatVerifier(await deriveVerifier('pencil')),
    `{"authorization":"Bearer abcdefghij"}`,
  ]
  for (const secret of secrets) {
    const said = secretIn(`first line\n{"msg":"x","err":"${secret}"}`)
    expect(said).toMatch(/ in line [23]$/)
    expect(said).not.toContain(secret.slice(0, 20))
  }
  expect(secretIn('{"msg":"client refused","reason":"the token has expired"}')).toBeNull()
})

it('looks into every file of a directory but those that tests put there', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'regate-secrets-'))
  try {
    const verifier = formatVerifier(await deriveVerifier('pencil'))
    writeFileSync(join(directory, 'users.yaml'), verifier)
    mkdirSync(join(directory, 'audit'))
    await expect(expectNoSecrets(directory, 'a log')).resolves.toBeUndefined()
    await expect(expectNoSecrets(directory, verifier)).rejects.toThrow("regate's log holds")
    writeFileSync(join(directory, 'audit', 'audit-main-00000001.ndjson'), `{"text":"${verifier}"}`)
    await expect(expectNoSecrets(directory, 'a log')).rejects.toThrow('a SCRAM verifier in line 1')
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
})
