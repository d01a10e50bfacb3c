/**
 * Collects what an analysis finds: relations, columns with their uses, functions, settings, effects
 * and flows, each once. One recorder belongs to one statement, or to one body (view, function) that
 * is analysed once and then absorbed by every statement that uses it.
 *
 * Invariant: nothing recorded is ever taken back. This file knows nothing of syntax trees.
 */
import type {
  Analysis,
  Effect,
  FlowAccess,
  FunctionAccess,
  MissingName,
  SettingAccess,
  SessionEffect,
  Through,
  Use,
} from './access.ts'
import type { BaseColumn, Source, Value } from './lineage.ts'
import type { RelationRow } from './snapshot.ts'

export const useOrder: readonly Use[] = [
  'output',
  'filter',
  'join',
  'group',
  'having',
  'order',
  'distinct',
  'window',
  'set_operation',
  'limit',
  'condition',
  'cardinality',
  'argument',
  'assign',
  'returning',
]

const useBits = new Map<Use, number>(useOrder.map((use, index) => [use, 1 << index]))

/** The bits of a column that is written and nothing else. */
export const assignBit = 1 << useOrder.indexOf('assign')

export const throughOrder: readonly Through[] = [
  null,
  'view',
  'function',
  'partition',
  'rule',
  'trigger',
  'generated',
]

export interface Flow {
  readonly from: BaseColumn
  readonly to: BaseColumn
  direct: boolean
}

/** What one recorder holds; bodies are kept in this form. */
export class Recorder {
  /** Uses as bits, by `throughOrder`; -1 where the column did not come in that way. */
  readonly columns = new Map<BaseColumn, number[]>()
  readonly relations = new Map<RelationRow, (Set<string> | null)[]>()
  /** Relations that the session's search_path chose among several of their name. */
  readonly byPath = new Set<RelationRow>()
  readonly functions = new Map<string, FunctionAccess>()
  readonly settings: SettingAccess[] = []
  readonly sessionEffects: SessionEffect[] = []
  readonly effects = new Set<Effect>()
  readonly flows = new Map<BaseColumn, Map<BaseColumn, Flow>>()
  /** Flows out of a prepared statement, whose analysis has names only. */
  readonly namedFlows: FlowAccess[] = []
  readonly incomplete = new Set<string>()
  readonly unresolved = new Set<string>()
  /** Not taken over from bodies: their names are in other texts. */
  missing: MissingName | null = null
  /** Analyses of other statements that this one runs: EXECUTE, FETCH. */
  readonly included: Analysis[] = []
  /** Bodies of functions that are not volatile: planning alone may run them, as EXPLAIN does. */
  readonly planned = new Set<Recorder>()
  /**
   * How many things that came up may fail or have an effect: a query is total if none came up while
   * it was analysed.
   */
  partials = 0
  /** A rule makes the statement give rows of its own. */
  givesRows = false
  /** Not taken over from bodies: a function's author has said which rows it changes. */
  changesAllRows = false
  mayChangeSettings = false
  changesCatalog = false
  dependsOnSession = false

  /** A column is touched; `use` null where the caller will say how. */
  column(column: BaseColumn, through: Through, use: Use | null): void {
    let uses = this.columns.get(column)
    if (uses === undefined) {
      uses = [-1, -1, -1, -1, -1, -1, -1]
      this.columns.set(column, uses)
    }
    const index = throughOrder.indexOf(through)
    const bit = use === null ? 0 : (useBits.get(use) ?? 0)
    const before = uses[index] ?? -1
    uses[index] = before === -1 ? bit : before | bit
  }

  source(source: Source, use: Use): void {
    // A count shows how many there are, whatever is done with it.
    const counted = source.via === 'count' && use !== 'assign'
    this.column(source.column, source.through, counted ? 'output' : use)
  }

  /** Every column behind the value, which is computed, is used in this way. */
  use(value: Value, use: Use): void {
    if (!value.total) this.partials += 1
    for (const source of value.sources) this.source(source, use)
  }

  /** Something besides the values that are used may fail or have an effect. */
  partial(): void {
    this.partials += 1
  }

  relation(relation: RelationRow, action: string, through: Through): void {
    let actions = this.relations.get(relation)
    if (actions === undefined) {
      actions = [null, null, null, null, null, null, null]
      this.relations.set(relation, actions)
    }
    const index = throughOrder.indexOf(through)
    const set = actions[index] ?? new Set<string>()
    set.add(action)
    actions[index] = set
  }

  function(access: FunctionAccess): void {
    const key = `${access.schema}.${access.name} ${access.class} ${String(access.through)}`
    const other = this.functions.get(key)
    if (other === undefined || (other.analysed && !access.analysed)) {
      this.functions.set(key, access)
    }
  }

  flow(value: Value, to: BaseColumn): void {
    for (const source of value.sources) {
      if (source.via !== 'count') this.#flow(source.column, to, source.via === 'direct')
    }
  }

