/**
 * Rego builtins that OPA's WASM target leaves to its host and that opa-wasm does not bring: only
 * those that are pure functions of their arguments and whose result is exactly OPA's. A builtin that
 * reads a clock, the network or randomness has no place here: a decision may depend on nothing but
 * its input and data. https://www.openpolicyagent.org/docs/latest/policy-reference/#built-in-functions
 *
 * Undefined (a builtin error in OPA) is `undefined`.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto'

type Builtin = (...operands: readonly unknown[]) => unknown

const digest = (algorithm: string): Builtin => {
  return (text) => {
    if (typeof text !== 'string') return undefined
    return createHash(algorithm).update(text, 'utf8').digest('hex')
  }
}

const hmac = (algorithm: string): Builtin => {
  return (text, key) => {
    if (typeof text !== 'string' || typeof key !== 'string') return undefined
    return createHmac(algorithm, key).update(text, 'utf8').digest('hex')
  }
}

const hmacEqual: Builtin = (first, second) => {
  if (typeof first !== 'string' || typeof second !== 'string') return undefined
  const [left, right] = [Buffer.from(first), Buffer.from(second)]
  return left.length === right.length && timingSafeEqual(left, right)
}

/** What there is, as data: the evaluation thread makes its own functions of it. */
export const builtinTable: Readonly<
  Record<string, readonly [kind: 'digest' | 'hmac' | 'hmac_equal', algorithm: string]>
> = {
  'crypto.md5': ['digest', 'md5'],
  'crypto.sha1': ['digest', 'sha1'],
  'crypto.sha256': ['digest', 'sha256'],
  'crypto.hmac.md5': ['hmac', 'md5'],
  'crypto.hmac.sha1': ['hmac', 'sha1'],
  'crypto.hmac.sha256': ['hmac', 'sha256'],
  'crypto.hmac.sha512': ['hmac', 'sha512'],
  'crypto.hmac.equal': ['hmac_equal', ''],
}

/** By the name that Rego calls them. */
export const hostBuiltins: Readonly<Record<string, Builtin>> = Object.fromEntries(
  Object.entries(builtinTable).map(([name, [kind, algorithm]]) => [
    name,
    kind === 'digest' ? digest(algorithm) : kind === 'hmac' ? hmac(algorithm) : hmacEqual,
  ]),
)

/** Names of the builtins above. */
export const hostBuiltinNames: readonly string[] = Object.keys(hostBuiltins)
