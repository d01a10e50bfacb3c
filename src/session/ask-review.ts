/**
 * What a reviewer sees of a statement beside its text, read on the session's own connection before
 * it is held: settings, the open transaction and its locks, the server's estimate. Only SHOW is sent
 * where a snapshot must not be taken yet; EXPLAIN only where planning can run nobody's code, because
 * a function that claims to be immutable runs when a statement is planned.
 */
import type { Bound, ReviewFacts } from '../approval/approval.ts'
import type { Admitted, Refusal } from '../gate/gate.ts'
import { estimateOf, explain, unknownEstimate, unplannable } from './estimate.ts'
import { ask } from './own-messages.ts'
import type { Portal } from './registry.ts'
import type { State, Wait } from './state.ts'

/**
 * Settings that decide what a text means, or what a value is written as where it is cast to text; an
 * approval binds them. Not `extra_float_digits`: drivers set it, each to one of several values that mean the same.
 */
const meaningful = [
  'DateStyle',
  'IntervalStyle',
  'TimeZone',
  'timezone_abbreviations',
  'lc_monetary',
  'lc_numeric',
  'lc_time',
  'default_text_search_config',
  'bytea_output',
  'xmlbinary',
  'session_replication_role',
  'transform_null_equals',
  'row_security',
  'array_nulls',
  'xmloption',
] as const

/** Settings that people change, of which the value before is shown. All exist since PostgreSQL 14. */
const comparable = new Set([
  ...['work_mem', 'maintenance_work_mem', 'statement_timeout', 'lock_timeout', 'temp_buffers'],
  ...['idle_in_transaction_session_timeout', 'default_transaction_isolation', 'enable_seqscan'],
  ...['default_transaction_read_only', 'synchronous_commit', 'max_parallel_workers_per_gather'],
  ...['check_function_bodies', 'client_min_messages', 'extra_float_digits', 'bytea_output'],
])

/** The transaction's start and its locks on relations that are not the system's. */
const locksQuery = `SELECT pg_catalog.json_build_object(
  'started', pg_catalog.to_json(pg_catalog.now()),
  'open_ms', 1000::pg_catalog.float8 OPERATOR(pg_catalog.*) (pg_catalog.date_part('epoch'::pg_catalog.text,
    pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.-) pg_catalog.date_part('epoch'::pg_catalog.text, pg_catalog.now())),
  'locks', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'relation', l.relation::pg_catalog.regclass::pg_catalog.text, 'mode', l.mode))
    FROM (SELECT k.relation, k.mode FROM pg_catalog.pg_locks k
      WHERE k.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
        AND k.locktype OPERATOR(pg_catalog.=) 'relation'::pg_catalog.text
        AND k.relation OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
      LIMIT 200) l))::pg_catalog.text`

const explainable = new Set(['select', 'insert', 'update', 'delete', 'merge'])

type Step = 'settings' | 'transaction' | 'estimate' | 'done'

/** Gathers in steps; each may be a wait. */
export class Review {
  readonly #state: State
  readonly #statements: readonly Admitted[]
  readonly #portal: Portal | null
  #step: Step = 'settings'
  /** By the setting's name in lower case. */
  readonly #shown = new Map<string, string>()
  #started: string | null = null
  /** Since then, by the server's clock. */
  #openMs = 0
  #locks: unknown = null
  /** What the server said against the statement itself. */
  error: Refusal | null = null

  constructor(state: State, statements: readonly Admitted[], portal: Portal | null) {
    this.#state = state
    this.#statements = statements
    this.#portal = portal
  }

  /** The next question to the server; null when everything is known. */
  next(): Wait | null {
    while (this.#step !== 'done' && this.error === null) {
      const wait = this.#ask()
      if (wait !== null) return wait
    }
    return null
  }

  /** The values that an approval binds. */
  get settings(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      meaningful.map((name) => [name, this.#shown.get(name.toLowerCase()) ?? '']),
    )
  }

  /** How long the server lets this connection wait from now on; null for ever. */
  get idleMsMax(): number | null {
    const limit = (name: string): number => milliseconds(this.#shown.get(name) ?? '0')
    if (!this.#inTransaction) return limit('idle_session_timeout') || null
    // Between messages of a pipeline the server is not idle; where a transaction is open it is.
    const idle = limit('idle_in_transaction_session_timeout') || Infinity
    const whole = limit('transaction_timeout') || Infinity
    const least = Math.min(idle, Math.max(0, whole - this.#transactionMs))
    return Number.isFinite(least) ? least : null
  }

  /** How long the transaction is open, at most. */
  get #transactionMs(): number {
    const { options, transaction, transactionSinceUs } = this.#state
    if (transaction !== 'transaction') return this.#openMs
    const heardMs = (options.clock.monotonicUs() - transactionSinceUs) / 1_000
    return Math.max(this.#openMs, heardMs)
  }

  /** For the reviewer. */
  facts(bound: Bound): ReviewFacts {
    const { facts, estimate, knownTransaction, segmentOpen } = this.#state
    return {
      statements: this.#statements.map(shownStatement),
      estimate: estimate === unknownEstimate ? null : estimate,
      settings: this.#statements.flatMap(({ analysis }) =>
        analysis.access.settings
          .filter(({ action }) => action !== 'show')
          .slice(0, 100)
          .map(({ name, value }) => ({
            name: name ?? '(not known)',
            from: this.#shown.get((name ?? '').toLowerCase()) ?? null,
            to: value,
          })),
      ),
      transaction: {
        state: knownTransaction,
        pipeline: segmentOpen,
        isolation: this.#shown.get('transaction_isolation') ?? null,
        started: this.#started,
        locks: this.#locks,
        idle_limit_ms: this.idleMsMax,
      },
      application_name: facts.applicationName,
      search_path: facts.namedPath,
      current_role: bound.currentRole,
      catalog: bound.catalog,
    }
  }

  get #inTransaction(): boolean {
    return this.#state.transaction === 'transaction' || this.#state.segmentOpen
  }

  /** A snapshot taken now changes nothing for the statement: each has its own. */
  get #mayTakeSnapshot(): boolean {
    return (this.#shown.get('transaction_isolation') ?? '').startsWith('read ')
  }

  #ask(): Wait | null {
    switch (this.#step) {
      case 'settings':
        this.#step = 'transaction'
        return this.#show(this.#names())
      case 'transaction':
        this.#step = 'estimate'
        return this.#inTransaction && this.#mayTakeSnapshot ? this.#askLocks() : null
      case 'estimate':
        this.#step = 'done'
        return this.#explainable === null ? null : this.#askEstimate(this.#explainable)
      case 'done':
        return null
    }
  }

  #names(): readonly string[] {
    const changed = this.#statements.flatMap(({ analysis }) =>
      analysis.access.settings.flatMap(({ name }) =>
        name !== null && comparable.has(name.toLowerCase()) ? [name] : [],
      ),
    )
    const { serverVersion } = this.#state.catalog
    const limits = ['idle_in_transaction_session_timeout', 'idle_session_timeout']
    if (serverVersion >= 170_000) limits.push('transaction_timeout')
    return [
      ...new Set([
        'search_path',
        'role',
        'transaction_isolation',
        ...meaningful,
        ...limits,
        ...changed,
      ]),
    ]
  }

