/**
 * From what was recorded to the public form: Access and Analysis. Everything is
 * sorted into stable order, so that equal statements give equal documents.
 */
import type {
  Access,
  Analysis,
  ColumnAccess,
  Effect,
  FlowAccess,
  FunctionAccess,
  Origin,
  OutputSource,
  OutputTrace,
  RelationAccess,
  SettingAccess,
} from './access.ts'
import type { Context, QueryShape } from './analysis-context.ts'
import { assignBit, throughOrder, usesOf, type Recorder } from './analysis-recorder.ts'
import { outputSources, type BaseColumn, type Value } from './lineage.ts'

/** What the top of the statement says about itself. */
export interface StatementFacts {
  readonly filtered: boolean
  readonly limited: boolean
  readonly returnsRows: boolean
}

const effectOrder: readonly Effect[] = [
  'read',
  'write',
  'ddl',
  'dcl',
  'transaction',
  'session',
  'procedure',
  'file',
  'program',
  'lock',
  'notify',
  'maintenance',
]

/** Effects that a cancelled statement does not undo by itself. */
const lastingEffects: ReadonlySet<Effect> = new Set<Effect>([
  'write',
  'ddl',
  'dcl',
  'procedure',
  'file',
  'program',
  'notify',
  'maintenance',
])

type Related = (column: BaseColumn) => readonly BaseColumn[]

export function buildAnalysis(
  kind: string,
  shape: QueryShape | null,
  facts: StatementFacts,
  context: Context,
): Analysis {
  const { recorder } = context
  finishEffects(recorder)
  if (recorder.effects.size === 0) recorder.effects.add('read')
  const columns = columnEntries(recorder, context.names.related)
  const given = recorder.givesRows ? ruleShape : shape
  const traces = returnsNothing(given, facts) ? null : outputTraces(given, columns, context)
  const included = recorder.included
  const access: Access = {
    complete: recorder.incomplete.size === 0,
    incomplete: [...recorder.incomplete].sort(),
    effects: effectOrder.filter((effect) => recorder.effects.has(effect)),
    relations: relationEntries(recorder, included),
    columns: mergeColumns(columns, included),
    outputs: (traces ?? []).map((trace, index) => ({
      index,
      name: trace.name,
      sources: trace.sources,
    })),
    flows: flowEntries(recorder, context.names.related, included),
    functions: functionEntries(recorder, included),
    settings: settingEntries(recorder, included),
    filtered: facts.filtered || included.some((one) => one.access.filtered),
    unfiltered: recorder.changesAllRows || included.some((one) => one.access.unfiltered),
    limited: facts.limited || included.some((one) => one.access.limited),
  }
  return {
    kind,
    access,
    outputs: traces,
    sessionEffects: recorder.sessionEffects,
    mayChangeSettings: recorder.mayChangeSettings,
    changesCatalog: recorder.changesCatalog,
    writes: access.effects.some((effect) => lastingEffects.has(effect)) || hasOpaqueEffect(access),
    unresolved: [...recorder.unresolved].sort(),
    // What stands before it in the query string may make what is missing here.
    missing: context.facts.catalogMoved === true ? null : recorder.missing,
    dependsOnSession: recorder.dependsOnSession,
    bytes: 1_000 + 200 * (access.columns.length + access.relations.length + access.outputs.length),
  }
}

/** What a rule selects is not followed into the statement's outputs. */
const ruleShape: QueryShape = { fields: [], open: true }

function returnsNothing(shape: QueryShape | null, facts: StatementFacts): shape is null {
  if (shape === null) return true
  return shape.fields.length === 0 && !shape.open && !facts.returnsRows
}

/** A volatile function of a user, or one that is not known, may write. */
function hasOpaqueEffect(access: Access): boolean {
  return access.functions.some(
    (one) =>
      one.class === 'opaque' && one.volatility !== 'immutable' && one.volatility !== 'stable',
  )
}

