/**
 * The second net: values that look like card numbers, account numbers, ids, addresses or keys, in
 * text that no rule of the policy covers. Off unless asked for. It finds what people forgot to
 * classify; it is no promise: a value that is split, encoded or spelled otherwise passes.
 *
 * Cost is bounded: one scan of at most `scanBytesMax` bytes a value, by patterns without nested
 * repetition, after a look for bytes that could begin a match at all.
 */
import {
  isCard,
  isCpf,
  isDni,
  isHetu,
  isIban,
  isNhs,
  isNir,
  isPersonnummer,
  isPesel,
} from './checksums.ts'

export const detectorKinds = [
  'card',
  'iban',
  'email',
  'us_ssn',
  'national_id',
  'private_key',
  'api_key',
  'jwt',
] as const

export type DetectorKind = (typeof detectorKinds)[number]

/** A pattern, and what a match must pass beyond it (the match without separators is given). */
interface Detector {
  readonly kind: DetectorKind
  readonly pattern: RegExp
  readonly accept: ((compact: string) => boolean) | null
}

const SEPARATORS = /[ .\-+]/g

const DETECTORS: readonly Detector[] = [
  { kind: 'private_key', pattern: /-----BEGIN (?:[A-Z]{2,9} )?PRIVATE KEY-----/g, accept: null },
  {
    kind: 'jwt',
    pattern: /\beyJ[\w-]{8,8192}\.eyJ[\w-]{8,8192}\.[\w-]{0,2048}/g,
    accept: null,
  },
  {
    kind: 'api_key',
    pattern:
      /\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{36}|\bgithub_pat_\w{22}|\bxox[abprs]-[\w-]{10}|\b[sr]k_live_\w{16}|\bAIza[\w-]{35}|\bsk-(?:ant-|proj-)?[\w-]{20}|\bglpat-[\w-]{20}/g,
    accept: null,
  },
  {
    kind: 'email',
    pattern: /\b[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b/g,
    accept: null,
  },
  { kind: 'us_ssn', pattern: /\b(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}\b/g, accept: null },
  { kind: 'card', pattern: /(?<![\d.])\d(?:[ -]?\d){12,18}(?!\d)/g, accept: isCard },
  {
    kind: 'iban',
    pattern: /\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b/g,
    accept: isIban,
  },
  { kind: 'national_id', pattern: /\b\d{8}-?[A-Z]\b/g, accept: isDni },
  { kind: 'national_id', pattern: /\b\d{3}\.?\d{3}\.?\d{3}-?\d{2}\b/g, accept: isCpf },
  { kind: 'national_id', pattern: /\b\d{11}\b/g, accept: isPesel },
  {
    kind: 'national_id',
    pattern: /\b[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}\b/g,
    accept: isNir,
  },
  { kind: 'national_id', pattern: /\b\d{6}[-+]\d{4}\b/g, accept: isPersonnummer },
  { kind: 'national_id', pattern: /\b\d{3} \d{3} \d{4}\b/g, accept: isNhs },
]

/** Its separator is part of it, so it is matched as it stands. */
const HETU = /\b\d{6}[-+A]\d{3}[0-9A-Y]\b/g

export interface DetectorOptions {
  readonly kinds: readonly DetectorKind[]
  /** Bytes of a value that are looked at. */
  readonly scanBytesMax?: number
}

const SCAN_BYTES_MAX = 65_536

/** One per worker: compiled patterns and counters for the metrics. */
export class ValueDetectors {
  readonly #detectors: readonly Detector[]
  readonly #withHetu: boolean
  readonly #scanBytesMax: number
  readonly #counts = new Map<DetectorKind, number>()
  #cutCount = 0

  constructor(options: DetectorOptions) {
    const kinds = new Set(options.kinds)
    this.#detectors = DETECTORS.filter((detector) => kinds.has(detector.kind))
    this.#withHetu = kinds.has('national_id')
    this.#scanBytesMax = options.scanBytesMax ?? SCAN_BYTES_MAX
  }

  /** How often each kind was found. */
  get counts(): ReadonlyMap<DetectorKind, number> {
    return this.#counts
  }

  /** Values longer than `scanBytesMax`, of which the rest was not looked at. */
  get cutCount(): number {
    return this.#cutCount
  }

  /** The first kind found in a text value, counted; null for none. */
  find(buffer: Buffer, start: number, end: number): DetectorKind | null {
    let to = end
    if (end - start > this.#scanBytesMax) {
      to = start + this.#scanBytesMax
      this.#cutCount += 1
    }
    if (!mayHold(buffer, start, to)) return null
    const kind = this.#search(buffer.toString('latin1', start, to))
    if (kind !== null) this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1)
    return kind
  }

  #search(text: string): DetectorKind | null {
    for (const { kind, pattern, accept } of this.#detectors) {
      for (const [match] of text.matchAll(pattern)) {
        if (accept === null || accept(match.replace(SEPARATORS, ''))) return kind
      }
    }
    if (this.#withHetu) {
      for (const [match] of text.matchAll(HETU)) if (isHetu(match)) return 'national_id'
    }
    return null
  }
}

const DIGITS_MIN = 8
const AT = 0x40
const DASH = 0x2d
const LETTERS_MIN = 20

/** Nothing can match without an @, a run of dashes, eight digits or a long run of word bytes. */
function mayHold(buffer: Buffer, start: number, end: number): boolean {
  let digits = 0
  let run = 0
  for (let at = start; at < end; at += 1) {
    const byte = buffer[at] ?? 0
    if (byte === AT) return true
    if (byte >= 0x30 && byte <= 0x39) {
      digits += 1
      if (digits >= DIGITS_MIN) return true
    }
    run = byte > 0x2c && byte !== 0x2f && byte < 0x7b ? run + 1 : 0
    if (run >= LETTERS_MIN || (byte === DASH && run >= 5 && buffer[at - 4] === DASH)) return true
  }
  return false
}