  #show(names: readonly string[]): Wait {
    const state = this.#state
    const request = ask(
      state,
      names.map((name) => `SHOW ${name}`),
    )
    const until = request.outcome.then((outcome) => {
      if (outcome !== 'done') {
        this.#fail(request.error)
        return
      }
      for (const [index, name] of names.entries()) {
        const value = request.rows[index]?.[0]?.toString('utf8')
        if (value === undefined) continue
        this.#shown.set(name.toLowerCase(), value)
        if (name === 'search_path' || name === 'role') state.facts.probed(name, value)
      }
    })
    return { name: 'probe', until }
  }

  #askLocks(): Wait {
    const request = ask(this.#state, [locksQuery])
    const until = request.outcome.then((outcome) => {
      if (outcome !== 'done') {
        this.#fail(request.error)
        return
      }
      const answer = JSON.parse(request.rows[0]?.[0]?.toString('utf8') ?? '{}') as {
        readonly started?: string
        readonly open_ms?: number
        readonly locks?: unknown
      }
      this.#started = answer.started ?? null
      this.#openMs = answer.open_ms ?? 0
      this.#locks = answer.locks ?? []
    })
    return { name: 'probe', until }
  }

  /** Planning folds what is declared immutable and estimates with what is stable: only PostgreSQL's own. */
  get #explainable(): Admitted | null {
    const [first] = this.#statements
    if (first === undefined || this.#statements.length > 1) return null
    if (this.#state.estimate !== null || !explainable.has(first.analysis.kind)) return null
    if (this.#inTransaction && !this.#mayTakeSnapshot) return null
    const { complete, functions } = first.analysis.access
    const harmless = functions.every(
      ({ schema, class: kind }) =>
        schema === 'pg_catalog' && (kind === 'total' || kind === 'partial' || kind === 'volatile'),
    )
    return complete && harmless ? first : null
  }

  #askEstimate({ statement, members }: Admitted): Wait {
    const state = this.#state
    const request = explain(state, statement.text, this.#portal, members)
    const until = request.outcome.then((outcome) => {
      if (outcome === 'done') state.estimate = estimateOf(request.rows)
      else if (request.refusal !== null) this.error = request.refusal
      else if (request.error !== null) this.error = unplannable(state, request.error)
      else this.#fail(null)
    })
    return { name: 'estimate', until }
  }

  /** The statement could not run either: the client gets the server's own words. */
  #fail(error: { readonly sqlstate: string; readonly message: string } | null): void {
    const message = error?.message ?? 'what a reviewer needs to know could not be read'
    this.error = this.#state.fault('denied', message, { sqlstate: error?.sqlstate ?? '58000' })
  }
}

function shownStatement({ statement, analysis, decision, plan }: Admitted): object {
  const masks =
    plan.kind !== 'masked'
      ? []
      : plan.outputs.flatMap((output, index) =>
          output.kind === 'pass'
            ? []
            : [
                {
                  index,
                  output: analysis.outputs?.[index]?.name ?? String(index),
                  kind: output.mask.kind,
                  columns: output.columns,
                },
              ],
        )
  const { kind, access } = analysis
  const { action, rule, reason } = decision
  return { text: statement.text, kind, action, rule, reason, access, masks }
}

/** A duration as SHOW prints it: 0, 500ms, 30s, 5min, 2h, 1d. */
function milliseconds(text: string): number {
  const units: Readonly<Record<string, number>> = {
    us: 0.001,
    '': 1,
    ms: 1,
    s: 1_000,
    min: 60_000,
    h: 3_600_000,
    d: 86_400_000,
  }
  const match = /^(\d+) ?(us|ms|s|min|h|d)?$/.exec(text)
  return match === null ? 0 : Number(match[1]) * (units[match[2] ?? ''] ?? 1)
}
