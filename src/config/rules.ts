/**
 * What concerns more than one key, the files that are named, and the environment. Each rule adds
 * its findings to those of all the others, so that a person sees everything at once.
 */
import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { isAllowedUrl, isAsymmetricAlgorithm, matchFault } from '../identity/identity.ts'
import type { Finding, Path } from './explain.ts'
import type { ConfigurationDocument } from './schema.ts'
import { isLoopback } from './values.ts'

export interface Surroundings {
  readonly directory: string
  readonly environment: Readonly<Record<string, string | undefined>>
}

type Report = (path: Path, message: string, fix: string | null) => void

/** All findings beyond the shape of single keys. */
export function checkRules(
  document: ConfigurationDocument,
  surroundings: Surroundings,
): readonly Finding[] {
  const findings: Finding[] = []
  const report: Report = (path, message, fix) => findings.push({ path, message, fix })
  checkListen(document, report)
  checkAuthentication(document, report)
  checkEntries(document, report)
  checkDatabases(document, report)
  checkApprovals(document, report)
  checkAdmin(document, report)
  checkAdminGroups(document, report)
  checkPolicy(document, report)
  checkSecrets(document, [], surroundings, report)
  checkFiles(document, surroundings, report)
  return findings
}

function checkListen(document: ConfigurationDocument, report: Report): void {
  const tls = document.listen.tls
  if (tls?.client_crl !== undefined && tls.client_ca === undefined) {
    report(['listen', 'tls', 'client_crl'], 'needs listen.tls.client_ca', 'add the CA')
  }
  const { port } = document.listen
  if (port !== 0 && port === document.admin.port && document.listen.host === document.admin.host) {
    report(['admin', 'port'], 'is also listen.port', 'give the admin API a port of its own')
  }
}

function checkAuthentication(document: ConfigurationDocument, report: Report): void {
  const { listen, authentication } = document
  const local = isLoopback(listen.host)
  authentication.forEach((entry, index) => {
    const at: Path = ['authentication', index]
    if (entry.method === 'trust' && !local) {
      report(
        [...at, 'method'],
        `trust lets everybody in who can connect, and listen.host is ${listen.host}`,
        'listen on 127.0.0.1, or use scram, oidc or certificate',
      )
    }
    if (entry.method === 'certificate' && listen.tls?.client_ca === undefined) {
      report(
        [...at, 'method'],
        'certificate needs to know whose certificates to accept',
        'add listen.tls with cert, key and client_ca',
      )
    }
    if (entry.match?.tls === true && listen.tls === undefined) {
      report([...at, 'match', 'tls'], 'can never match without listen.tls', 'add listen.tls')
    }
    if (entry.match === undefined && index < authentication.length - 1 && !isOffer(entry.method)) {
      report(
        at,
        'matches everybody, so the entries after it are never reached',
        'give it a `match`, or move it to the end',
      )
    }
  })
}

/** SCRAM and OAUTHBEARER share one SASL offer: such entries may follow each other without match. */
function isOffer(method: string): boolean {
  return method === 'scram' || method === 'oidc'
}

/** What an entry says in patterns, addresses, algorithms and URLs. */
function checkEntries(document: ConfigurationDocument, report: Report): void {
  document.authentication.forEach((entry, index) => {
    const at: Path = ['authentication', index]
    const { user, database, address } = entry.match ?? {}
    const fault = matchFault({
      user: [user ?? []].flat(),
      database: [database ?? []].flat(),
      address: [address ?? []].flat(),
    })
    if (fault !== null) report([...at, 'match'], fault, null)
    if (entry.method === 'certificate') checkPattern(entry.pattern, [...at, 'pattern'], report)
    if (entry.method !== 'oidc') return
    for (const algorithm of entry.algorithms ?? []) {
      if (isAsymmetricAlgorithm(algorithm)) continue
      const why = 'anybody who knows the public key could sign with it, or it is no algorithm'
      report([...at, 'algorithms'], `${algorithm}: ${why}`, 'use RS256, PS256, ES256 or EdDSA')
    }
    const urls = {
      issuer: entry.issuer,
      jwks_uri: entry.jwks_uri,
      introspection: entry.introspection?.url,
    }
    for (const [key, url] of Object.entries(urls)) {
      if (url === undefined || isAllowedUrl(url)) continue
      report([...at, key], 'is neither https nor on this machine', 'use https')
    }
  })
}

