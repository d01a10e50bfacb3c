/**
 * What a statement does to the session: names made and dropped, DDL, the end of a transaction. Applied
 * when the server says so, never before; that it may happen is noted when the statement is sent.
 */
import type { Admitted } from '../gate/gate.ts'
import { quoteIdentifier, type Analysis, type SessionEffect, type SyntaxNode } from '../sql/sql.ts'
import { leavesSomething, type Expected } from './expected.ts'
import type { Portal, Prepared } from './registry.ts'
import { readsMasked } from './results.ts'
import { judgementBytes } from './room.ts'
import type { State, Transaction } from './state.ts'

/** Notes what a statement that is sent now may change: what is sent behind it must not guess. */
export function noteEffects(state: State, entry: Expected, { analysis }: Admitted): void {
  const { facts } = state
  if (analysis.mayChangeSettings) {
    state.pathTouched = true
    facts.mayHaveChanged()
  }
  if (analysis.changesCatalog) entry.changesNames = true
  for (const effect of analysis.sessionEffects) {
    if (changesNames(effect)) entry.changesNames = true
    if (changesTransaction(effect)) entry.changesTransaction = true
    if (changesPath(effect)) {
      state.pathTouched = true
      facts.pathMayHaveChanged()
    }
    if (endsTransaction(effect) && state.pathTouched) facts.pathMayHaveChanged()
  }
  if (analysis.kind === 'do' || analysis.kind === 'call') entry.changesTransaction = true
}

/** Applies the effects of one statement whose CommandComplete came with this tag. */
export function applyEffects(state: State, admitted: Admitted, tag: string): void {
  const { analysis } = admitted
  leavesTexts(state, admitted)
  for (const effect of analysis.sessionEffects) apply(state, effect, tag, admitted)
  if (analysis.changesCatalog) {
    state.temporaryObjects ||= makesTemporary(analysis)
    state.catalogChanged()
  }
  // Code that was not analysed may have made or dropped any name.
  if (analysis.kind === 'do' || runsUnseen(analysis)) forgetAnalyses(state)
}

function runsUnseen({ sessionEffects }: Analysis): boolean {
  return sessionEffects.some(({ kind }) => kind === 'unseen')
}

/**
 * What a statement leaves to the end of its transaction speaks of what it read: deferred triggers and
 * constraints, the rows of a cursor WITH HOLD. Their texts come with COMMIT, with SET CONSTRAINTS or
 * at Sync, behind whatever statement that is.
 */
export function leavesTexts(state: State, admitted: Admitted): void {
  if (leavesSomething(admitted) && readsMasked(admitted)) state.hidesTexts = true
}

/** What only this session sees; what a function's body makes unseen stays unknown, and is refused. */
function makesTemporary({ access }: Analysis): boolean {
  return (
    access.relations.some(({ schema }) => schema.startsWith('pg_temp')) ||
    access.functions.some(({ schema }) => schema.startsWith('pg_temp'))
  )
}

function apply(state: State, effect: SessionEffect, tag: string, admitted: Admitted): void {
  const { statements, portals } = state
  switch (effect.kind) {
    case 'prepare':
      statements.set(
        effect.name,
        named(effect.name, 'EXECUTE', effect.statement, judgementBytes(admitted)),
      )
      return
    case 'deallocate':
      if (effect.name === null) statements.clear((prepared) => prepared.name !== '')
      else statements.set(effect.name, null)
      return
    case 'declare':
      portals.set(effect.name, cursor(state, effect, judgementBytes(admitted)))
      return
    case 'close':
      if (effect.name === null) portals.clear(() => true)
      else portals.set(effect.name, null)
      return
    case 'discard':
      if (effect.target === 'all') {
        statements.clear((prepared) => prepared.name !== '')
        portals.clear(() => true)
      }
      if (effect.target !== 'plans' && effect.target !== 'sequences') forgetOverlay(state)
      return
    case 'rollback':
      state.hidesTexts = false
      state.transactionFailed = true
      endPortals(state, true)
      return
    case 'commit':
      // COMMIT of a failed transaction is a ROLLBACK, and says so.
      if (tag === 'ROLLBACK') state.transactionFailed = true
      state.hidesTexts = false
      endPortals(state, tag === 'ROLLBACK')
      return
    case 'rollback_to':
      if (state.overlay !== null || state.ddlDone) state.catalogChanged()
      return
    default:
  }
}

