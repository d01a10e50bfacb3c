/**
 * What a mask has to know of a type: which family of values it holds and what fits into it.
 *
 * RowDescription names the base type of a domain, never the domain itself
 * (src/backend/access/common/printtup.c, SendRowDescriptionCols_3), so domains matter only inside
 * arrays and composites. A type that is not known here holds nothing safe but NULL.
 *
 * Oids: src/include/catalog/pg_type.dat.
 */
import type { Oid, RelationRow, TypeRow } from '../sql/sql.ts'

/** Where types outside pg_catalog are looked up; the catalog index is one. */
export interface TypeSource {
  type(oid: Oid): TypeRow | null
  relationByOid(oid: Oid): RelationRow | null
}

/** How the values of a type are read and written; `other` can only be NULL. */
export type Family =
  | 'text'
  | 'xml'
  | 'json'
  | 'jsonb'
  | 'int2'
  | 'int4'
  | 'int8'
  | 'float4'
  | 'float8'
  | 'numeric'
  | 'date'
  | 'time'
  | 'timestamp'
  | 'timestamptz'
  | 'uuid'
  | 'bytea'
  | 'bool'
  | 'enum'
  | 'array'
  | 'composite'
  | 'other'

export interface TypeShape {
  readonly oid: Oid
  readonly family: Family
  /** Characters that fit (varchar, char, name); null is no limit. */
  readonly charsMax: number | null
  /** char(n): values are padded with spaces to `charsMax`. */
  readonly padded: boolean
  /** numeric(p, s): digits before the point that fit; null is no limit. */
  readonly integerDigitsMax: number | null
  /** Arrays: the element's shape. */
  readonly element: TypeShape | null
  /** Arrays: the character between elements in text format. */
  readonly delimiter: string
  /** Enums: labels that exist. */
  readonly labels: readonly string[]
}

const NAME_BYTES_MAX = 63
const HEADER_MODIFIER = 4

const FAMILIES: ReadonlyMap<Oid, Family> = new Map<Oid, Family>([
  [16, 'bool'],
  [17, 'bytea'],
  [19, 'text'], // name
  [20, 'int8'],
  [21, 'int2'],
  [23, 'int4'],
  [25, 'text'],
  [114, 'json'],
  [142, 'xml'],
  [700, 'float4'],
  [701, 'float8'],
  [705, 'text'], // unknown
  [1042, 'text'], // char(n)
  [1043, 'text'], // varchar(n)
  [1082, 'date'],
  [1083, 'time'],
  [1114, 'timestamp'],
  [1184, 'timestamptz'],
  [1700, 'numeric'],
  [1790, 'text'], // refcursor
  [2275, 'text'], // cstring
  [2950, 'uuid'],
  [3802, 'jsonb'],
])

const ELEMENTS: ReadonlyMap<Oid, Oid> = new Map([
  [143, 142],
  [199, 114],
  [1000, 16],
  [1001, 17],
  [1003, 19],
  [1005, 21],
  [1007, 23],
  [1009, 25],
  [1014, 1042],
  [1015, 1043],
  [1016, 20],
  [1021, 700],
  [1022, 701],
  [1115, 1114],
  [1182, 1082],
  [1183, 1083],
  [1185, 1184],
  [1231, 1700],
  [1263, 2275],
  [2201, 1790],
  [2951, 2950],
  [3807, 3802],
])

function shape(oid: Oid, family: Family, more: Partial<TypeShape> = {}): TypeShape {
  return {
    oid,
    family,
    charsMax: null,
    padded: false,
    integerDigitsMax: null,
    element: null,
    delimiter: ',',
    labels: [],
    ...more,
  }
}

function builtin(oid: Oid, modifier: number): TypeShape | null {
  const family = FAMILIES.get(oid)
  if (family === undefined) return null
  if (oid === 19) return shape(oid, family, { charsMax: NAME_BYTES_MAX })
  if (oid === 1042 || oid === 1043) {
    const charsMax = modifier >= HEADER_MODIFIER ? modifier - HEADER_MODIFIER : null
    return shape(oid, family, { charsMax, padded: oid === 1042 && charsMax !== null })
  }
  if (oid === 1700 && modifier >= HEADER_MODIFIER) {
    // numeric.c: precision in the upper half, scale in the lower 11 bits (signed).
    const packed = modifier - HEADER_MODIFIER
    const scale = ((packed & 0x7ff) ^ 1024) - 1024
    return shape(oid, family, { integerDigitsMax: ((packed >> 16) & 0xffff) - scale })
  }
  return shape(oid, family)
}

const DEPTH_MAX = 16

/**
 * The shape of a type as RowDescription (or the catalog) names it. Never fails: what is not known
 * is `other`.
 */
export function shapeOf(oid: Oid, modifier: number, types: TypeSource, depth = 0): TypeShape {
  if (depth > DEPTH_MAX) return shape(oid, 'other')
  const known = builtin(oid, modifier)
  if (known !== null) return known
  const element = ELEMENTS.get(oid)
  if (element !== undefined) {
    return shape(oid, 'array', { element: shapeOf(element, modifier, types, depth + 1) })
  }
  const row = types.type(oid)
  if (row === null) return shape(oid, 'other')
  return shapeOfRow(row, modifier, types, depth)
}

function shapeOfRow(row: TypeRow, modifier: number, types: TypeSource, depth: number): TypeShape {
  switch (row.kind) {
    case 'domain':
      // A CHECK may refuse any value that a mask could put there.
      if (row.checks.length > 0) return shape(row.oid, 'other')
      return { ...shapeOf(row.base, row.modifier, types, depth + 1), oid: row.oid }
    case 'enum':
      return shape(row.oid, 'enum', { labels: row.labels })
    case 'composite':
      return shape(row.oid, 'composite')
    case 'base':
      if (row.element !== 0) {
        const element = shapeOf(row.element, modifier, types, depth + 1)
        return shape(row.oid, 'array', { element, delimiter: row.delimiter })
      }
      // citext_in and citextsend are those of text (contrib/citext).
      return shape(row.oid, row.name === 'citext' ? 'text' : 'other')
    default:
      return shape(row.oid, 'other')
  }
}

/** What nothing is known of: only NULL is safe. */
export const UNKNOWN_SHAPE: TypeShape = shape(0, 'other')
