/** Makers of the plain data that masking takes: decisions, analyses, fields, frames. */
import type { Mask, StatementDecision } from '../../../src/policy/policy.ts'
import type {
  Analysis,
  ColumnAccess,
  OutputTrace,
  RelationRow,
  TypeRow,
} from '../../../src/sql/sql.ts'
import { ByteWriter, type Field } from '../../../src/wire/wire.ts'
import type { TypeSource } from '../../../src/masking/masking.ts'

export const key = Buffer.from('0123456789abcdef0123456789abcdef')

export function decision(masks: Readonly<Record<string, Mask>>): StatementDecision {
  return {
    action: 'mask',
    reason: 'masked',
    rule: 'test',
    hint: '',
    masks: new Map(Object.entries(masks)),
    approval: null,
    limits: null,
    asks: [],
  }
}

export function trace(more: Partial<OutputTrace> = {}): OutputTrace {
  return { name: 'x', sources: [], origins: [], opaque: false, ...more }
}

export function analysis(
  outputs: readonly OutputTrace[] | null,
  columns: readonly ColumnAccess[] = [],
): Analysis {
  return {
    kind: 'select',
    access: {
      complete: true,
      incomplete: [],
      effects: ['read'],
      relations: [],
      columns,
      outputs: (outputs ?? []).map(({ name, sources }, index) => ({ index, name, sources })),
      flows: [],
      functions: [],
      settings: [],
      filtered: false,
      unfiltered: false,
      limited: false,
    },
    outputs,
    sessionEffects: [],
    mayChangeSettings: false,
    changesCatalog: false,
    writes: false,
    unresolved: [],
    missing: null,
    dependsOnSession: false,
    bytes: 0,
  }
}

export function field(more: Partial<Field> = {}): Field {
  return {
    name: 'x',
    relation: 0,
    attribute: 0,
    type: 25,
    typeBytes: -1,
    modifier: -1,
    format: 0,
    ...more,
  }
}

export function types(
  rows: readonly TypeRow[] = [],
  relations: readonly RelationRow[] = [],
): TypeSource {
  return {
    type: (oid) => rows.find((row) => row.oid === oid) ?? null,
    relationByOid: (oid) => relations.find((row) => row.oid === oid) ?? null,
  }
}

export function typeRow(more: Partial<TypeRow> & Pick<TypeRow, 'oid' | 'kind'>): TypeRow {
  return {
    schema: 'public',
    name: 't',
    category: 'U',
    element: 0,
    array: 0,
    base: 0,
    modifier: -1,
    notNull: false,
    checks: [],
    relation: 0,
    subtype: 0,
    labels: [],
    delimiter: ',',
    ...more,
  }
}

/** A DataRow frame. */
export function dataRow(values: readonly (string | Buffer | null)[]): Buffer {
  const writer = new ByteWriter()
  writer.begin(0x44)
  writer.u16(values.length)
  for (const value of values) {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value
    writer.i32(bytes === null ? -1 : bytes.length)
    if (bytes !== null) writer.bytes(bytes)
  }
  writer.end()
  return writer.take()
}

/** The values of a DataRow frame; the frame's length must be exact. */
export function valuesOf(frame: Buffer): (Buffer | null)[] {
  if (frame.readInt32BE(1) !== frame.length - 1) throw new Error('frame length')
  const values: (Buffer | null)[] = []
  let at = 7
  for (let index = 0; index < frame.readInt16BE(5); index += 1) {
    const length = frame.readInt32BE(at)
    at += 4
    values.push(length < 0 ? null : frame.subarray(at, at + length))
    at += Math.max(length, 0)
  }
  if (at !== frame.length) throw new Error('bytes after the last field')
  return values
}

export function copyData(data: string | Buffer): Buffer {
  const writer = new ByteWriter()
  writer.begin(0x64)
  writer.bytes(typeof data === 'string' ? Buffer.from(data) : data)
  writer.end()
  return writer.take()
}

/** The bodies of CopyData frames, joined. */
export function copyBodies(frames: Buffer): Buffer {
  const bodies: Buffer[] = []
  let at = 0
  while (at < frames.length) {
    if (frames[at] !== 0x64) throw new Error('no CopyData')
    const end = at + 1 + frames.readInt32BE(at + 1)
    bodies.push(frames.subarray(at + 5, end))
    at = end
  }
  return Buffer.concat(bodies)
}