function checkPattern(pattern: string | undefined, at: Path, report: Report): void {
  try {
    if (pattern !== undefined) new RegExp(pattern, 'u')
  } catch {
    report(at, 'is no regular expression', null)
  }
}

function checkDatabases(document: ConfigurationDocument, report: Report): void {
  const entries = Object.entries(document.databases)
  if (entries.length === 0) {
    report(['databases'], 'is empty: no client could connect', 'add a database, or "*" for all')
  }
  for (const [name, database] of entries) {
    const at: Path = ['databases', name]
    if (!Object.hasOwn(database.roles, 'default')) {
      report([...at, 'roles'], 'has no role `default`', 'add roles.default with its user')
    }
    const { tls, host } = database.upstream
    if ((tls.cert === undefined) !== (tls.key === undefined)) {
      report([...at, 'upstream', 'tls'], 'has only one of cert and key', 'give both or none')
    }
    if (host.startsWith('/') && tls.mode !== undefined && tls.mode !== 'disable') {
      report([...at, 'upstream', 'tls', 'mode'], 'a Unix socket has no TLS', 'remove tls')
    }
  }
}

function checkApprovals(document: ConfigurationDocument, report: Report): void {
  const { approvals } = document
  if (approvals.adapter === 'webhook' && approvals.webhook === undefined) {
    report(['approvals', 'webhook'], 'is missing: the adapter is webhook', 'add approvals.webhook')
  }
  const { webhook } = approvals
  const keyed = webhook !== undefined && hasSecret(webhook, 'signing_key')
  if (webhook !== undefined && !hasSecret(webhook, 'secret') && !keyed) {
    report(
      ['approvals', 'webhook'],
      'has no secret: anybody could forge a callback',
      'add secret_env or secret_file, or signing_key_file and callback_key',
    )
  }
  if (keyed !== (webhook?.callback_key !== undefined)) {
    report(
      ['approvals', 'webhook'],
      'signing_key and callback_key go together: one for each direction',
      'add the other, or use secret_env alone',
    )
  }
  if (/^postgres(ql)?:\/\/[^@/]*:[^@/]*@/.test(approvals.store)) {
    report(
      ['approvals', 'store'],
      'holds a password, and secrets are never inline',
      'remove it from the URL and add store_password_env or store_password_file',
    )
  }
}

function checkAdmin(document: ConfigurationDocument, report: Report): void {
  const { admin } = document
  const guarded = admin.oidc !== undefined || hasSecret(admin, 'token')
  if (!isLoopback(admin.host) && !guarded) {
    report(
      ['admin', 'host'],
      `is ${admin.host}, and nothing asks who is calling`,
      'use 127.0.0.1, or add admin.oidc or admin.token_env',
    )
  }
}

function checkAdminGroups(document: ConfigurationDocument, report: Report): void {
  const { admin } = document
  const named = admin.groups.length + admin.viewers.length + admin.reviewers.length
  if (admin.oidc !== undefined && named === 0) {
    report(
      ['admin', 'oidc'],
      'lets nobody in: admin.groups, admin.viewers and admin.reviewers are empty',
      'name the groups that may use the admin API in admin.groups',
    )
  }
  if (admin.url !== undefined && !/^https?:\/\/[^/]+\/?$/.test(admin.url)) {
    report(
      ['admin', 'url'],
      'is not the root of a site',
      'give the console a host name of its own: https://regate.example.com',
    )
  }
}

function checkPolicy(document: ConfigurationDocument, report: Report): void {
  const bundles: [Path, typeof document.policy.bundle][] = [
    [['policy', 'bundle'], document.policy.bundle],
  ]
  if (document.policy.shadow !== undefined) {
    bundles.push([['policy', 'shadow', 'bundle'], document.policy.shadow.bundle])
  }
  for (const [at, bundle] of bundles) {
    if (typeof bundle === 'string') continue
    const { min_delay_seconds: min, max_delay_seconds: max } = bundle.polling
    if (min > max) {
      const where: Path = [...at, 'polling', 'min_delay_seconds']
      report(where, `is ${min}, above max_delay_seconds, which is ${max}`, 'swap them')
    }
    const { signing } = bundle
    if (signing === undefined) continue
    const symmetric = signing.algorithm === 'HS256'
    if (symmetric ? !hasSecret(signing, 'secret') : signing.public_key === undefined) {
      const needed = symmetric ? 'secret_env or secret_file' : 'public_key'
      report([...at, 'signing'], `${signing.algorithm} needs ${needed}`, `add ${needed}`)
    }
  }
}