function named(
  name: string,
  verb: 'EXECUTE' | 'FETCH ALL FROM',
  ast: SyntaxNode,
  bytes: number,
): Prepared {
  return {
    name,
    bySql: true,
    bytes,
    text: Buffer.from(`${verb} ${quoteIdentifier(name)}`),
    statement: { ast },
    admitted: null,
    readsMasked: false,
    judgedBytes: 0,
    context: '',
    fields: null,
    fieldsOutdated: false,
    description: null,
    parameterTypes: [],
    bounds: new Map(),
  }
}

function cursor(
  state: State,
  effect: Extract<SessionEffect, { kind: 'declare' }>,
  bytes: number,
): Portal {
  const { name, statement, analysis, hold } = effect
  return {
    name,
    bytes,
    prepared: named(name, 'FETCH ALL FROM', statement, bytes),
    cursor: true,
    hold,
    committed: false,
    names: state.facts.names,
    analysis,
    resultFormats: [],
    parameters: null,
    parameterFormats: [],
    result: null,
  }
}

function forgetAnalyses(state: State): void {
  state.statements.clear((prepared) => {
    if (prepared.name !== '') {
      prepared.statement = null
      prepared.context = ''
    }
    return false
  })
  state.portals.clear((portal) => portal.cursor)
}

function forgetOverlay(state: State): void {
  state.temporaryObjects = false
  state.overlay = null
  state.facts.knowTemporarySchema(null)
}

/** The server is ready, with this transaction state. */
export function enterTransaction(state: State, status: Transaction): void {
  if (state.transaction === 'idle' && status !== 'idle') {
    state.transactionSinceUs = state.options.clock.monotonicUs()
  }
  state.transaction = status
}

/**
 * ReadyForQuery outside a transaction block: portals are gone but for cursors WITH HOLD of
 * transactions that committed; DDL is there for everyone, or was undone.
 */
export function transactionEnded(state: State): void {
  const failed = state.transactionFailed
  state.transactionFailed = false
  state.hidesTexts = false
  endPortals(state, failed)
  if (state.pathTouched) {
    // What is in flight behind this may have touched it again.
    state.pathTouched = state.queue.length > 1
    state.facts.pathMayHaveChanged()
  }
  if (state.ddlDone) {
    state.ddlDone = false
    state.catalogStale = true
    state.options.catalog.outdate()
    state.overlay = null
    // The shared catalog has nothing of what is temporary.
    state.overlayStale = state.temporaryObjects || state.facts.temporarySchema !== null
  }
}

/** Portals end with their transaction, but for cursors WITH HOLD of one that committed. */
function endPortals(state: State, failed: boolean): void {
  state.portals.clear((portal) => {
    if (!portal.hold || (failed && !portal.committed)) return true
    portal.committed = true
    return false
  })
}

function changesNames(effect: SessionEffect): boolean {
  switch (effect.kind) {
    case 'prepare':
    case 'deallocate':
    case 'declare':
    case 'close':
    case 'discard':
    case 'unseen':
      return true
    default:
      return false
  }
}

function changesTransaction(effect: SessionEffect): boolean {
  switch (effect.kind) {
    case 'begin':
    case 'commit':
    case 'rollback':
    case 'rollback_to':
    case 'prepare_transaction':
    case 'unseen':
      return true
    default:
      return false
  }
}

function endsTransaction(effect: SessionEffect): boolean {
  return effect.kind === 'commit' || effect.kind === 'rollback' || effect.kind === 'rollback_to'
}

const pathSettings = new Set(['search_path', 'role', 'session_authorization'])

function changesPath(effect: SessionEffect): boolean {
  if (effect.kind === 'set') return pathSettings.has(effect.name)
  if (effect.kind === 'reset') return effect.name === null || pathSettings.has(effect.name)
  return effect.kind === 'discard' && effect.target === 'all'
}
