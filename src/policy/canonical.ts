/**
 * The canonical form of a JSON or YAML document that OPA hashes when it signs a bundle: keys sorted,
 * no white space, strings as Go's encoder writes them, numbers exactly as they stand in the source
 * (so they are never parsed). After `bundle/hash.go` of OPA.
 */
import { parse as parseYaml } from 'yaml'
import { ProxyError } from '../core/core.ts'

/** The canonical text; `name` tells YAML from JSON. Throws policy_fault where it is neither. */
export function canonicalJson(source: string, name: string): string {
  try {
    const json = /\.ya?ml$/.test(name) ? JSON.stringify(parseYaml(source)) : source
    // Parsing proves that it is JSON, so the scanner below need not check the grammar.
    JSON.parse(json)
    return new Canonical(json).text()
  } catch (cause) {
    throw new ProxyError('policy_fault', `${name} of the bundle is not valid`, { cause })
  }
}

class Canonical {
  readonly #source: string
  #at = 0

  constructor(source: string) {
    this.#source = source
  }

  text(): string {
    this.#space()
    const first = this.#source[this.#at]
    if (first === '{') return this.#object()
    if (first === '[') return this.#list()
    if (first === '"') return encodeString(this.#string())
    const rest = /[^\s,\]}]+/y
    rest.lastIndex = this.#at
    const word = rest.exec(this.#source)?.[0] ?? ''
    this.#at += word.length
    return word
  }

  #object(): string {
    const members = new Map<string, string>()
    this.#at++
    this.#space()
    while (this.#source[this.#at] !== '}') {
      this.#space()
      const key = this.#string()
      this.#space()
      this.#at++
      members.set(key, this.text())
      this.#next()
    }
    this.#at++
    const keys = [...members.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    return `{${keys.map((key) => `${encodeString(key)}:${members.get(key) ?? ''}`).join(',')}}`
  }

  #list(): string {
    const items: string[] = []
    this.#at++
    this.#space()
    while (this.#source[this.#at] !== ']') {
      items.push(this.text())
      this.#next()
    }
    this.#at++
    return `[${items.join(',')}]`
  }

  #next(): void {
    this.#space()
    if (this.#source[this.#at] === ',') this.#at++
    this.#space()
  }

  #string(): string {
    const literal = /"(?:[^"\\]|\\.)*"/y
    literal.lastIndex = this.#at
    const found = literal.exec(this.#source)?.[0] ?? '""'
    this.#at += found.length
    return JSON.parse(found) as string
  }

  #space(): void {
    while (' \t\r\n'.includes(this.#source[this.#at] ?? '.')) this.#at++
  }
}

/** Go's encoder (1.22 and newer) without HTML escaping: JSON.stringify but for two line separators. */
function encodeString(value: string): string {
  return JSON.stringify(value).replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029')
}