function hasSecret(object: object, name: string): boolean {
  return ['env', 'file', 'command'].some(
    (suffix) => (object as Record<string, unknown>)[`${name}_${suffix}`] !== undefined,
  )
}

/** Every `x_env` names a variable that is set; of `x_env`, `x_file`, `x_command` only one is given. */
function checkSecrets(value: unknown, path: Path, around: Surroundings, report: Report): void {
  if (typeof value !== 'object' || value === null) return
  for (const [name, inner] of Object.entries(value as Record<string, unknown>)) {
    const at = [...path, Array.isArray(value) ? Number(name) : name]
    const [, base, kind] = /^(\w+)_(env|file|command)$/.exec(name) ?? []
    if (base === undefined || typeof inner !== 'string') {
      checkSecrets(inner, at, around, report)
      continue
    }
    if (kind === 'env' && (around.environment[inner] ?? '') === '') {
      report(at, `environment variable ${inner} is not set`, `export ${inner}, or use ${base}_file`)
    }
    const given = ['env', 'file', 'command'].filter((suffix) =>
      Object.hasOwn(value, `${base}_${suffix}`),
    )
    if (given.length > 1 && given[0] === kind) {
      report(at, `is one of ${given.length} sources of the same secret`, 'keep one of them')
    }
  }
}

const fileKeys = new Set(['cert', 'key', 'ca', 'crl', 'client_ca', 'client_crl', 'issuer_ca'])

/** Files that must be there when regate starts. */
function checkFiles(document: ConfigurationDocument, around: Surroundings, report: Report): void {
  const check = (path: Path, name: string, made?: string): void => {
    const file = resolve(around.directory, name)
    try {
      accessSync(file, constants.R_OK)
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      const missing = code === 'ENOENT'
      const why = missing ? 'does not exist' : `cannot be read (${code ?? 'unknown'})`
      const make = missing && made !== undefined ? `, or make it with \`${made}\`` : ''
      report(path, `${file} ${why}`, `correct the path; it is relative to this file${make}`)
    }
  }
  const visit = (value: unknown, path: Path): void => {
    if (typeof value !== 'object' || value === null) return
    for (const [name, inner] of Object.entries(value as Record<string, unknown>)) {
      const at = [...path, Array.isArray(value) ? Number(name) : name]
      const isFile = fileKeys.has(name) || name === 'public_key' || name.endsWith('_file')
      if (typeof inner === 'string' && isFile) check(at, inner)
      else visit(inner, at)
    }
  }
  visit(document, [])
  document.authentication.forEach((entry, index) => {
    if (entry.method !== 'scram') return
    const elsewhere = entry.users === 'users.yaml' ? '' : ` --users ${entry.users}`
    const made = `regate user add ann --group agents${elsewhere}`
    check(['authentication', index, 'users'], entry.users, made)
  })
  const { policy } = document
  checkBundle(['policy', 'bundle'], policy.bundle)
  policy.data.forEach((name, index) => check(['policy', 'data', index], name))
  if (policy.shadow !== undefined) {
    checkBundle(['policy', 'shadow', 'bundle'], policy.shadow.bundle)
    policy.shadow.data.forEach((name, index) => check(['policy', 'shadow', 'data', index], name))
  }
  if (policy.opa !== undefined) check(['policy', 'opa'], policy.opa)
  checkWritable(resolve(around.directory, document.audit.directory), report)

  function checkBundle(path: Path, bundle: unknown): void {
    if (typeof bundle !== 'string') return
    check(path, bundle, /gz$/.test(bundle) ? undefined : `regate policy init ${bundle}`)
    const file = resolve(around.directory, bundle)
    const facts = statSync(file, { throwIfNoEntry: false })
    if (facts?.isFile() === true && !/\.tar\.gz$|\.tgz$/.test(file)) {
      report(path, `${file} is no bundle`, 'name a directory with policies, or a .tar.gz')
    }
  }
}

/** The audit log is written before anything runs: a directory that takes no file refuses everything. */
function checkWritable(directory: string, report: Report): void {
  try {
    let place = directory
    while (!existsSync(place) && dirname(place) !== place) place = dirname(place)
    if (!statSync(place).isDirectory()) throw new Error(`${place} is no directory`)
    accessSync(place, constants.W_OK | constants.X_OK)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    const why = code ?? (error as Error).message
    const fix = 'name a directory that regate may write to, or change its owner'
    report(['audit', 'directory'], `${directory} cannot be written to (${why})`, fix)
  }
}