  #flow(from: BaseColumn, to: BaseColumn, direct: boolean): void {
    let flows = this.flows.get(to)
    if (flows === undefined) this.flows.set(to, (flows = new Map<BaseColumn, Flow>()))
    const known = flows.get(from)
    if (known === undefined) flows.set(from, { from, to, direct })
    else known.direct &&= direct
  }

  /**
   * Takes the use 'output' off every column: the outputs of a body are used where its value is.
   * Columns of which nothing is left are dropped with it.
   */
  dropOutputs(): void {
    for (const [column, uses] of this.columns) {
      let left = false
      for (let index = 0; index < uses.length; index += 1) {
        const bits = uses[index] ?? -1
        if (bits === -1) continue
        uses[index] = (bits & ~1) === 0 ? -1 : bits & ~1
        left ||= uses[index] !== -1
      }
      if (!left) this.columns.delete(column)
    }
  }

  /** The statement cannot be followed further; one short sentence. */
  fail(reason: string): void {
    this.incomplete.add(reason)
  }

  /** The server would not find this name either; it tells of the first one. */
  lacks(missing: MissingName): void {
    this.missing ??= missing
  }

  /**
   * Takes over what a body recorded. What the body names itself comes in `through`; placeholders of
   * parameters stand for the columns of the arguments.
   */
  absorb(body: Recorder, through: Through, parameters: readonly Value[]): void {
    // What a trigger or rule does stays the trigger's, however deep it is done.
    const outermost = through === 'trigger' || through === 'rule'
    const how = (inner: Through | undefined): Through => (outermost ? through : (inner ?? through))
    for (const [column, uses] of body.columns) {
      const parameter = column.parameter
      for (let index = 0; index < uses.length; index += 1) {
        const bits = uses[index] ?? -1
        if (bits === -1) continue
        const inner = how(throughOrder[index])
        if (parameter === 0) this.#columnBits(column, inner, bits)
        else this.#argumentBits(parameters[parameter - 1], bits)
      }
    }
    for (const [relation, actions] of body.relations) {
      actions.forEach((set, index) => {
        if (set === null) return
        for (const action of set) this.relation(relation, action, how(throughOrder[index]))
      })
    }
    for (const relation of body.byPath) this.byPath.add(relation)
    for (const access of body.functions.values()) {
      this.function({ ...access, through: how(access.through) })
    }
    for (const setting of body.settings) {
      this.settings.push({ ...setting, through: how(setting.through) })
    }
    this.sessionEffects.push(...settingEffects(body))
    for (const effect of body.effects) this.effects.add(effect)
    this.included.push(...body.included)
    this.namedFlows.push(...body.namedFlows)
    for (const flows of body.flows.values()) this.#absorbFlows(flows, parameters)
    for (const reason of body.incomplete) this.incomplete.add(reason)
    for (const name of body.unresolved) this.unresolved.add(name)
    for (const planned of body.planned) this.planned.add(planned)
    this.partials += body.partials
    this.givesRows ||= body.givesRows
    this.mayChangeSettings ||= body.mayChangeSettings
    this.changesCatalog ||= body.changesCatalog
    this.dependsOnSession ||= body.dependsOnSession
  }

  #absorbFlows(flows: ReadonlyMap<BaseColumn, Flow>, parameters: readonly Value[]): void {
    for (const flow of flows.values()) {
      const parameter = flow.from.parameter
      if (parameter === 0) {
        this.#flow(flow.from, flow.to, flow.direct)
        continue
      }
      for (const source of parameters[parameter - 1]?.sources ?? []) {
        this.#flow(source.column, flow.to, flow.direct && source.via === 'direct')
      }
    }
  }

  #columnBits(column: BaseColumn, through: Through, bits: number): void {
    this.column(column, through, null)
    const uses = this.columns.get(column)
    const index = throughOrder.indexOf(through)
    if (uses !== undefined) uses[index] = (uses[index] ?? 0) | bits
  }

  #argumentBits(value: Value | undefined, bits: number): void {
    // An output of the body is an output of the call only where the call says so.
    const beyondOutput = bits & ~1
    for (const source of value?.sources ?? []) {
      this.#columnBits(source.column, source.through, source.via === 'count' ? 0 : beyondOutput)
    }
  }
}

/** A body prepares, declares and copies nothing for the session; settings outlive it. */
export function settingEffects(body: Recorder): readonly SessionEffect[] {
  return body.sessionEffects.filter(({ kind }) => kind === 'set' || kind === 'reset')
}

const usesByBits = new Map<number, readonly Use[]>()

/** The uses behind the bits, in the order of `useOrder`; shared, so never to be changed. */
export function usesOf(bits: number): readonly Use[] {
  let uses = usesByBits.get(bits)
  if (uses === undefined) {
    uses = useOrder.filter((_, index) => (bits & (1 << index)) !== 0)
    usesByBits.set(bits, uses)
  }
  return uses
}