/** Reading a written relation is a read: of its filter, its old values, RETURNING. */
function finishEffects(recorder: Recorder): void {
  for (const included of recorder.included) {
    for (const effect of included.access.effects) recorder.effects.add(effect)
    for (const reason of included.access.incomplete) recorder.incomplete.add(reason)
    for (const name of included.unresolved) recorder.unresolved.add(name)
    recorder.mayChangeSettings ||= included.mayChangeSettings
    recorder.changesCatalog ||= included.changesCatalog
    recorder.dependsOnSession ||= included.dependsOnSession
  }
  for (const [column, uses] of recorder.columns) {
    const relation = column.relation
    if (relation === null) continue
    const actions = recorder.relations.get(relation)?.[0]
    if (actions === undefined || actions === null || actions.has('select')) continue
    const written = actions.has('insert') || actions.has('update') || actions.has('delete')
    const own = uses[0] ?? -1
    if (written && own > 0 && (own & ~assignBit) !== 0) {
      actions.add('select')
      recorder.effects.add('read')
    }
  }
}

function columnEntries(recorder: Recorder, related: Related): ColumnAccess[] {
  const entries: ColumnAccess[] = []
  for (const [column, uses] of withRelatives(recorder.columns, related)) {
    if (column.relation === null) continue
    for (const [index, bits] of uses.entries()) {
      if (bits === -1) continue
      entries.push({
        schema: column.relation.schema,
        relation: column.relation.name,
        name: column.name,
        uses: usesOf(bits),
        through: throughOrder[index] ?? null,
      })
    }
  }
  return entries
}

const partition = throughOrder.indexOf('partition')
/** What the client does itself reaches a relative as `partition`; what else does keeps its name. */
const relativesSlot = throughOrder.map((through, index) =>
  through === null || through === 'view' ? partition : index,
)

/** The columns with those of parents and children, which are used alike. */
function withRelatives(
  columns: ReadonlyMap<BaseColumn, readonly number[]>,
  related: Related,
): Iterable<readonly [BaseColumn, readonly number[]]> {
  let all: Map<BaseColumn, readonly number[]> | null = null
  for (const [column, uses] of columns) {
    for (const other of related(column)) {
      all ??= new Map(columns)
      const slots = [...(all.get(other) ?? throughOrder.map(() => -1))]
      for (const [index, bits] of uses.entries()) {
        const slot = relativesSlot[index] ?? partition
        const before = slots[slot] ?? -1
        if (bits !== -1) slots[slot] = before === -1 ? bits : before | bits
      }
      all.set(other, slots)
    }
  }
  return all ?? columns
}

function relationEntries(recorder: Recorder, included: readonly Analysis[]): RelationAccess[] {
  const entries = new Map<string, RelationAccess>()
  const add = (entry: RelationAccess): void => {
    const key = `${entry.schema}\u0000${entry.name}\u0000${String(entry.through)}`
    const known = entries.get(key)
    if (known === undefined) entries.set(key, entry)
    else {
      const actions = [...new Set([...known.actions, ...entry.actions])].sort()
      entries.set(key, { ...known, actions, by_path: known.by_path || entry.by_path })
    }
  }
  for (const [relation, actions] of recorder.relations) {
    for (const [index, set] of actions.entries()) {
      if (set === null) continue
      add({
        schema: relation.schema,
        name: relation.name,
        kind: relation.kind,
        actions: [...set].sort(),
        through: throughOrder[index] ?? null,
        by_path: recorder.byPath.has(relation),
      })
    }
  }
  for (const one of included) for (const entry of one.access.relations) add(entry)
  return [...entries.values()]
}

function mergeColumns(
  own: readonly ColumnAccess[],
  included: readonly Analysis[],
): readonly ColumnAccess[] {
  if (included.length === 0) return own
  const entries = new Map<string, ColumnAccess>()
  for (const entry of [...own, ...included.flatMap((one) => one.access.columns)]) {
    const key = `${entry.schema}\u0000${entry.relation}\u0000${entry.name}\u0000${String(entry.through)}`
    const known = entries.get(key)
    if (known === undefined) entries.set(key, entry)
    else entries.set(key, { ...known, uses: [...new Set([...known.uses, ...entry.uses])] })
  }
  return [...entries.values()]
}

