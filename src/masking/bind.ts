/**
 * From a plan to a rewriter: at RowDescription the types and formats are known, and the server has
 * named the origin of every field, which is checked against the trace.
 *
 * A contradiction stops the result: the catalog the statement was judged by is not the server's.
 * Origin 0 is no contradiction; attribute 0 is the whole row and negative ones are system columns.
 */
import type { Analysis, Origin, OutputTrace } from '../sql/sql.ts'
import type { Field } from '../wire/wire.ts'
import type { ValueDetectors } from './detectors.ts'
import type { MaskPlan, OutputMask } from './plan.ts'
import { RowRewriter } from './row.ts'
import { compileMask, detectIn } from './transform.ts'
import { shapeOf, type TypeShape, type TypeSource } from './types.ts'

export type BoundPlan =
  | {
      readonly kind: 'bound'
      /** Null where rows pass as they are. */
      readonly rewriter: RowRewriter | null
    }
  | { readonly kind: 'stop'; readonly reason: string }

/** Text (0) or binary (1), as in Bind: none is all text, one is for all. Null: as the fields say. */
export type ResultFormats = readonly number[] | null

/**
 * Binds a plan to the fields of a RowDescription. `key` is the secret of `hash` and `noise`: the
 * same key gives the same pseudonyms. A `refuse` plan never gets here; it stops. `detectors` look at
 * text fields that no mask covers.
 */
export function bindPlan(
  plan: MaskPlan,
  analysis: Analysis,
  fields: readonly Field[],
  formats: ResultFormats,
  types: TypeSource,
  key: Uint8Array,
  detectors: ValueDetectors | null = null,
): BoundPlan {
  if (plan.kind === 'refuse') return { kind: 'stop', reason: plan.reason }
  const traces = analysis.outputs
  if (traces === null) {
    if (fields.length === 0) return { kind: 'bound', rewriter: null }
    return {
      kind: 'stop',
      reason: 'the server returned rows for a statement that was not expected to return any',
    }
  }
  if (fields.length !== traces.length) {
    return {
      kind: 'stop',
      reason: `the server describes ${fields.length} columns, the analysis ${traces.length}`,
    }
  }
  for (const [index, field] of fields.entries()) {
    const contradiction = contradictionOf(field, traces[index])
    if (contradiction !== null) return { kind: 'stop', reason: contradiction }
  }
  const outputs = plan.kind === 'masked' ? plan.outputs : []
  if (plan.kind === 'masked' && outputs.length !== fields.length) {
    return { kind: 'stop', reason: 'the mask plan belongs to another statement' }
  }
  const transforms = fields.map((field, index) => {
    const shape = shapeOfField(field, types)
    const format = formatOf(field, index, formats) === 1 ? 'binary' : 'text'
    const transform = compileMask(outputs[index] ?? PASSING, shape, format, key)
    return transform.kind === 'pass' && detectors !== null
      ? detectIn(shape, format, detectors)
      : transform
  })
  const isOpen = transforms.every((transform) => transform.kind === 'pass')
  return {
    kind: 'bound',
    rewriter: isOpen ? null : new RowRewriter(transforms),
  }
}

const PASSING: OutputMask = { kind: 'pass' }

/** Why the server's origin cannot belong to this trace; null where it can. */
function contradictionOf(field: Field, trace: OutputTrace | undefined): string | null {
  if (trace === undefined) return 'an output without a trace'
  // An incomplete trace has no complete list of origins; the policy has accepted it as it is.
  if (field.relation === 0 || trace.opaque) return null
  if (trace.origins.some((origin) => sameOrigin(origin, field))) return null
  return (
    `column ${JSON.stringify(field.name)} comes from attribute ${field.attribute} of relation ` +
    `${field.relation}, which is not where the analysis traced it to: the catalog has changed`
  )
}

function sameOrigin(origin: Origin, field: Field): boolean {
  return origin.relation === field.relation && origin.attribute === field.attribute
}

function formatOf(field: Field, index: number, formats: ResultFormats): number {
  if (formats === null) return field.format
  if (formats.length === 0) return 0
  return (formats.length === 1 ? formats[0] : formats[index]) ?? 0
}

/**
 * RowDescription names the type under a domain; where the field is a column, the catalog knows the
 * domain, and so what its CHECK would refuse.
 */
function shapeOfField(field: Field, types: TypeSource): TypeShape {
  const columns = field.relation === 0 ? null : types.relationByOid(field.relation)?.columns
  const column = columns?.find(({ number }) => number === field.attribute)
  return column !== undefined && types.type(column.type)?.kind === 'domain'
    ? shapeOf(column.type, column.modifier, types)
    : shapeOf(field.type, field.modifier, types)
}
