/**
 * Rows by oid, by name and by further numbers, in layers: a layer holds the rows that changed and
 * the oids that are gone, and asks the one below for the rest. So a session's uncommitted DDL costs
 * what it changed, not what the database holds.
 *
 * Immutable once it is built. Lists that come from two layers have no order among them.
 */
import { createHash } from 'node:crypto'
import type { Oid } from './snapshot.ts'

export interface LayerRow {
  readonly oid: Oid
  readonly name: string
}

const nothing: readonly never[] = []
/**
 * Wide, because sums of short hashes can be made equal: who may replace a thousand functions finds
 * bodies for them that bring a sum of 128 bits back to what it was.
 */
const hashBytes = 256
const hashModulus = 1n << BigInt(8 * hashBytes)

/** Hash of one row's content, for sums over rows. */
export function rowHash(row: unknown): bigint {
  const hash = createHash('shake256', { outputLength: hashBytes })
  return BigInt(`0x${hash.update(JSON.stringify(row)).digest('hex')}`)
}

export class Layer<Row extends LayerRow> {
  readonly #below: Layer<Row> | null
  /** Oids of rows below that are dropped or replaced. */
  readonly #gone: ReadonlySet<Oid>
  readonly #byOid = new Map<Oid, Row>()
  readonly #byName = new Map<string, Row[]>()
  readonly #byKey = new Map<number, Row[]>()
  readonly #keys: (row: Row) => readonly number[]
  readonly depth: number
  #sum: bigint | null

  /** @param keys further numbers that a row is found under. */
  constructor(keys: (row: Row) => readonly number[], below: Layer<Row> | null = null) {
    this.#keys = keys
    this.#below = below
    this.#gone = new Set()
    this.depth = below === null ? 1 : below.depth + 1
    this.#sum = null
  }

  /** Only while the layer is built. */
  add(row: Row): void {
    this.#byOid.set(row.oid, row)
    push(this.#byName, row.name, row)
    for (const key of this.#keys(row)) push(this.#byKey, key, row)
  }

  /** A layer with these rows changed or added, and without those whose oid is not present. */
  over(changed: readonly Row[], present: readonly Oid[]): Layer<Row> {
    const left = new Set(present)
    const gone = new Set<Oid>()
    for (const row of this.rows()) if (!left.has(row.oid)) gone.add(row.oid)
    const different = changed.filter((row) => {
      const before = this.get(row.oid)
      return before === undefined || JSON.stringify(before) !== JSON.stringify(row)
    })
    if (gone.size === 0 && different.length === 0) return this
    const next = new Layer<Row>(this.#keys, this)
    const mutable = next.#gone as Set<Oid>
    for (const oid of gone) mutable.add(oid)
    for (const row of different) {
      if (this.get(row.oid) !== undefined) mutable.add(row.oid)
      next.add(row)
    }
    return next
  }

  get(oid: Oid): Row | undefined {
    const own = this.#byOid.get(oid)
    if (own !== undefined || this.#below === null || this.#gone.has(oid)) return own
    return this.#below.get(oid)
  }

  named(name: string): readonly Row[] {
    return this.#both(this.#byName.get(name), this.#below?.named(name))
  }

  keyed(key: number): readonly Row[] {
    return this.#both(this.#byKey.get(key), this.#below?.keyed(key))
  }

  #both(own: readonly Row[] | undefined, below: readonly Row[] | undefined): readonly Row[] {
    if (below === undefined || below.length === 0) return own ?? nothing
    const kept = below.filter((row) => !this.#gone.has(row.oid))
    return own === undefined ? kept : [...own, ...kept]
  }

  /** All rows, in no order. */
  *rows(): Generator<Row> {
    yield* this.#byOid.values()
    if (this.#below === null) return
    for (const row of this.#below.rows()) if (!this.#gone.has(row.oid)) yield row
  }

  /** All rows by oid. */
  sorted(): readonly Row[] {
    return [...this.rows()].sort((a, b) => a.oid - b.oid)
  }

  /** Sum over the hashes of all rows: equal for equal content, whatever the layers. */
  get sum(): bigint {
    if (this.#sum !== null) return this.#sum
    let sum = this.#below?.sum ?? 0n
    for (const oid of this.#gone) {
      const row = this.#below?.get(oid)
      if (row !== undefined) sum -= rowHash(row)
    }
    for (const row of this.#byOid.values()) sum += rowHash(row)
    this.#sum = ((sum % hashModulus) + hashModulus) % hashModulus
    return this.#sum
  }

  /** What `sum` would compute, where it was computed while the layer was built. */
  knowSum(sum: bigint): void {
    this.#sum = ((sum % hashModulus) + hashModulus) % hashModulus
  }
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const found = map.get(key)
  if (found === undefined) map.set(key, [value])
  else found.push(value)
}