function outputTraces(
  shape: QueryShape,
  columns: readonly ColumnAccess[],
  context: Context,
): readonly OutputTrace[] {
  if (shape.traces !== undefined) return shape.traces
  const incomplete = context.recorder.incomplete.size > 0
  let reachable: readonly OutputSource[] | null = null
  const trace = (name: string, value: Value | null): OutputTrace => {
    const opaque = value === null || value.opaque || incomplete
    const own = value === null ? [] : outputSources(value.sources, context.names.related)
    const origins = value === null ? [] : traceOrigins(value, context)
    if (!opaque) return { name, sources: own, origins, opaque }
    reachable ??= reachableSources(columns, context)
    const known = new Set(own.map((source) => source.column))
    const more = reachable.filter((source) => !known.has(source.column))
    return { name, sources: [...own, ...more], origins, opaque }
  }
  const traces = shape.fields.map((field) => trace(field.name, field.value))
  if (shape.open && shape.fields.length === 0) traces.push(trace('?', null))
  return traces
}

/** Every column of every relation that the statement names or reaches. */
function reachableSources(
  columns: readonly ColumnAccess[],
  context: Context,
): readonly OutputSource[] {
  const dotted = new Set<string>()
  for (const relation of context.recorder.relations.keys()) {
    for (const row of relation.columns) dotted.add(context.names.column(relation, row).dotted)
  }
  for (const entry of columns) {
    const relation = context.catalog.relation(entry.schema, entry.relation)
    const column = relation === null ? null : context.names.columnNamed(relation, entry.name)
    if (column !== null) dotted.add(column.dotted)
  }
  return [...dotted].sort().map((column) => ({ column, via: 'derived', total: false }))
}

/** What the server may report: the trace's own origins, and every base column behind the value. */
function traceOrigins(value: Value, context: Context): Origin[] {
  const seen = new Set<string>()
  const origins: Origin[] = []
  const add = (relation: number, attribute: number): void => {
    const key = `${relation}.${attribute}`
    if (relation === 0 || seen.has(key)) return
    seen.add(key)
    origins.push({ relation, attribute })
  }
  for (const origin of value.origins) add(origin.relation, origin.attribute)
  for (const source of value.sources) {
    const { relation, number } = source.column
    if (relation === null) continue
    add(relation.oid, number)
    for (const other of context.names.related(source.column)) {
      if (other.relation !== null) add(other.relation.oid, other.number)
    }
  }
  return origins
}

function flowEntries(
  recorder: Recorder,
  related: Related,
  included: readonly Analysis[],
): FlowAccess[] {
  const entries = new Map<string, FlowAccess>()
  const add = (entry: FlowAccess): void => {
    const key = `${entry.from}\u0000${entry.to}`
    const known = entries.get(key)
    if (known === undefined || known.via === 'direct') entries.set(key, entry)
  }
  for (const flows of recorder.flows.values()) {
    for (const flow of flows.values()) {
      const via = flow.direct ? 'direct' : 'derived'
      for (const from of [flow.from, ...related(flow.from)]) {
        add({ from: from.dotted, to: flow.to.dotted, via })
      }
    }
  }
  for (const entry of recorder.namedFlows) add(entry)
  for (const one of included) for (const entry of one.access.flows) add(entry)
  return [...entries.values()]
}

function functionEntries(
  recorder: Recorder,
  included: readonly Analysis[],
): readonly FunctionAccess[] {
  const own = [...recorder.functions.values()]
  return included.length === 0 ? own : [...own, ...included.flatMap((one) => one.access.functions)]
}

function settingEntries(
  recorder: Recorder,
  included: readonly Analysis[],
): readonly SettingAccess[] {
  return included.length === 0
    ? recorder.settings
    : [...recorder.settings, ...included.flatMap((one) => one.access.settings)]
}
